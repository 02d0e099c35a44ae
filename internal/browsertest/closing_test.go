package browsertest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/browsertest"
)

var greeted = session.NewKey[bool]("greeted")

// twoApplications are one whose cookie is gone when the browser closes, at /brief,
// and one with Cookie.Persist, at /kept. Each says whether it has seen the visitor.
func twoApplications(t *testing.T) string {
	mux := http.NewServeMux()
	for name, persist := range map[string]bool{"brief": false, "kept": true} {
		sessions, err := session.New(session.Config{Name: name, Store: new(session.MemoryStore), Cookie: session.Cookie{Name: name, InsecureHTTP: true, Persist: persist}})
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle("/"+name, sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			answer := "first visit"
			if greeted.Get(s) {
				answer = "seen before"
			}
			greeted.Set(s, true)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, `<!doctype html><link rel="icon" href="data:,"><p>`+answer+`</p>`)
		})))
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// A browser that is closed forgets the session of a cookie without Persist, unless
// its visitor lets it continue where they left off.
func TestWhatABrowserKeepsWhenItIsClosed(t *testing.T) {
	for _, c := range []struct {
		name     string
		restore  bool
		tab      string // what the first tab shows by itself
		askBrief string
	}{
		{"opened anew", false, "", "first visit"},
		{"continued where they left off", true, "seen before", "seen before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := twoApplications(t)
			o := browsertest.Options{Profile: browsertest.NewProfile(t), RestoreTabs: c.restore}
			b := browsertest.Start(t, o)
			for _, page := range []string{"/kept", "/brief"} {
				b.Open(url + page)
				b.Open(url + page)
				if got := b.Text("p"); got != "seen before" {
					t.Fatalf("%s before the browser was closed: %q", page, got)
				}
			}
			b.Close()
			b = browsertest.Start(t, o)
			if c.restore {
				b.Wait("p") // the tab of before comes back without being asked
			}
			if got := b.Text("p"); got != c.tab {
				t.Errorf("the browser begins with %q at %s, want %q", got, b.URL(), c.tab)
			}
			for page, want := range map[string]string{"/brief": c.askBrief, "/kept": "seen before"} {
				b.Open(url + page)
				if got := b.Text("p"); got != want {
					t.Errorf("%s after the browser was closed and started again: %q, want %q", page, got, want)
				}
			}
		})
	}
}
