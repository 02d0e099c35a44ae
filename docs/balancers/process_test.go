package balancers

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/loopback"
)

// The test binary is also the application: two processes of it are the servers
// behind the balancer, each with sessions in its own memory.
const isServer = "SESSION_TEST_IS_SERVER"

func TestMain(m *testing.M) {
	if name := os.Getenv(isServer); name != "" {
		if err := serveAs(name, os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// serveAs is the application. It ends with its standard input, and so with the
// test. Its pages say who answered, and whom the session belongs to.
func serveAs(name, addr, cookie, affinity string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	cfg := session.Config{Cookie: session.Cookie{Name: cookie}}
	if affinity != "" {
		cfg.Affinity = session.Affinity{Server: name, Cookie: affinity}
	}
	m, err := session.New(cfg)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login(r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s %s", name, r.FormValue("user"))
	})
	var waiting atomic.Int32
	mux.HandleFunc("/wait/{server}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("server") == name { // whichever comes next does not
			waiting.Add(1)
			<-r.Context().Done()
		}
		fmt.Fprintf(w, "%s %s", name, session.FromContext(r.Context()).User())
	})
	mux.HandleFunc("GET /waiting", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, waiting.Load()) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", name, session.FromContext(r.Context()).User())
	})
	l, err := listen(addr)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, m.Handler(mux))
}

// listen waits a while for the port of a server that was killed.
func listen(addr string) (l net.Listener, err error) {
	for range 600 {
		if l, err = net.Listen("tcp", addr); err == nil {
			return l, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// A server is one process of the application, always on the same port.
type server struct {
	t          testing.TB
	name, addr string
	settings   []string // the names of its cookies
	cmd        *exec.Cmd
}

func startServer(t testing.TB, name, cookie, affinity string) *server {
	t.Helper()
	s := &server{t: t, name: name, addr: loopback.Addr(t), settings: []string{cookie, affinity}}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	path, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(path, append([]string{s.addr}, s.settings...)...)
	s.cmd.Env, s.cmd.Stderr = append(os.Environ(), isServer+"="+s.name), os.Stderr
	if _, err = s.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		s.t.Fatalf("server %s did not start: %v", s.name, err)
	}
}

// kill is kill -9.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// find returns the path of a program that Debian keeps in a package of its name.
func find(t testing.TB, program string) string {
	t.Helper()
	for _, name := range []string{program, filepath.Join("/usr/sbin", program)} { // sbin is not on every user's PATH
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing := fmt.Sprintf("this test needs %s: apt-get install %s", program, program)
	if os.Getenv("SESSION_REQUIRE_BALANCERS") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// A program is a balancer that runs, and ends with the test.
type program struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  string        // its file
	done chan struct{} // closed when it has ended
}

func startProgram(t testing.TB, dir, path string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(path, args...), log: filepath.Join(dir, "log"), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir) // Caddy writes there
	endWithParent(p.cmd)
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Errorf("%s did not end when it was asked to", p.cmd.Path)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if said, _ := os.ReadFile(p.log); p.t.Failed() {
		p.t.Logf("the end of what %s said:\n%s", p.cmd.Path, said[max(0, len(said)-4000):])
	}
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// eventually waits for something that has no event of its own.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 1500 {
		if is() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("waited 30 seconds for %s", what)
}
