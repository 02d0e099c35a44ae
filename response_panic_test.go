package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/sojourn-go/session"
)

// A fall is what a recovering middleware caught.
type fall struct {
	value any
	stack string
}

// recoverer answers a panic with 500, as everybody's does.
func recoverer(caught *fall, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if caught.value = recover(); caught.value != nil {
				caught.stack = string(debug.Stack())
				http.Error(w, "recovered", 500)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

var errFall = errors.New("a value to be recognised by")

// fallDown is a name to look for on the stack.
func fallDown() { panic(errFall) }

func TestResponseR10PanicMeansNo(t *testing.T) {
	set := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(_ http.ResponseWriter, r *http.Request) { note.Set(session.FromContext(r.Context()), text) }
	}
	write := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }
	tests := []struct {
		name   string
		steps  []func(http.ResponseWriter, *http.Request)
		status int
		stored string
	}{
		{"before writes", []func(http.ResponseWriter, *http.Request){set("dropped")}, 500, "before"},
		{"between writes", []func(http.ResponseWriter, *http.Request){set("saved"), write, set("dropped")}, 200, "saved"},
		{"after writes", []func(http.ResponseWriter, *http.Request){set("saved"), write}, 200, "saved"},
	}
	eachWire(t, func(w *wire) {
		for _, tt := range tests {
			w.row(tt.name, func(w *wire) {
				var caught fall
				behind := w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					for _, step := range tt.steps {
						step(rw, r)
					}
					fallDown()
				}))
				cookie := w.visitor()
				a := w.serve(silenced(recoverer(&caught, behind))).get(cookie)
				if a.StatusCode != tt.status || len(a.granted()) != 0 {
					w.Errorf("status %d, cookies %v", a.StatusCode, a.granted())
				}
				if caught.value != errFall || !strings.Contains(caught.stack, "session_test.fallDown(") {
					w.Errorf("panic value %v, stack\n%s", caught.value, caught.stack)
				}
				w.wantStored(cookie, tt.stored)
			})
		}
	})
}

// silenced drops a second status, which a recoverer sends without asking
// whether there was a first.
func silenced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&once{ResponseWriter: w}, r) })
}

type once struct {
	http.ResponseWriter
	wrote bool
}

func (w *once) WriteHeader(status int) {
	if !w.wrote {
		w.ResponseWriter.WriteHeader(status)
	}
	w.wrote = true
}

func (w *once) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// panicking serves a handler that acts on the session and panics, with a
// recoverer outside.
func (w *wire) panicking(cookie *http.Cookie, act func(context.Context, *session.Session)) *tcpAnswer {
	w.Helper()
	return w.serve(recoverer(new(fall), w.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		act(r.Context(), session.FromContext(r.Context()))
		fallDown()
	})))).get(cookie)
}

func TestResponseR10PanicOfANewVisitorLeavesNothing(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.panicking(nil, func(_ context.Context, s *session.Session) { _ = s.Login("alice") })
		if a.StatusCode != 500 {
			t.Errorf("status %d", a.StatusCode)
		}
		w.wantNeither(a)
	})
}

func TestResponseR10LogoutHappensInAPanic(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.row("header open", func(w *wire) {
			w.wantCleared(w.panicking(w.visitor(), func(_ context.Context, s *session.Session) {
				note.Set(s, "dropped")
				s.Destroy()
				other.Set(s, "of a new session, dropped too")
			}))
		})
		w.row("header gone", func(w *wire) {
			cookie := w.visitor()
			site := w.serve(silenced(recoverer(new(fall), w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				fmt.Fprint(rw, "page")
				session.FromContext(r.Context()).Destroy()
				fallDown()
			})))))
			w.wantNeither(site.get(cookie))
		})
		w.row("store away", func(w *wire) {
			cookie := w.visitor()
			w.storeAway("delete")
			if a := w.panicking(cookie, func(_ context.Context, s *session.Session) { s.Destroy() }); len(a.granted()) != 0 {
				w.Errorf("cookies %v although the record is there", a.granted())
			}
			if logs := w.logs.String(); !strings.Contains(logs, "level=ERROR") || !strings.Contains(logs, "a logout was not saved") {
				w.Errorf("logged %q", logs)
			}
		})
	})
}

// What Save stored before the panic is stored: its cookie goes with the error
// page, or a record without an owner would be left, and, after a Login, a
// visitor whose cookie opens nothing.
func TestResponseR10SavedBeforeThePanicKeepsItsCookie(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.panicking(w.visitor(), func(ctx context.Context, s *session.Session) {
			_ = s.Login("alice")
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
			note.Set(s, "dropped")
		})
		if user, text := w.probe(w.wantPair(a)); user != "alice" || text != "" {
			t.Errorf("stored %q, %q", user, text)
		}
	})
}

// With the recoverer inside, the manager sees an answer of 500, and that does
// not roll back.
func TestResponseR10RecovererInside(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.serve(w.m.Handler(recoverer(new(fall), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			note.Set(session.FromContext(r.Context()), "after")
			fallDown()
		})))).get(nil)
		if a.StatusCode != 500 || a.body != "recovered\n" {
			t.Errorf("status %d, body %q", a.StatusCode, a.body)
		}
		w.wantStored(w.wantPair(a), "after")
	})
}

func TestResponseR10AbortHandler(t *testing.T) {
	eachWire(t, func(w *wire) {
		returned := make(chan struct{})
		behind := w.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_ = session.FromContext(r.Context()).Login("alice")
			panic(http.ErrAbortHandler)
		}))
		site := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			defer func() {
				value := recover()
				if value != http.ErrAbortHandler {
					t.Errorf("panic value %v", value)
				}
				close(returned)
				panic(value)
			}()
			behind.ServeHTTP(rw, r)
		}))
		r := site.request("POST", nil) // which no client sends a second time
		if resp, err := site.Client().Do(r); err == nil {
			_ = resp.Body.Close()
			t.Errorf("the answer is %s, want none", resp.Status)
		}
		<-returned
		w.wantNeither(nil)
	})
}

// A goroutine of the request that saves while its handler panics must neither
// crash the process nor bring back what was dropped.
func TestResponseR10PanicDuringASave(t *testing.T) {
	eachWire(t, func(w *wire) {
		inside, fallen, saved := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		cookie := w.visitor()
		w.store.on(func(op string) error {
			if op == "save" {
				close(inside)
				<-fallen
			}
			return nil
		})
		site := w.serve(recoverer(new(fall), w.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			note.Set(s, "saved")
			go func() { saved <- s.Save(context.WithoutCancel(r.Context())) }()
			<-inside
			note.Set(s, "dropped")
			defer close(fallen)
			fallDown()
		}))))
		if a := site.get(cookie); a.StatusCode != 500 {
			t.Errorf("status %d", a.StatusCode)
		}
		if err := <-saved; err != nil {
			t.Errorf("Save: %v", err)
		}
		w.wantStored(cookie, "saved")
	})
}
