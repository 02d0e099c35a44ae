package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/loopback"
)

// An Action is what a [Proxy] does with one command. A positive Action is a
// delay: see [Delay].
type Action time.Duration

const (
	// Pass hands the command to the server and the reply to the client.
	Pass Action = -iota
	// DropReply lets the server execute the command, reads its whole reply, and
	// closes the client's connection instead of handing it on. What the client
	// pipelined behind the command is executed as well.
	DropReply
	// Refuse closes the client's connection before the server sees the command.
	Refuse
	// BlackHole swallows the command: the server never sees it, the client's
	// connection stays open, and nothing is answered on it any more.
	BlackHole
	// HoldCommand waits for [Proxy.Release] before the server sees the command.
	HoldCommand
	// HoldReply lets the server execute the command and waits for [Proxy.Release]
	// before the client sees the reply.
	HoldReply
	// HalfCommand hands the server half of the command and closes both connections.
	HalfCommand
	// HalfReply lets the server execute the command, hands on half of the reply, and
	// closes the client's connection.
	HalfReply
)

// Delay is the Action of handing on the reply only after d, which is above 0.
func Delay(d time.Duration) Action { return Action(d) }

// A Proxy stands between clients and one server. It understands as much of RESP
// as it needs to tell commands and replies apart. Commands that set up a
// connection (HELLO, AUTH, SELECT, CLIENT, READONLY) are neither counted nor
// decided upon.
type Proxy struct {
	Addr string // host:port for the client

	t        testing.TB
	upstream string

	mu       sync.Mutex
	rule     func(cmd []string) Action
	listener net.Listener
	conns    map[net.Conn]bool
	silent   bool
	commands []string
	trips    int
	dials    int
	gate     chan struct{} // closed by Release
	held     chan []string
	wg       sync.WaitGroup
}

// StartProxy runs a proxy before upstream, the address or the unix socket of a
// server without TLS. It passes everything until [Proxy.Decide] says otherwise.
func StartProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	p := &Proxy{
		t: t, upstream: upstream,
		conns: make(map[net.Conn]bool),
		gate:  make(chan struct{}),
		held:  make(chan []string, 1024),
	}
	p.Addr = loopback.Addr(t)
	p.Restore()
	t.Cleanup(func() {
		p.Down()
		p.Release()
		p.wg.Wait()
	})
	return p
}

// Decide has rule choose the Action for each command from now on, nil for Pass.
// cmd is the command as sent, its name in upper case. Rule is called by one
// goroutine at a time, and may call no method of p.
func (p *Proxy) Decide(rule func(cmd []string) Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// RoundTrips returns how often, since [Proxy.Reset], a client sent something
// after it had every answer it waited for. A pipeline is one round trip, provided
// that it fits into 64 KiB.
func (p *Proxy) RoundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips
}

// Commands returns the names of the commands that clients sent since
// [Proxy.Reset], in upper case and in the order of their arrival.
func (p *Proxy) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.commands)
}

// Connections returns how many connections clients opened since [Proxy.Reset].
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// Reset starts the counts again.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands, p.trips, p.dials = nil, 0, 0
}

// Held delivers each command when it begins to wait for Release.
func (p *Proxy) Held() <-chan []string { return p.held }

// Release lets every command and reply go that is held now.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.gate)
	p.gate = make(chan struct{})
}

// Down closes every connection and refuses new ones, until Restore.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.listener.Close()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Silence accepts connections but answers nothing on any, old or new, until
// Restore.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
}

// Restore ends Down and Silence. Connections that were silenced are closed.
func (p *Proxy) Restore() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	if p.silent {
		p.silent = false
		for c := range p.conns {
			_ = c.Close()
		}
	}
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.listener = l
	p.wg.Go(func() { p.accept(l) })
}

func (p *Proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !p.track(c, l) {
			_ = c.Close()
			return
		}
		p.wg.Go(func() {
			defer p.forget(c)
			p.serve(c)
		})
	}
}

// track refuses a connection that was accepted while Down closed the others.
func (p *Proxy) track(c net.Conn, l net.Listener) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	p.dials++
	return p.listener == l
}

