package session_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// pages are the ways in which handlers tcpAnswer.
var pages = []struct {
	name   string
	method string
	status int
	body   string
	write  http.HandlerFunc
}{
	{"page", "GET", 200, "page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }},
	{"string", "GET", 200, "page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") }},
	{"reader", "GET", 200, "page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, onlyReader("page")) }},
	{"empty write", "GET", 200, "", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) }},
	{"status and page", "GET", 202, "page", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); fmt.Fprint(w, "page") }},
	{"redirect", "GET", 303, "<a href=\"/next\">See Other</a>.\n\n", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/next", 303) }},
	{"error", "GET", 500, "broken\n", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) }},
	{"not found", "GET", 404, "404 page not found\n", http.NotFound},
	{"no content", "GET", 204, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
	{"not modified", "GET", 304, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }},
	{"head", "HEAD", 200, "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }},
	{"nothing", "GET", 200, "", func(http.ResponseWriter, *http.Request) {}},
}

// onlyReader offers Read alone, so that io.Copy takes the writer's ReadFrom.
func onlyReader(text string) io.Reader { return struct{ io.Reader }{strings.NewReader(text)} }

func TestResponseR5CookieAndRecordOrNeither(t *testing.T) {
	eachWire(t, func(w *wire) {
		for _, p := range pages {
			check := func(a *tcpAnswer) {
				if a.StatusCode != p.status || a.body != p.body {
					t.Errorf("status %d, body %q, want %d, %q", a.StatusCode, a.body, p.status, p.body)
				}
			}
			w.row(p.name+"/set", func(w *wire) {
				a := w.answerTo(p.method, nil, func(s *session.Session) { note.Set(s, "after") }, p.write)
				check(a)
				w.wantStored(w.wantPair(a), "after")
			})
			w.row(p.name+"/read", func(w *wire) {
				a := w.answerTo(p.method, nil, func(s *session.Session) { note.Get(s) }, p.write)
				check(a)
				w.wantNeither(a)
			})
			w.row(p.name+"/change", func(w *wire) {
				cookie := w.visitor()
				a := w.answerTo(p.method, cookie, func(s *session.Session) { note.Set(s, "after") }, p.write)
				check(a)
				if len(a.granted()) != 0 {
					t.Errorf("a change of a value sent %v", a.granted())
				}
				w.wantStored(cookie, "after")
			})
			w.row(p.name+"/destroy", func(w *wire) {
				a := w.answerTo(p.method, w.visitor(), (*session.Session).Destroy, p.write)
				check(a)
				w.wantCleared(a)
			})
		}
	})
}

// answerTo is what a visitor gets from a handler that acts on the session and
// then writes.
func (w *wire) answerTo(method string, cookie *http.Cookie, act func(*session.Session), write http.HandlerFunc) *tcpAnswer {
	w.Helper()
	tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
		act(session.FromContext(r.Context()))
		write(rw, r)
	})
	return tcpSite.do(tcpSite.request(method, cookie))
}

// wantCleared checks that the record is gone and the cookie is taken back.
func (w *wire) wantCleared(a *tcpAnswer) {
	w.Helper()
	if c := a.granted(); len(c) != 1 || c[0].Value != "" || c[0].MaxAge >= 0 {
		w.Errorf("cookies %v, want one that clears", c)
	}
	if stored := w.store.live(w.T); len(stored) != 0 {
		w.Errorf("records %v are left after a logout", stored)
	}
}

func TestResponseR12CachesAreTold(t *testing.T) {
	look := func(s *session.Session) { s.User() }
	set := func(s *session.Session) { note.Set(s, "x") }
	none := func(*session.Session) {}
	tests := []struct {
		name      string
		act       func(*session.Session)
		header    http.Header
		wantCache []string
		wantVary  []string
	}{
		{"not looked at", none, nil, nil, nil},
		{"not looked at, public", none, http.Header{"Cache-Control": {"public, max-age=60"}, "Vary": {"Accept"}}, []string{"public, max-age=60"}, []string{"Accept"}},
		{"looked at", look, nil, []string{"private"}, []string{"Cookie"}},
		{"looked at, public", look, http.Header{"Cache-Control": {"public, max-age=60"}}, []string{"public, max-age=60"}, []string{"Cookie"}},
		{"looked at, other Vary", look, http.Header{"Vary": {"Accept"}}, []string{"private"}, []string{"Accept", "Cookie"}},
		{"looked at, two Vary lines", look, http.Header{"Vary": {"Accept", "Origin"}}, []string{"private"}, []string{"Accept", "Origin", "Cookie"}},
		{"looked at, Vary merged already", look, http.Header{"Vary": {"Accept, cookie"}}, []string{"private"}, []string{"Accept, cookie"}},
		{"looked at, Vary on everything", look, http.Header{"Vary": {"*"}}, []string{"private"}, []string{"*"}},
		{"looked at, longer name", look, http.Header{"Vary": {"Cookie2"}}, []string{"private"}, []string{"Cookie2", "Cookie"}},
		{"cookie", set, nil, []string{"no-store"}, []string{"Cookie"}},
		{"cookie, public", set, http.Header{"Cache-Control": {"public, max-age=60", "immutable"}}, []string{"no-store"}, []string{"Cookie"}},
		{"cookie, Vary on everything", set, http.Header{"Vary": {"*"}}, []string{"no-store"}, []string{"*"}},
	}
	eachWire(t, func(w *wire) {
		for _, tt := range tests {
			w.row(tt.name, func(w *wire) {
				a := w.answerTo("GET", nil, tt.act, func(w http.ResponseWriter, _ *http.Request) {
					maps.Copy(w.Header(), tt.header.Clone())
					fmt.Fprint(w, "page")
				})
				if got := a.Header["Cache-Control"]; !slices.Equal(got, tt.wantCache) {
					w.Errorf("Cache-Control %q, want %q", got, tt.wantCache)
				}
				if got := a.Header["Vary"]; !slices.Equal(got, tt.wantVary) {
					w.Errorf("Vary %q, want %q", got, tt.wantVary)
				}
			})
		}
	})
}

