package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// testFleet is servers behind a balancer, without Redis and without a page.
func testFleet(t *testing.T) *fleet {
	t.Helper()
	b := newBalancer(serverNames...)
	f := newFleet(b, "")
	go b.check(t.Context())
	t.Cleanup(f.close)
	if err := f.choose(t.Context(), stickyMemory); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFleetServersEndWhenTheirInputDoes(t *testing.T) {
	f := testFleet(t)
	for _, s := range f.servers {
		_ = s.stdin.Close()
		if err := waitUntil(t.Context(), "the server to end", func() bool { return !s.running() }); err != nil {
			t.Error(err)
		}
	}
}

func TestFleetStopsInGoodOrder(t *testing.T) {
	f := testFleet(t)
	if err := f.stop(t.Context(), "B"); err != nil {
		t.Error(err)
	}
	if got := f.state("B"); got != "down" {
		t.Errorf("B is %s, want down", got)
	}
	if err := f.stop(t.Context(), "B"); err != nil {
		t.Errorf("stopping it again: %v", err)
	}
	if err := f.start(t.Context(), "B"); err != nil {
		t.Error(err)
	}
	if got := f.state("B"); got != "up" {
		t.Errorf("B is %s, want up", got)
	}
	if f.stop(t.Context(), "nobody") == nil || f.start(t.Context(), "nobody") == nil || f.kill("nobody") == nil {
		t.Error("a server that there is none of was stopped, started or killed")
	}
	if f.choose(t.Context(), "paper") == nil || f.choose(t.Context(), sharedRedis) == nil {
		t.Error("a way that there is none of, or no Redis for, was chosen")
	}
	if got := f.current(); got != stickyMemory {
		t.Errorf("the way is %s, want that from before", got)
	}
}

// backends are servers that answer with their name.
func backends(t *testing.T, b *balancer, names ...string) map[string]*httptest.Server {
	t.Helper()
	servers := make(map[string]*httptest.Server)
	for _, name := range names {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/cut" {
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write([]byte(name))
		}))
		t.Cleanup(s.Close)
		servers[name] = s
		b.set(name, s.Listener.Addr().String())
		b.checkOne(t.Context(), http.DefaultClient, name)
	}
	return servers
}

func ask(b *balancer, method, path, cookie string) (body string, res *http.Response) {
	r := httptest.NewRequest(method, path, strings.NewReader("x=1"))
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: serverCookie, Value: cookie})
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Body.String(), w.Result()
}

func TestBalancerSticksToTheServerOfTheCookie(t *testing.T) {
	b := newBalancer("A", "B")
	b.setSticky(true)
	backends(t, b, "A", "B")
	for _, name := range []string{"A", "B", "A", "A"} {
		got, res := ask(b, "POST", "/", name)
		if got != name || len(res.Cookies()) != 0 {
			t.Errorf("with the cookie of %s: %s answered, cookies %v", name, got, res.Cookies())
		}
	}
	for _, cookie := range []string{"", "C", "A B", strings.Repeat("A", 3000)} {
		got, res := ask(b, "GET", "/", cookie)
		if c := res.Cookies(); len(c) != 1 || c[0].Value != got || !c[0].HttpOnly {
			t.Errorf("%s answered %.10q with the cookies %v, want one that names it", got, cookie, c)
		}
	}
	seen := map[string]bool{}
	b.setSticky(false)
	for range 4 {
		got, res := ask(b, "GET", "/", "A")
		seen[got] = true
		if len(res.Cookies()) != 0 {
			t.Error("a cookie from a balancer that is not sticky")
		}
	}
	if len(seen) != 2 {
		t.Errorf("%v answered, want both", seen)
	}
}

func TestBalancerGoesAroundAServerThatIsGone(t *testing.T) {
	b := newBalancer("A", "B")
	b.setSticky(true)
	servers := backends(t, b, "A", "B")
	servers["A"].Close()
	got, res := ask(b, "POST", "/", "A") // no health check has noticed
	if c := res.Cookies(); got != "B" || len(c) != 1 || c[0].Value != "B" {
		t.Errorf("%s answered with %v, want B and its cookie", got, c)
	}
	if b.state("A").up {
		t.Error("A counts as up after it refused a connection")
	}
	servers["B"].Close()
	if _, res := ask(b, "GET", "/", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a server: %d, want 503", res.StatusCode)
	}
}

// What a server may have done already is not done by another one as well.
func TestBalancerDoesNotRepeatWhatChangesSomething(t *testing.T) {
	b := newBalancer("A", "B")
	backends(t, b, "A", "B")
	if _, res := ask(b, "POST", "/cut", ""); res.StatusCode != http.StatusBadGateway {
		t.Errorf("a POST that was cut off: %d, want 502", res.StatusCode)
	}
}

func TestBalancerDrainsNewVisitorsOnly(t *testing.T) {
	b := newBalancer("A", "B")
	b.setSticky(true)
	backends(t, b, "A", "B")
	b.drain("A")
	for range 4 {
		if got, _ := ask(b, "GET", "/", "A"); got != "A" {
			t.Errorf("an old visitor of A was sent to %s", got)
		}
		if got, _ := ask(b, "GET", "/", ""); got != "B" {
			t.Errorf("a new visitor was sent to %s", got)
		}
	}
}
