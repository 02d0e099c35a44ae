package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

// failures are the reasons for which a save fails, with the status that the
// default error handler answers.
var failures = []struct {
	name   string
	status int
	is     func(error) bool
	away   string // the call that the store fails
	cause  func(w *wire, r *http.Request)
}{
	{"store away", 503, func(err error) bool { return hasOp(err, "save") && errors.Is(err, errAway) }, "save", func(_ *wire, r *http.Request) {
		note.Set(session.FromContext(r.Context()), "after")
	}},
	{"logout not stored", 503, func(err error) bool { return hasOp(err, "delete") && errors.Is(err, errAway) }, "delete", func(_ *wire, r *http.Request) {
		session.FromContext(r.Context()).Destroy()
	}},
	{"not encodable", 500, func(err error) bool { return hasOp(err, "encode") }, "", func(_ *wire, r *http.Request) {
		ratio.Set(session.FromContext(r.Context()), math.NaN())
	}},
	{"too large", 500, func(err error) bool { return hasOp(err, "encode") }, "", func(_ *wire, r *http.Request) {
		note.Set(session.FromContext(r.Context()), strings.Repeat("x", 40<<10))
	}},
	{"ended meanwhile", 409, func(err error) bool { return errors.Is(err, session.ErrEnded) }, "", func(w *wire, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := w.m.RevokeAny(r.Context(), s.ID()); err != nil {
			w.Error(err)
		}
		note.Set(s, "after")
	}},
}

func hasOp(err error, op string) bool {
	var e *session.Error
	return errors.As(err, &e) && e.Op == op
}

// moments are where a handler meets the failure. Each returns what the writer
// told it, nil if that method tells nothing.
var moments = []struct {
	name  string
	tells bool
	write func(http.ResponseWriter, *http.Request) error
}{
	{"write", true, func(w http.ResponseWriter, _ *http.Request) error { _, err := fmt.Fprint(w, "PAGE"); return err }},
	{"string", true, func(w http.ResponseWriter, _ *http.Request) error { _, err := io.WriteString(w, "PAGE"); return err }},
	{"reader", true, func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.Copy(w, onlyReader("PAGE"))
		return err
	}},
	{"first flush", true, func(w http.ResponseWriter, _ *http.Request) error { return http.NewResponseController(w).Flush() }},
	{"status", false, func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(201); return nil }},
	{"redirect", false, func(w http.ResponseWriter, r *http.Request) error { http.Redirect(w, r, "/PAGE", 303); return nil }},
	{"return", false, func(http.ResponseWriter, *http.Request) error { return nil }},
}

// outside sets a header, as a middleware around the manager does.
func outside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}

func TestResponseR6FailedSaveIsNotAPage(t *testing.T) {
	eachWire(t, func(w *wire) {
		for _, f := range failures {
			for _, m := range moments {
				w.row(f.name+"/"+m.name, func(w *wire) {
					var told, again error
					cookie := w.visitor()
					if f.away != "" {
						w.storeAway(f.away)
					}
					site := w.serve(outside(w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						f.cause(w, r)
						setPageHeader(rw.Header())
						told = m.write(rw, r)
						if m.name != "return" {
							again = writeMore(rw)
						}
					}))))
					a := site.get(cookie)
					wantNoPage(w, a, f.status)
					if m.tells && !f.is(told) || m.name != "return" && !f.is(again) {
						w.Errorf("the handler was told %v, then %v", told, again)
					}
				})
			}
		}
	})
}

// setPageHeader sets what belongs to the page and must not go with an error.
func setPageHeader(h http.Header) {
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Content-Type", "text/PAGE")
	h.Set("Content-Length", "4")
	h.Set("ETag", `"PAGE"`)
	h.Set("Location", "/PAGE")
	http.SetCookie(rwHeader{h}, &http.Cookie{Name: "theme", Value: "PAGE"})
}

// rwHeader is as much of a ResponseWriter as http.SetCookie needs.
type rwHeader struct{ header http.Header }

