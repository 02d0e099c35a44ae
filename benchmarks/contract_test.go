package benchmarks

import (
	"os/exec"
	"testing"

	"github.com/sojourn-go/session/internal/redistest"
)

// testEnv is an Env for peer, with a server of the test's own if it needs one.
func testEnv(t testing.TB, peer Peer) Env {
	t.Helper()
	if peer.Store != "redis" {
		return Env{}
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	return Env{Redis: redistest.Start(t, redistest.Config{}).Addr}
}

func open(t testing.TB, peer Peer) *App {
	t.Helper()
	app, err := peer.Open(testEnv(t, peer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	return app
}

const none = "||false|0|-6795364578871345152" // what Dump writes without a session

// All peers do the same work, or the table in peer.go says that they do not.
func TestContract(t *testing.T) {
	for _, peer := range Peers {
		t.Run(peer.Name(), func(t *testing.T) {
			app := open(t, peer)
			c := app.NewClient()
			see := func(cookie string) string {
				c.Do(Dump, cookie)
				return c.Body()
			}

			c.Do(Plain, "")
			if got := c.SetsCookie(); got != peer.StoresAnonymous {
				t.Errorf("a visitor without a session is given one: %v, the table says %v", got, peer.StoresAnonymous)
			}
			c.Do(Visit, "")
			visited := c.Cookie("")
			if visited == "" {
				t.Fatal("the first value did not begin a session")
			}

			c.Do(Login, visited)
			in := c.Cookie(visited)
			if got := see(in); got != want {
				t.Fatalf("five values after the login: %q, want %q", got, want)
			}
			checkToken(t, peer, "login", visited, in, see)

			c.Do(Write, in)
			if got := see(in); got != dump(email, note, true, 2, seen) {
				t.Errorf("after a write: %q", got)
			}

			c.Do(Renew, in)
			renewed := c.Cookie(in)
			if got := see(renewed); got != dump(email, note, true, 2, seen) {
				t.Errorf("after a renewal: %q", got)
			}
			checkToken(t, peer, "renewal", in, renewed, see)

			c.Do(Logout, renewed)
			if cookie := c.Cookie(renewed); cookie != "" {
				t.Errorf("after the logout the browser keeps %q", cookie)
			}
			// gin leaves the record of a session that it cleared, but empty.
			if got := see(renewed); got != none {
				t.Errorf("after the logout the token opens %q", got)
			}
		})
	}
}

func checkToken(t *testing.T, peer Peer, after, old, now string, see func(string) string) {
	t.Helper()
	if same := old == now; same && !peer.KeepsToken {
		t.Errorf("the %s kept the token", after)
	}
	got := see(old)
	if peer.KeepsToken && got == none {
		t.Errorf("the %s changed the token, the table says that it does not", after)
	}
	if !peer.KeepsToken && got != none {
		t.Errorf("after the %s the old token opens %q", after, got)
	}
}

// What NeverLooks says is seen from what an unused session costs: with one Redis
// command a request it is looked up, with none it is not.
func TestContractLooks(t *testing.T) {
	for _, peer := range Peers {
		if peer.Store != "redis" {
			continue
		}
		t.Run(peer.Name(), func(t *testing.T) {
			env := testEnv(t, peer)
			proxy := redistest.StartProxy(t, env.Redis)
			app, err := peer.Open(Env{Redis: proxy.Addr})
			if err != nil {
				t.Fatal(err)
			}
			defer app.Close()
			c, cookie := app.NewClient(), app.LogIn(1)[0]
			proxy.Reset()
			c.Do(Plain, cookie)
			if looked := proxy.RoundTrips() > 0; looked == peer.NeverLooks {
				t.Errorf("an unused session is looked up: %v, the table says %v", looked, !peer.NeverLooks)
			}
		})
	}
}
