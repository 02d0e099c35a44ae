package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sojourn-go/session/internal/programtest"
	"github.com/sojourn-go/session/internal/redistest"
)

// shop is the program as one visitor sees it.
type shop struct {
	*programtest.Process
	*programtest.Visitor
	t *testing.T
}

func open(t *testing.T, args ...string) *shop {
	t.Helper()
	return &shop{programtest.Start(t, programtest.Build(t), args...), programtest.NewVisitor(t), t}
}

func (s *shop) submit(path string, fields ...string) programtest.Page {
	s.t.Helper()
	return s.Submit(s.URL+path, fields...)
}

func (s *shop) login(user, password string) programtest.Page {
	s.t.Helper()
	return s.submit("login", "user", user, "password", password)
}

// expect checks a page's status, what it says, and what it does not say.
func (s *shop) expect(got programtest.Page, status int, says string, not ...string) {
	s.t.Helper()
	if got.Status != status || !strings.Contains(got.Body, says) {
		s.t.Errorf("got %d, want %d with %q:\n%s", got.Status, status, says, got.Body)
	}
	for _, text := range not {
		if strings.Contains(got.Body, text) {
			s.t.Errorf("the page says %q:\n%s", text, got.Body)
		}
	}
}

const (
	kettleInCart = "<li>Kettle</li>"
	loginForm    = `action="/login"`
	logoutForm   = `action="/logout"`
	wrong        = "do not go together"
	welcome      = "Welcome, alice."
)

func TestShopLoginKeepsTheCartAndLogoutForgets(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		s := open(t, args...)
		s.expect(s.Open(s.URL), 200, "Nothing yet.", logoutForm)
		s.expect(s.submit("cart", "item", "Kettle"), 200, kettleInCart)
		before := s.Cookies(s.URL)

		s.expect(s.login("alice", "wrong"), http.StatusForbidden, wrong, logoutForm)
		s.expect(s.login("nobody", ""), http.StatusForbidden, wrong, logoutForm)

		in := s.login("alice", "wonderland")
		s.expect(in, 200, welcome, loginForm)
		s.expect(in, 200, kettleInCart)
		s.expect(s.Open(s.URL), 200, logoutForm, welcome) // shown once

		// A click that left with the cookie from before the login (C7).
		s.withCookies(before, func() {
			s.expect(s.submit("cart", "item", "Teapot"), http.StatusConflict, "Back to the shop", "Teapot")
		})
		s.expect(s.Open(s.URL), 200, logoutForm, "<li>Teapot</li>")

		s.expect(s.submit("logout"), 200, "You are logged out.", kettleInCart, logoutForm)
		s.expect(s.Open(s.URL), 200, "Nothing yet.", "You are logged out.")
		s.Leave()
		s.Stop()
	})
}

// withCookies makes a visit with other cookies than the jar's own.
func (s *shop) withCookies(cookies []*http.Cookie, visit func()) {
	s.t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	own := s.Cookies(s.URL)
	s.Jar.SetCookies(u, cookies)
	visit()
	s.Jar.SetCookies(u, own)
}

func eachStore(t *testing.T, test func(t *testing.T, args ...string)) {
	t.Run("memory", func(t *testing.T) { test(t) })
	t.Run("redis", func(t *testing.T) {
		test(t, "-store", "unix://"+redistest.Start(t, redistest.Config{}).Socket)
	})
}

func TestShopRefusesInItsOwnStyle(t *testing.T) {
	s := open(t)
	const ownStyle = `<h2>That did not work</h2>`
	s.expect(s.submit("cart", "item", "Yacht"), http.StatusBadRequest, ownStyle)
	s.expect(s.submit("cart", "item", strings.Repeat("x", 100<<10)), http.StatusBadRequest, ownStyle)
	s.expect(s.login("<b>alice", "wonderland"), http.StatusForbidden, "&lt;b&gt;alice", "<b>alice")
	if cookies := s.Cookies(s.URL); len(cookies) != 0 {
		t.Errorf("refusals left %d cookies, want none (R1)", len(cookies))
	}

	req, err := http.NewRequest(http.MethodPost, s.URL+"logout", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := s.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a form from another site: %d, want 403", res.StatusCode)
	}
	if got := s.Open(s.URL + "logout"); got.Status != http.StatusMethodNotAllowed {
		t.Errorf("GET /logout: %d, want 405: a link must not log out", got.Status)
	}
	s.Leave()
	s.Stop()
}

func TestShopTellsWhenItsStoreIsAway(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s := open(t, "-store", "redis://"+server.Addr)
	s.expect(s.login("alice", "wonderland"), 200, welcome)
	server.Stop()
	got := s.Open(s.URL)
	s.expect(got, http.StatusServiceUnavailable, "<h2>That did not work</h2>", "Nothing yet.", loginForm)
	if got.Header.Get("Retry-After") == "" || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("header %v; want Retry-After and no Set-Cookie", got.Header)
	}
	if css := s.Open(s.URL + "style.css"); css.Status != 200 {
		t.Errorf("style.css: %d, want 200: Skip keeps it from needing the store", css.Status)
	}
	s.Leave()
	s.Stop()
}
