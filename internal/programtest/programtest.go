// Package programtest builds and runs the example programs the way their users
// do: as processes of their own, spoken to over HTTP.
package programtest

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build compiles the program in the test's directory and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.exe")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

const isProgram = "SESSION_TEST_IS_PROGRAM"

// Main is for the TestMain of a package main. It lets the test binary be the
// program in processes of [Self]: nothing is built for each test, and -race looks
// into the program too.
func Main(m *testing.M, main func()) {
	if os.Getenv(isProgram) != "" {
		main()
		os.Exit(0)
	}
	_ = os.Setenv(isProgram, "1") // for the children
	os.Exit(m.Run())
}

// Self is the path of the test binary, for packages that use [Main].
func Self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A Process is a program that runs, and ends with the test.
type Process struct {
	URL string // as the program printed it

	t    testing.TB
	cmd  *exec.Cmd
	logs lockedBuffer
	done sync.Once
	err  error
}

// Start runs the program on a free port of its own choice and waits for its URL.
func Start(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(path, append([]string{"-addr", "127.0.0.1:0"}, args...)...)}
	p.cmd.Env = withoutStore(os.Environ())
	p.cmd.Stderr = &p.logs
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the program's log:\n%s", p.Log())
		}
	})
	timer := time.AfterFunc(time.Minute, p.Kill)
	defer timer.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	_, p.URL, _ = strings.Cut(strings.TrimSpace(line), "Listening on ")
	if err != nil || p.URL == "" {
		t.Fatalf("the program printed %q (%v) instead of its URL; its log:\n%s", line, err, p.Log())
	}
	return p
}

// withoutStore keeps the tester's own SESSION_STORE out of the test.
func withoutStore(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "SESSION_STORE=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// Log is what the program has written to its standard error.
func (p *Process) Log() string { return p.logs.String() }

// Stop asks the program to end, as a terminal or a service manager would, and
// fails the test if it does not do so cleanly.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.wait(); err != nil {
		p.t.Errorf("after SIGTERM: %v; want a clean end", err)
	}
}

// Kill ends the program without warning.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.wait()
}

func (p *Process) wait() error {
	p.done.Do(func() { p.err = p.cmd.Wait() })
	return p.err
}

// A Visitor is a browser: it keeps cookies and follows redirects.
type Visitor struct {
	http.Client
	t testing.TB
}

// NewVisitor returns a visitor without cookies.
func NewVisitor(t testing.TB) *Visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &Visitor{t: t}
	v.Jar, v.Timeout = jar, time.Minute
	// A transport of its own, so that one visitor's clicks go out in parallel and
	// no connection outlives the test.
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	v.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	return v
}

// Page is what a visitor got in the end.
type Page struct {
	Status int
	Header http.Header
	Body   string
}

// Open follows a link.
func (v *Visitor) Open(url string) Page {
	v.t.Helper()
	return v.page(v.Get(url))
}

// Submit sends a form, names and values in turn.
func (v *Visitor) Submit(to string, fields ...string) Page {
	v.t.Helper()
	form := make(url.Values)
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return v.page(v.PostForm(to, form))
}

func (v *Visitor) page(res *http.Response, err error) Page {
	v.t.Helper()
	if err != nil {
		v.t.Error(err) // not Fatal: visitors may click in goroutines of their own
		return Page{}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Error(err)
	}
	return Page{res.StatusCode, res.Header, string(body)}
}

// Leave closes the visitor's idle connections. A program that is asked to end
// waits for those that were opened and not used.
func (v *Visitor) Leave() { v.CloseIdleConnections() }

// Cookies are those that the visitor would send to a URL.
func (v *Visitor) Cookies(to string) []*http.Cookie {
	u, err := url.Parse(to)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.Jar.Cookies(u)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
