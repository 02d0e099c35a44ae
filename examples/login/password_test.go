package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/session"
)

const (
	passwordForm = `action="/password"`
	stillYou     = "<h1>Is it still you?</h1>"
)

func TestShopChangesPasswordAndSignsOthersOut(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		desk := open(t, args...)
		thief := desk.another()
		desk.submit("cart", "item", "Kettle")
		desk.login("alice", "wonderland")
		thief.login("alice", "wonderland")
		copied := desk.Cookies(desk.URL)

		desk.expect(desk.Open(desk.URL+"password"), 200, passwordForm)
		desk.expect(desk.submit("password", "password", "short"), http.StatusUnprocessableEntity, "too short")
		thief.in()
		desk.expect(desk.submit("password", "password", "through the glass"), 200, "Your password is changed", endOthers)
		thief.out()
		thief.expect(thief.login("alice", "wonderland"), http.StatusForbidden, wrong)
		thief.withCookies(copied, thief.out)
		desk.expect(desk.Open(desk.URL), 200, kettleInCart, loginLink)
		thief.expect(thief.login("alice", "through the glass"), 200, welcome)
	})
}

func TestShopChangesNoPasswordWithoutLogin(t *testing.T) {
	g := open(t)
	g.expect(g.Open(g.URL+"password"), 200, toLogin, passwordForm)
	g.expect(g.submit("password", "password", "through the glass"), 200, toLogin)
	g.expect(g.login("alice", "wonderland"), 200, welcome)
}

// A bubbleGuest visits the shop without a network, where time can pass at once.
type bubbleGuest struct {
	t    *testing.T
	shop http.Handler
	jar  http.CookieJar
}

func (g *bubbleGuest) send(method, path string, fields ...string) *httptest.ResponseRecorder {
	g.t.Helper()
	form := make(url.Values)
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	r := httptest.NewRequestWithContext(g.t.Context(), method, "http://shop.test"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range g.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	g.shop.ServeHTTP(w, r)
	g.jar.SetCookies(r.URL, w.Result().Cookies())
	return w
}

func (g *bubbleGuest) expect(got *httptest.ResponseRecorder, status int, says string) {
	g.t.Helper()
	if got.Code != status || !strings.Contains(got.Body.String()+got.Header().Get("Location"), says) {
		g.t.Errorf("got %d to %q, want %d with %q:\n%s", got.Code, got.Header().Get("Location"), status, says, got.Body)
	}
}

func TestShopAsksForThePasswordAgainAfterFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler, err := newShop(new(session.MemoryStore))
		if err != nil {
			t.Fatal(err)
		}
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		g := &bubbleGuest{t, handler, jar}
		g.expect(g.send("POST", "/login", "user", "alice", "password", "wonderland"), http.StatusSeeOther, "/")
		time.Sleep(recent - time.Second)
		g.expect(g.send("GET", "/password"), 200, passwordForm)
		time.Sleep(time.Second)
		g.expect(g.send("GET", "/password"), http.StatusForbidden, stillYou)
		g.expect(g.send("POST", "/password", "password", "through the glass"), http.StatusForbidden, stillYou)

		g.expect(g.send("POST", "/login", "user", "alice", "password", "wrong", "next", "/password"), http.StatusForbidden, wrong)
		g.expect(g.send("GET", "/password"), http.StatusForbidden, stillYou)
		g.expect(g.send("POST", "/login", "user", "alice", "password", "wonderland", "next", "/password"), http.StatusSeeOther, "/password")
		g.expect(g.send("GET", "/password"), 200, passwordForm)
		g.expect(g.send("POST", "/password", "password", "through the glass"), http.StatusSeeOther, "/devices")
	})
}