// Middleware that adds to a header slice must not write into the room behind
// it, which another request's header may share.
func TestResponseR12SharedHeaderSlicesStayAsTheyAre(t *testing.T) {
	vary, cookies := append(make([]string, 0, 4), "Accept"), append(make([]string, 0, 4), "theme=dark")
	w := newWire(t, new(session.MemoryStore), false)
	rec := httptest.NewRecorder()
	w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		note.Set(session.FromContext(r.Context()), "x")
		rw.Header()["Vary"], rw.Header()["Set-Cookie"] = vary, cookies
	})).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if len(rec.Header()["Vary"]) != 2 || len(rec.Header()["Set-Cookie"]) != 2 {
		t.Fatalf("header %v", rec.Header())
	}
	if vary[:2][1] != "" || cookies[:2][1] != "" {
		t.Error("the room behind a shared slice was written to")
	}
}

func TestResponseR13OneSetCookie(t *testing.T) {
	forge := func(w http.ResponseWriter) {
		http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"})
		http.SetCookie(w, &http.Cookie{Name: "__Host-sid", Value: "forged"})
		http.SetCookie(w, &http.Cookie{Name: "__Host-sid2", Value: "another"})
		w.Header().Add("Set-Cookie", "__Host-sid")
		w.Header().Add("Set-Cookie", " __Host-sid =forged again")
	}
	names := func(a *tcpAnswer) (names []string) {
		for _, line := range a.Header["Set-Cookie"] {
			name, _, _ := strings.Cut(line, "=")
			names = append(names, name)
		}
		return names
	}
	eachWire(t, func(w *wire) {
		w.row("with ours", func(w *wire) {
			a := w.answerTo("GET", nil, func(s *session.Session) {
				note.Set(s, "x")
				_ = s.Login("alice")
				_ = s.Save(t.Context())
				_ = s.Renew()
			}, func(w http.ResponseWriter, _ *http.Request) { forge(w) })
			w.wantPair(a)
			if got := names(a); !slices.Equal(got, []string{"theme", "__Host-sid2", "__Host-sid"}) {
				w.Errorf("cookies %q", got)
			}
		})
		w.row("without ours", func(w *wire) {
			a := w.answerTo("GET", nil, func(*session.Session) {}, func(w http.ResponseWriter, _ *http.Request) { forge(w) })
			if got := names(a); !slices.Equal(got, []string{"theme", "__Host-sid2"}) {
				w.Errorf("cookies %q", got)
			}
		})
	})
}

func TestResponseR13ManagersInManagers(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.row("the same one twice", func(w *wire) {
			tcpSite := w.serve(w.m.Handler(w.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				note.Set(session.FromContext(r.Context()), "after")
			}))))
			w.wantStored(w.wantPair(tcpSite.get(nil)), "after")
		})
		w.row("a sub-mux with its own", func(w *wire) {
			admin := w.sibling("__Host-admin")
			sub := admin.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if session.FromContext(r.Context()) != admin.FromContext(r.Context()) {
					t.Error("FromContext is not the innermost manager's session")
				}
				note.Set(w.m.FromContext(r.Context()), "of the tcpSite")
				note.Set(admin.FromContext(r.Context()), "of the admin pages")
				fmt.Fprint(rw, "page")
			}))
			mux := http.NewServeMux()
			mux.Handle("/", sub)
			a := w.serve(w.m.Handler(mux)).get(nil)
			jar := map[string]*http.Cookie{}
			for _, c := range a.Cookies() {
				jar[c.Name] = c
			}
			if len(a.Cookies()) != 2 || jar["__Host-sid"] == nil || jar["__Host-admin"] == nil {
				t.Fatalf("cookies %v, want one each", a.Cookies())
			}
			if got := a.Header["Vary"]; len(got) != 1 {
				t.Errorf("Vary %q, want Cookie once", got)
			}
			w.wantStored(jar["__Host-sid"], "of the tcpSite")
			w.m = admin
			w.wantStored(jar["__Host-admin"], "of the admin pages")
		})
		w.row("two with one cookie name", func(w *wire) {
			var said any
			tcpSite := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				defer func() { said = recover() }()
				w.m.Handler(w.sibling("__Host-sid").Handler(http.NotFoundHandler())).ServeHTTP(rw, r)
			}))
			tcpSite.get(nil)
			if text := fmt.Sprint(said); !strings.Contains(text, "Cookie.Name of its own") {
				t.Errorf("panic %q does not say what to do", text)
			}
		})
	})
}

