package redistest

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// A Link is a stretch of network before one server: it carries bytes, whatever
// they say, until it is cut. ([Proxy] is for commands, and knows what they are.)
type Link struct {
	Addr string // host:port for those who connect

	upstream string
	listener net.Listener

	mu    sync.Mutex
	whole *sync.Cond
	cut   bool
	ended bool
	conns []net.Conn
	wg    sync.WaitGroup
}

// StartLink runs a Link to the server at upstream.
func StartLink(t testing.TB, upstream string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Addr: listener.Addr().String(), upstream: upstream, listener: listener}
	l.whole = sync.NewCond(&l.mu)
	l.wg.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// Cut lets nothing through any more, in either direction, on connections that
// are there and on those to come. Neither end is told.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
}

// Restore ends Cut. Connections from before it are closed, with what they held.
func (l *Link) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
	l.hangUp()
	l.whole.Broadcast()
}

func (l *Link) close() {
	_ = l.listener.Close()
	l.mu.Lock()
	l.ended = true
	l.hangUp()
	l.whole.Broadcast()
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Link) hangUp() {
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.carry(near) })
	}
}

func (l *Link) carry(near net.Conn) {
	defer near.Close()
	if !l.passes() || !l.hold(near) {
		return
	}
	far, err := net.Dial("tcp", l.upstream)
	if err != nil {
		l.drop(near)
		return
	}
	defer far.Close()
	if !l.hold(far) {
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{far, near}, {near, far}} {
		l.wg.Go(func() {
			_, _ = io.Copy(gate{way[0], l}, way[1])
			done <- struct{}{}
		})
	}
	<-done
	l.drop(near, far)
}

// hold notes a connection for Restore to close.
func (l *Link) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return !l.ended
}

func (l *Link) drop(ended ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range ended {
		_ = c.Close()
		l.conns = slices.DeleteFunc(l.conns, func(other net.Conn) bool { return other == c })
	}
}

// passes waits until the link is whole, and reports whether it still is there.
func (l *Link) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.cut && !l.ended {
		l.whole.Wait()
	}
	return !l.ended
}

// A gate holds what is written to it while the link is cut.
type gate struct {
	net.Conn
	l *Link
}

func (g gate) Write(b []byte) (int, error) {
	if !g.l.passes() {
		return 0, net.ErrClosed
	}
	return g.Conn.Write(b)
}
