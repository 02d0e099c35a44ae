package handover_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

var (
	countKey = session.NewKey[int]("count").SurvivesLogin()
	quiet    = slog.New(slog.DiscardHandler)
)

// newSite is a small site: log in, count up, look, log out.
func newSite(t testing.TB, store session.Store, timeout time.Duration) (*session.Manager, http.Handler) {
	t.Helper()
	m, err := session.New(session.Config{
		Store: store, Name: "site", StoreTimeout: timeout, Logger: quiet,
		Cookie: session.Cookie{InsecureHTTP: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login(r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if s.User() == "" {
			http.Error(w, "logged out", http.StatusUnauthorized)
			return
		}
		countKey.Update(s, func(n int) int { return n + 1 })
	})
	mux.HandleFunc("/look", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		fmt.Fprintf(w, "%s %d", s.User(), countKey.Get(s))
	})
	mux.HandleFunc("/logout", func(_ http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Destroy()
	})
	return m, m.Handler(mux)
}

// A tab sends one cookie, without a network.
type tab struct {
	site   http.Handler
	cookie string
}

func (b *tab) get(path string) (status int, body string) {
	r := httptest.NewRequest("GET", path, nil)
	if b.cookie != "" {
		r.Header.Set("Cookie", b.cookie)
	}
	w := httptest.NewRecorder()
	b.site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookie = c.Name + "=" + c.Value
	}
	return w.Code, w.Body.String()
}

func (b *tab) want(t *testing.T, path string, status int, body string) {
	t.Helper()
	if code, got := b.get(path); code != status || body != "" && got != body {
		t.Errorf("%s: %d %q, want %d %q", path, code, got, status, body)
	}
}