// sibling is another manager on the same store.
func (w *wire) sibling(cookie string) *session.Manager {
	w.Helper()
	cfg := w.cfg
	cfg.Name, cfg.Cookie.Name = "sibling", cookie
	m, err := session.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// bareWriter is neither Flusher nor Hijacker, and can neither read from a
// reader nor take a string.
type bareWriter struct {
	header http.Header
	status int
	body   []byte
}

func (b *bareWriter) Header() http.Header { return b.header }
func (b *bareWriter) WriteHeader(status int) {
	if b.status == 0 {
		b.status = status
	}
}
func (b *bareWriter) Write(p []byte) (int, error) {
	b.WriteHeader(200)
	b.body = append(b.body, p...)
	return len(p), nil
}

// The wrapper promises nothing that the writer below cannot do, although its
// type has every method.
func TestResponseR5WriterWithoutAbilities(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		w, bare := newWire(t, store, false), &bareWriter{header: http.Header{}}
		w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			note.Set(session.FromContext(r.Context()), "after")
			control := http.NewResponseController(rw)
			if _, _, err := control.Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack: %v, want http.ErrNotSupported", err)
			}
			rw.(http.Flusher).Flush()
			if err := control.Flush(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Flush: %v, want http.ErrNotSupported", err)
			}
			if bare.status != 0 {
				t.Errorf("a flush by assertion wrote status %d", bare.status)
			}
			if err := rw.(http.Pusher).Push("/style.css", nil); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Push: %v, want http.ErrNotSupported", err)
			}
			rw.WriteHeader(201)
			_, _ = rw.(io.ReaderFrom).ReadFrom(onlyReader("pa"))
			_, _ = io.WriteString(rw, "ge")
		})).ServeHTTP(bare, httptest.NewRequest("GET", "/", nil))
		if bare.status != 201 || string(bare.body) != "page" {
			t.Errorf("status %d, body %q", bare.status, bare.body)
		}
		w.wantStored(w.wantPair(&tcpAnswer{Response: &http.Response{Header: bare.header}}), "after")
	})
}

func TestResponseR5Recorder(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		w, rec := newWire(t, store, false), httptest.NewRecorder()
		w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			note.Set(session.FromContext(r.Context()), "after")
			if err := http.NewResponseController(rw).Flush(); err != nil {
				t.Error(err)
			}
		})).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if !rec.Flushed {
			t.Error("the flush did not arrive")
		}
		w.wantStored(w.wantPair(&tcpAnswer{Response: rec.Result()}), "after")
	})
}

// nowhere is a writer that allocates nothing.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header               { return n.header }
func (n nowhere) WriteHeader(int)                   {}
func (n nowhere) Write(b []byte) (int, error)       { return len(b), nil }
func (n nowhere) WriteString(s string) (int, error) { return len(s), nil }
func (n nowhere) Flush()                            {}

// The wrapper lives in what hangs on the request anyway: a handler that writes
// in every way allocates as much as one that returns at once.
func TestResponseWrapperAllocatesNothing(t *testing.T) {
	m, err := session.New(session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cookie := sessiontest.Cookie(t, m, func(s *session.Session) { note.Set(s, "x") })
	page, visitor := []byte("page"), httptest.NewRequest("GET", "/", nil)
	visitor.AddCookie(cookie)
	write := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		_, _ = w.Write(page)
		_, _ = io.WriteString(w, "page")
		w.(http.Flusher).Flush()
	}
	look := func(_ http.ResponseWriter, r *http.Request) { session.FromContext(r.Context()).User() }
	tests := []struct {
		name          string
		r             *http.Request
		silent, wordy http.HandlerFunc
	}{
		{"no session", httptest.NewRequest("GET", "/", nil), func(http.ResponseWriter, *http.Request) {}, write},
		{"session looked at", visitor, look, func(w http.ResponseWriter, r *http.Request) { look(w, r); write(w, r) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			allocs := func(h http.HandlerFunc) float64 {
				handler, w := m.Handler(h), nowhere{http.Header{}}
				return testing.AllocsPerRun(100, func() {
					clear(w.header)
					handler.ServeHTTP(w, tt.r)
				})
			}
			if silent, wordy := allocs(tt.silent), allocs(tt.wordy); wordy != silent {
				t.Errorf("%v allocations with writes, %v without", wordy, silent)
			}
		})
	}
}