func (p *Proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// A relay is one client's connection and the one to the server behind it.
type relay struct {
	p          *Proxy
	client     net.Conn
	fromClient *bufio.Reader
	server     net.Conn
	fromServer *bufio.Reader
	dropped    bool // a reply was lost: execute the rest, answer nothing
	counted    bool // the current round trip
}

func (p *Proxy) serve(client net.Conn) {
	network := "tcp"
	if strings.HasPrefix(p.upstream, "/") {
		network = "unix"
	}
	server, err := net.Dial(network, p.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	r := &relay{p: p, client: client, server: server,
		fromClient: bufio.NewReaderSize(client, 64<<10), fromServer: bufio.NewReader(server)}
	for {
		// One command after the other, so that each can have an Action of its own.
		// The client sees no difference: it has sent them all already.
		if r.fromClient.Buffered() == 0 {
			if r.dropped {
				return
			}
			r.counted = false
		}
		raw, args, err := readCommand(r.fromClient)
		if err != nil || r.handle(raw, args) != nil {
			return
		}
	}
}

func (r *relay) handle(raw []byte, args []string) error {
	action, gate := r.p.note(r, args)
	switch action {
	case Refuse:
		return io.EOF
	case BlackHole:
		_, _ = io.Copy(io.Discard, r.fromClient)
		return io.EOF
	case HalfCommand:
		_, _ = r.server.Write(raw[:len(raw)/2])
		return io.EOF
	case HoldCommand:
		r.p.held <- args
		<-gate
	}
	if _, err := r.server.Write(raw); err != nil {
		return err
	}
	reply, err := readReply(r.fromServer)
	if err != nil {
		return err
	}
	switch {
	case action == DropReply:
		r.dropped = true
	case action == HalfReply:
		_, _ = r.client.Write(reply[:len(reply)/2])
		return io.EOF
	case action == HoldReply:
		r.p.held <- args
		<-gate
	case action > 0:
		time.Sleep(time.Duration(action))
	}
	if r.dropped {
		return nil
	}
	_, err = r.client.Write(reply)
	return err
}

// note counts a command and asks the rule about it.
func (p *Proxy) note(r *relay, args []string) (Action, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		return BlackHole, p.gate
	}
	switch args[0] {
	case "HELLO", "AUTH", "SELECT", "CLIENT", "READONLY":
		return Pass, p.gate
	}
	if !r.counted {
		r.counted = true
		p.trips++
	}
	p.commands = append(p.commands, args[0])
	if p.rule == nil {
		return Pass, p.gate
	}
	return p.rule(args), p.gate
}

// readCommand reads one command, an array of bulk strings.
func readCommand(r *bufio.Reader) (raw []byte, args []string, err error) {
	tee := &teeReader{r: r}
	line, err := tee.line()
	if err != nil {
		return nil, nil, err
	}
	n, err := strconv.Atoi(line[1:])
	if line[0] != '*' || err != nil || n < 1 {
		return nil, nil, fmt.Errorf("redistest: %q does not begin a command", line)
	}
	for range n {
		line, err := tee.line()
		if err != nil {
			return nil, nil, err
		}
		size, err := strconv.Atoi(line[1:])
		if line[0] != '$' || err != nil {
			return nil, nil, fmt.Errorf("redistest: %q does not begin an argument", line)
		}
		arg, err := tee.bytes(size + 2)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, string(arg[:size]))
	}
	args[0] = strings.ToUpper(args[0])
	return tee.buf.Bytes(), args, nil
}

// readReply reads one whole reply of RESP2 or RESP3, and what was pushed
// before it.
func readReply(r *bufio.Reader) ([]byte, error) {
	tee := &teeReader{r: r}
	for {
		kind, err := tee.value()
		if err != nil || kind != '>' {
			return tee.buf.Bytes(), err
		}
	}
}

// A teeReader keeps what it read.
type teeReader struct {
	r   *bufio.Reader
	buf bytes.Buffer
}

func (t *teeReader) line() (string, error) {
	line, err := t.r.ReadString('\n')
	t.buf.WriteString(line)
	line = strings.TrimRight(line, "\r\n")
	if err == nil && line == "" {
		err = io.ErrUnexpectedEOF
	}
	return line, err
}

func (t *teeReader) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(t.r, b)
	t.buf.Write(b)
	return b, err
}

func (t *teeReader) value() (kind byte, err error) {
	line, err := t.line()
	if err != nil {
		return 0, err
	}
	kind = line[0]
	n := 0
	if strings.IndexByte("$=!*~>%|", kind) >= 0 {
		if n, err = strconv.Atoi(line[1:]); err != nil || n < 0 {
			return kind, err // n < 0 is RESP2's null
		}
	}
	switch kind {
	case '$', '=', '!':
		_, err = t.bytes(n + 2)
	case '*', '~', '>':
		err = t.values(n)
	case '%':
		err = t.values(2 * n)
	case '|': // attributes, and the value that they belong to
		if err = t.values(2 * n); err == nil {
			_, err = t.value()
		}
	}
	return kind, err
}

func (t *teeReader) values(n int) error {
	for range n {
		if _, err := t.value(); err != nil {
			return err
		}
	}
	return nil
}