func (w rwHeader) Header() http.Header      { return w.header }
func (rwHeader) Write([]byte) (int, error)  { return 0, http.ErrNotSupported }
func (rwHeader) WriteHeader(statusCode int) {}

// writeMore goes on as if nothing had happened.
func writeMore(w http.ResponseWriter) error {
	setPageHeader(w.Header())
	w.WriteHeader(http.StatusProcessing)
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
		return errors.New("Hijack gave the connection away")
	}
	_, err := fmt.Fprint(w, "PAGE")
	return err
}

func wantNoPage(w *wire, a *tcpAnswer, status int) {
	w.Helper()
	if a.StatusCode != status {
		w.Errorf("status %d, want %d", a.StatusCode, status)
	}
	if all := fmt.Sprint(a.Header, a.body); strings.Contains(all, "PAGE") || strings.Contains(all, "SAMEORIGIN") {
		w.Errorf("a part of the page was sent: %s", all)
	}
	if len(a.Header["Set-Cookie"]) != 0 {
		w.Errorf("Set-Cookie %q", a.Header["Set-Cookie"])
	}
	if got := a.Header.Get("X-Frame-Options"); got != "DENY" {
		w.Errorf("X-Frame-Options %q, want what the middleware outside had set", got)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		w.Errorf("Cache-Control %q: the error page can be cached", got)
	}
	if (a.Header.Get("Retry-After") != "") != (status == 503) {
		w.Errorf("Retry-After %q with status %d", a.Header.Get("Retry-After"), status)
	}
}

// A writer that buffers keeps the header open; what the handler sets after the
// failed save must not reach it either.
func TestResponseR6FailedSaveBehindABuffer(t *testing.T) {
	eachWire(t, func(w *wire) {
		site := w.serve(outside(http.TimeoutHandler(w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			ratio.Set(session.FromContext(r.Context()), math.NaN())
			fmt.Fprint(rw, "PAGE")
			setPageHeader(rw.Header())
			fmt.Fprint(rw, "PAGE")
		})), time.Hour, "")))
		wantNoPage(w, site.get(nil), 500)
	})
}

func TestResponseR6FailureCancelsTheContext(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.storeAway("save")
		site := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			type key struct{}
			before, stop := context.WithCancel(context.WithValue(r.Context(), key{}, "value"))
			defer stop()
			plain := context.WithValue(r.Context(), key{}, "value")
			note.Set(session.FromContext(r.Context()), "after")
			_, err := fmt.Fprint(rw, "PAGE")
			after, stop := context.WithTimeout(r.Context(), time.Hour)
			defer stop()
			for name, ctx := range map[string]context.Context{"the request's": r.Context(), "derived before": before, "with a value": plain, "derived after": after} {
				<-ctx.Done()
				if ctx.Err() != context.Canceled || context.Cause(ctx) != err || !errors.Is(err, errAway) {
					t.Errorf("context %s: %v because of %v, want the error of Write, %v", name, ctx.Err(), context.Cause(ctx), err)
				}
			}
			if ctx := context.WithoutCancel(r.Context()); ctx.Err() != nil || ctx.Done() != nil {
				t.Error("a context without cancellation was cancelled")
			}
		})
		if a := site.get(nil); a.StatusCode != 503 {
			t.Errorf("status %d", a.StatusCode)
		}
	})
}

// After the header there is no page to take back: the failure is logged, and
// nothing of it is stored.
func TestResponseR7FailureAfterTheHeader(t *testing.T) {
	eachWire(t, func(w *wire) {
		for _, f := range failures {
			w.row(f.name, func(w *wire) {
				cookie := w.visitor()
				if f.away != "" {
					w.storeAway(f.away)
				}
				site := w.handle(func(rw http.ResponseWriter, r *http.Request) {
					fmt.Fprint(rw, "page")
					f.cause(w, r)
					if _, err := fmt.Fprint(rw, " to the end"); err != nil {
						w.Error(err)
					}
				})
				a := site.get(cookie)
				if a.StatusCode != 200 || a.body != "page to the end" || len(a.granted()) != 0 {
					w.Errorf("status %d, body %q, cookies %v", a.StatusCode, a.body, a.granted())
				}
				if logs := w.logs.String(); !strings.Contains(logs, "level=ERROR") || !strings.Contains(logs, "are lost") {
					w.Errorf("logged %q, want an error that says what was lost", logs)
				}
				w.store.on(nil)
				if _, text := w.probe(cookie); text == "after" || len(text) > 100 {
					w.Errorf("stored %.20q", text)
				}
			})
		}
	})
}

