package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sojourn-go/session/internal/programtest"
	"github.com/sojourn-go/session/internal/redistest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// A guest is a visitor, and the program that they visit.
type guest struct {
	*programtest.Process
	*programtest.Visitor
	t *testing.T
}

func open(t *testing.T, args ...string) *guest {
	t.Helper()
	return &guest{programtest.Start(t, programtest.Self(t), args...), programtest.NewVisitor(t), t}
}

// another is somebody else, or the same person with another browser.
func (g *guest) another() *guest {
	return &guest{g.Process, programtest.NewVisitor(g.t), g.t}
}

func (g *guest) submit(path string, fields ...string) programtest.Page {
	g.t.Helper()
	return g.Submit(g.URL+path, fields...)
}

func (g *guest) login(user, password string) programtest.Page {
	g.t.Helper()
	return g.submit("login", "user", user, "password", password)
}

// expect checks a page's status, what it says, and what it does not say.
func (g *guest) expect(got programtest.Page, status int, says string, not ...string) {
	g.t.Helper()
	if got.Status != status || !strings.Contains(got.Body, says) {
		g.t.Errorf("got %d, want %d with %q:\n%s", got.Status, status, says, got.Body)
	}
	for _, text := range not {
		if strings.Contains(got.Body, text) {
			g.t.Errorf("the page says %q:\n%s", text, got.Body)
		}
	}
}

const (
	kettleInCart = "<li>Kettle</li>"
	loginLink    = `href="/login"`
	loginForm    = `action="/login"`
	logoutForm   = `action="/logout"`
	wrong        = "do not go together"
	welcome      = "Welcome, alice."
	ownStyle     = "<h1>That did not work</h1>"
)

func TestShopLoginKeepsTheCartAndLogoutForgets(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		g := open(t, args...)
		g.expect(g.Open(g.URL), 200, "Nothing yet.", logoutForm)
		g.expect(g.submit("cart", "item", "Kettle"), 200, kettleInCart)
		before := g.Cookies(g.URL)

		g.expect(g.login("alice", "wrong"), http.StatusForbidden, wrong, logoutForm)
		g.expect(g.login("nobody", ""), http.StatusForbidden, wrong, logoutForm)

		in := g.login("alice", "wonderland")
		g.expect(in, 200, welcome, loginLink)
		g.expect(in, 200, kettleInCart)
		g.expect(g.Open(g.URL), 200, logoutForm, welcome) // shown once

		// A click that left with the cookie from before the login (C7).
		g.withCookies(before, func() {
			g.expect(g.submit("cart", "item", "Teapot"), http.StatusConflict, "Back to the shop", "Teapot")
		})
		g.expect(g.Open(g.URL), 200, logoutForm, "<li>Teapot</li>")

		g.expect(g.submit("logout"), 200, "You are logged out.", kettleInCart, logoutForm)
		g.expect(g.Open(g.URL), 200, "Nothing yet.", "You are logged out.")
		g.Leave()
		g.Stop()
	})
}

// withCookies makes a visit with other cookies than the jar's own.
func (g *guest) withCookies(cookies []*http.Cookie, visit func()) {
	g.t.Helper()
	u, err := url.Parse(g.URL)
	if err != nil {
		g.t.Fatal(err)
	}
	own := g.Cookies(g.URL)
	g.Jar.SetCookies(u, cookies)
	visit()
	g.Jar.SetCookies(u, own)
}

func eachStore(t *testing.T, test func(t *testing.T, args ...string)) {
	t.Run("memory", func(t *testing.T) { test(t) })
	t.Run("redis", func(t *testing.T) {
		test(t, "-store", "unix://"+redistest.Start(t, redistest.Config{}).Socket)
	})
}

func TestShopRefusesInItsOwnStyle(t *testing.T) {
	g := open(t)
	g.expect(g.submit("cart", "item", "Yacht"), http.StatusBadRequest, ownStyle)
	g.expect(g.submit("cart", "item", strings.Repeat("x", 100<<10)), http.StatusBadRequest, ownStyle)
	g.expect(g.login("<b>alice", "wonderland"), http.StatusForbidden, "&lt;b&gt;alice", "<b>alice")
	if cookies := g.Cookies(g.URL); len(cookies) != 0 {
		t.Errorf("refusals left %d cookies, want none (R1)", len(cookies))
	}

	req, err := http.NewRequest(http.MethodPost, g.URL+"logout", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := g.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a form from another site: %d, want 403", res.StatusCode)
	}
	if got := g.Open(g.URL + "logout"); got.Status != http.StatusMethodNotAllowed {
		t.Errorf("GET /logout: %d, want 405: a link must not log out", got.Status)
	}
	g.Leave()
	g.Stop()
}

func TestShopTellsWhenItsStoreIsAway(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	g := open(t, "-store", "redis://"+server.Addr)
	g.expect(g.login("alice", "wonderland"), 200, welcome)
	server.Stop()
	got := g.Open(g.URL)
	g.expect(got, http.StatusServiceUnavailable, ownStyle, "Nothing yet.", loginLink)
	if got.Header.Get("Retry-After") == "" || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("header %v; want Retry-After and no Set-Cookie", got.Header)
	}
	if css := g.Open(g.URL + "static/style.css"); css.Status != 200 {
		t.Errorf("style.css: %d, want 200: Skip keeps it from needing the store", css.Status)
	}
	g.Leave()
	g.Stop()
}
