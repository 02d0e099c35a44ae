package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// needsRedis skips a test where there is none.
func needsRedis(t *testing.T) {
	t.Helper()
	if _, err := redisBinary(); err == nil {
		return
	}
	const missing = "this test needs redis-server or valkey-server: apt-get install redis-server"
	if os.Getenv("SESSION_REQUIRE_REDIS") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// A guest is somebody without a browser, and the program that they visit.
type guest struct {
	*programtest.Process
	*programtest.Visitor
	t *testing.T
}

func open(t *testing.T, args ...string) *guest {
	t.Helper()
	return &guest{start(t, args...), programtest.NewVisitor(t), t}
}

// start runs the program until the end of the test, which asks it to end rather than
// kill it, so that it takes its files along.
func start(t *testing.T, args ...string) *programtest.Process {
	t.Helper()
	p := programtest.Start(t, programtest.Self(t), args...)
	t.Cleanup(p.Stop)
	return p
}

func (g *guest) press(path string, fields ...string) programtest.Page {
	g.t.Helper()
	page := g.Submit(g.URL+path, fields...)
	if page.Status != http.StatusOK {
		g.t.Errorf("%s: %d\n%s", path, page.Status, page.Body)
	}
	return page
}

// figures are those of the next event.
func (g *guest) figures() map[string]string {
	g.t.Helper()
	res, err := g.Get(g.URL + "events")
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	var live map[string]string
	b := make([]byte, 64<<10)
	for n := 0; n < len(b); {
		more, err := res.Body.Read(b[n:])
		n += more
		if data, _, whole := strings.Cut(string(b[:n]), "\n\n"); whole {
			if err := json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), &live); err != nil {
				g.t.Fatal(err)
			}
			return live
		}
		if err != nil {
			break
		}
	}
	g.t.Fatalf("no event in %q", b)
	return nil
}

// await polls the figures.
func (g *guest) await(name, want string) {
	g.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := g.figures()[name]
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s is %q, want %q", name, got, want)
		}
	}
}

func (g *guest) says(page programtest.Page, text string, not ...string) {
	g.t.Helper()
	if !strings.Contains(page.Body, text) {
		g.t.Errorf("the page does not say %q:\n%s", text, page.Body)
	}
	for _, text := range not {
		if strings.Contains(page.Body, text) {
			g.t.Errorf("the page says %q:\n%s", text, page.Body)
		}
	}
}

// Without Redis the page says what to install, and memory still works.
func TestWithoutRedisThePageNamesThePackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	g := open(t, "-visitors", "2")
	g.says(g.press("login", "user", "alice"), "apt-get install redis-server", "No answer")
	g.says(g.Open(g.URL), `id="user">alice`, `value="memory" class="card way chosen" aria-pressed="true" disabled`)
	g.says(g.press("control/way", "way", "redis"), "There is no Redis on this machine")
	g.says(g.press("control/redis/kill"), "There is no Redis on this machine")
	g.says(g.Open(g.URL), `id="user">alice`) // the refusal changed nothing
	if got := g.figures()["memory.logouts"]; got != "0" {
		t.Errorf("%s logouts, want 0", got)
	}
}

// A server that is killed takes its visitors' sessions along, and one that is
// started again gets visitors.
func TestButtonsKillStopAndStartServers(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	g := open(t, "-visitors", "10")
	g.await("A.state", "up")
	g.press("control/kill", "server", "A")
	g.await("A.state", "down")
	g.press("control/start", "server", "A")
	g.await("A.state", "up")
	g.press("control/stop", "server", "B")
	g.await("B.state", "down")
	if got := g.figures()["memory.did"]; got != "1× stop, 1× kill -9" {
		t.Errorf("the page says that one did %q", got)
	}
	g.says(g.press("control/kill", "server", "Z"), "there is no server of that name")
	for _, name := range []string{"A", "C"} {
		g.press("control/kill", "server", name)
	}
	g.await("C.state", "down")
	g.says(g.Open(g.URL), "No server could look you up", `id="nobody"`)
	if got := g.Submit(g.URL+"login", "user", "alice").Status; got != http.StatusServiceUnavailable {
		t.Errorf("a login without any server: %d, want 503", got)
	}
}

// Only pages of the program itself may press its buttons, and only this machine
// sees it.
func TestButtonsAreForThisPageOnly(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	g := open(t, "-visitors", "0")
	for header, value := range map[string]string{"Origin": "https://elsewhere.example", "Host": "elsewhere.example"} {
		req, err := http.NewRequest(http.MethodPost, g.URL+"control/kill", strings.NewReader("server=A"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header, value)
		if header == "Host" {
			req.Host = value
		}
		res, err := g.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode/100 != 4 {
			t.Errorf("%s: %s was answered %d, want a refusal", header, value, res.StatusCode)
		}
	}
	if got := g.figures()["A.state"]; got != "up" {
		t.Errorf("server A is %s, want up", got)
	}
	out, err := exec.Command(programtest.Self(t), "-addr", "0.0.0.0:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "-addr has to be an address of this machine") {
		t.Errorf("-addr 0.0.0.0:0: %v %s", err, out)
	}
}

// Nothing that it started outlives the program: not its end, and not its death.
func TestEverythingEndsWithTheProgram(t *testing.T) {
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("whose processes run is read from Linux's /proc")
	}
	for name, end := range map[string]func(*programtest.Process){"SIGTERM": (*programtest.Process).Stop, "SIGKILL": (*programtest.Process).Kill} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			p := programtest.Start(t, programtest.Self(t), "-visitors", "2")
			started := 3 + 1 // servers and the program
			if _, err := redisBinary(); err == nil {
				started += 6
			}
			if got := processesIn(dir); got != started {
				t.Errorf("%d processes, want %d", got, started)
			}
			end(p)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := waitUntil(ctx, "all processes to end", func() bool { return processesIn(dir) == 0 }); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); name == "SIGTERM" && len(left) > 0 {
				t.Errorf("files are left: %v", left)
			}
		})
	}
}

// processesIn counts processes whose TMPDIR is dir, or that work below it.
func processesIn(dir string) (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		environ, _ := os.ReadFile(p + "/environ")
		cwd, _ := os.Readlink(p + "/cwd")
		if strings.Contains(string(environ), "TMPDIR="+dir+"\x00") || strings.HasPrefix(cwd, dir) {
			n++
		}
	}
	return n
}