// The error handler gets the request as it came, and its answer is the answer.
func TestResponseR6ErrorHandlerAnswers(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.configure(session.Config{ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, errAway) || r.Context().Err() != nil {
				t.Errorf("the error handler got %v, and a context that ended with %v", err, r.Context().Err())
			}
			rw.Header().Set("Content-Type", "text/html")
			rw.WriteHeader(502)
			fmt.Fprint(rw, "<p>sorry</p>")
		}})
		w.storeAway("save")
		a := w.answerTo("GET", nil, func(s *session.Session) { note.Set(s, "x") }, func(rw http.ResponseWriter, _ *http.Request) {
			setPageHeader(rw.Header())
			fmt.Fprint(rw, "PAGE")
		})
		if a.StatusCode != 502 || a.body != "<p>sorry</p>" || a.Header.Get("Content-Type") != "text/html" || a.Header.Get("ETag") != "" {
			t.Errorf("status %d, body %q, header %v", a.StatusCode, a.body, a.Header)
		}
	})
}

// An error handler that writes nothing is answered for: an empty 200 would look
// like success.
func TestResponseR6SilentErrorHandler(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.configure(session.Config{ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}})
		w.storeAway("save")
		a := w.answerTo("GET", nil, func(s *session.Session) { note.Set(s, "x") }, func(http.ResponseWriter, *http.Request) {})
		if a.StatusCode != 503 {
			t.Errorf("status %d", a.StatusCode)
		}
		w.wantNeither(a)
	})
}

// gone asks as the visitor, and leaves when the handler says so. Over TLS the server
// hears of that before the client has closed the connection, so that an answer which
// comes at once may still be taken: what the client gets is not asked.
func (s *tcpSite) gone(cookie *http.Cookie, leave <-chan struct{}) {
	s.w.Helper()
	r := s.request("GET", cookie)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { <-leave; cancel() }()
	if resp, err := s.Client().Do(r.WithContext(ctx)); err == nil {
		_ = resp.Body.Close()
	}
}

func TestResponseR11ClientGoneBeforeTheEnd(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.row("no secret is minted", func(w *wire) {
			leave, done := make(chan struct{}), make(chan error, 1)
			site := w.handle(func(rw http.ResponseWriter, r *http.Request) {
				close(leave)
				<-r.Context().Done()
				_ = session.FromContext(r.Context()).Login("alice")
				_, err := fmt.Fprint(rw, "page")
				done <- err
			})
			site.gone(nil, leave)
			if err := <-done; !hasOp(err, "save") || !errors.Is(err, context.Canceled) {
				w.Errorf("Write: %v, want that nobody is there", err)
			}
			w.wantNeither(nil)
		})
		w.row("a change is saved", func(w *wire) {
			leave, done, cookie := make(chan struct{}), make(chan error, 1), w.visitor()
			site := w.handle(func(rw http.ResponseWriter, r *http.Request) {
				close(leave)
				<-r.Context().Done()
				note.Set(session.FromContext(r.Context()), "after")
				done <- http.NewResponseController(rw).Flush()
			})
			site.gone(cookie, leave)
			<-done // what Flush tells is about the connection
			w.wantStored(cookie, "after")
		})
	})
}

func TestResponseR11ClientGoneDuringTheCommit(t *testing.T) {
	eachWire(t, func(w *wire) {
		leave, done, cookie := make(chan struct{}), make(chan struct{}), w.visitor()
		var ctx context.Context
		w.store.on(func(op string) error {
			if op == "save" {
				close(leave)
				<-ctx.Done()
			}
			return nil
		})
		site := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			defer close(done)
			ctx = r.Context()
			note.Set(session.FromContext(r.Context()), "after")
			rw.WriteHeader(200)
		})
		site.gone(cookie, leave)
		<-done
		w.wantStored(cookie, "after")
	})
}

// http.TimeoutHandler outside: whoever is too late finds the client answered,
// and leaves no orphan behind.
func TestResponseR11TimeoutHandlerOutside(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.row("too late", func(w *wire) {
			done := make(chan error, 1)
			site := w.serve(http.TimeoutHandler(w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				_ = session.FromContext(r.Context()).Login("alice")
				_, err := fmt.Fprint(rw, "page")
				done <- err
			})), time.Millisecond, "too slow"))
			a := site.get(nil)
			if a.StatusCode != 503 || a.body != "too slow" {
				w.Errorf("status %d, body %q", a.StatusCode, a.body)
			}
			if err := <-done; !hasOp(err, "save") || !errors.Is(err, context.DeadlineExceeded) {
				w.Errorf("Write: %v, want that nobody is there", err)
			}
			w.wantNeither(a)
		})
		w.row("in time", func(w *wire) {
			site := w.serve(http.TimeoutHandler(w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_ = session.FromContext(r.Context()).Login("alice")
				fmt.Fprint(rw, "page")
			})), time.Hour, ""))
			a := site.get(nil)
			if user, _ := w.probe(w.wantPair(a)); user != "alice" || a.body != "page" {
				w.Errorf("user %q, body %q", user, a.body)
			}
		})
	})
}

// http.TimeoutHandler inside: the save comes when the answer is copied out. If
// that is the 503, what the handler did until then goes with it, as with any
// error page (R10), cookie and record both; what it does later is refused (R14).
func TestResponseR5TimeoutHandlerInside(t *testing.T) {
	eachWire(t, func(w *wire) {
		w.row("in time", func(w *wire) {
			site := w.serve(w.m.Handler(http.TimeoutHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				note.Set(session.FromContext(r.Context()), "after")
				fmt.Fprint(rw, "page")
				if got := w.store.live(w.T); len(got) != 0 {
					w.Errorf("records %v were saved before the answer was copied out", got)
				}
			}), time.Hour, "")))
			a := site.get(nil)
			w.wantStored(w.wantPair(a), "after")
		})
		w.row("too late", func(w *wire) {
			limit := time.Millisecond
			for !timedOutInside(newWire(w.T, w.store.Store, w.http2), limit) {
				if limit *= 4; limit > time.Minute { // a busy machine had not come to what is to be in time
					w.Fatalf("the handler did nothing within %v", limit/4)
				}
			}
		})
	})
}

// timedOutInside reports false if the handler was too late from the beginning.
func timedOutInside(w *wire, limit time.Duration) (begunInTime bool) {
	answered, refused := make(chan struct{}), make(chan error, 1)
	site := w.serve(w.m.Handler(http.TimeoutHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		note.Set(s, "in time")
		begunInTime = r.Context().Err() == nil
		<-r.Context().Done()
		<-answered
		note.Set(s, "too late")
		other.Set(s, "too late")
		_, _ = fmt.Fprint(rw, "page")
		refused <- s.Login("alice")
	}), limit, "too slow")))
	a := site.get(nil)
	close(answered)
	if a.StatusCode != 503 || a.body != "too slow" {
		w.Errorf("status %d, body %q", a.StatusCode, a.body)
	}
	if err := <-refused; err == nil {
		w.Error("Login after the request's end returned no error")
	}
	if !begunInTime {
		return false
	}
	user, text := w.probe(w.wantPair(a))
	if user != "" || text != "in time" {
		w.Errorf("stored %q, %q, want what was done in time, and no more", user, text)
	}
	return true
}
