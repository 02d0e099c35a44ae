package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

// flushes are the ways in which handlers flush.
var flushes = []struct {
	name  string
	flush func(http.ResponseWriter) error
}{
	{"assertion", func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil }},
	{"controller", func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }},
	{"FlushError", func(w http.ResponseWriter) error { return w.(interface{ FlushError() error }).FlushError() }},
}

// The header that a flush sends has the cookie, and the record is there before
// the client can tcpAnswer to it, while the handler still runs.
func TestResponseR5FlushFirst(t *testing.T) {
	eachWire(t, func(w *wire) {
		for _, f := range flushes {
			w.row(f.name, func(w *wire) {
				seen := make(chan struct{})
				tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
					note.Set(session.FromContext(r.Context()), "after")
					if err := f.flush(rw); err != nil {
						t.Error(err)
					}
					<-seen
					fmt.Fprint(rw, "page")
				})
				resp := tcpSite.begin(tcpSite.request("GET", nil))
				cookie := w.wantPair(&tcpAnswer{Response: resp})
				w.wantStored(cookie, "after")
				close(seen)
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "page" {
					t.Errorf("body %q, %v", body, err)
				}
			})
		}
	})
}

// A stream changes a stored session while it runs: what is there before the
// first byte is saved before it, the rest when the handler returns, and what
// needs a cookie is refused (R7).
func TestResponseR7ServerSentEvents(t *testing.T) {
	eachWire(t, func(w *wire) {
		cookie, seen := w.visitor(), make(chan struct{})
		tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			note.Set(s, "first")
			rw.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(rw, "data: %d\n\n", i)
				if err := http.NewResponseController(rw).Flush(); err != nil {
					t.Error(err)
				}
				<-seen
				note.Set(s, fmt.Sprint("event ", i))
			}
			if err := s.Login("alice"); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("Login in a stream: %v, want ErrCommitted", err)
			}
			if err := s.Renew(); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("Renew in a stream: %v, want ErrCommitted", err)
			}
		})
		resp := tcpSite.begin(tcpSite.request("GET", cookie))
		events := bufio.NewReader(resp.Body)
		for i := range 3 {
			line, err := events.ReadString('\n')
			if err != nil || line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("event %q, %v", line, err)
			}
			w.wantStored(cookie, "first")
			if _, err := events.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			seen <- struct{}{}
		}
		if _, err := io.ReadAll(events); err != nil {
			t.Error(err)
		}
		tcpSite.Close() // waits for the handler
		if user, text := w.probe(cookie); user != "" || text != "event 2" {
			t.Errorf("stored %q, %q, want the last event and nobody logged in", user, text)
		}
	})
}

// A new session that begins after the first byte is refused as a whole, loudly.
func TestResponseR7LateSessionIsRefused(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.answerTo("GET", nil, func(*session.Session) {}, func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "page")
			note.Set(session.FromContext(r.Context()), "late")
		})
		if a.StatusCode != 200 || a.body != "page" {
			t.Errorf("status %d, body %q", a.StatusCode, a.body)
		}
		w.wantNeither(a)
		if logs := w.logs.String(); !strings.Contains(logs, "level=ERROR") || !strings.Contains(logs, "are lost") {
			t.Errorf("logged %q, want an error that says what was lost", logs)
		}
	})
}

func TestResponseR7LateDestroyDeletesTheRecord(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.answerTo("GET", w.visitor(), func(*session.Session) {}, func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "page")
			session.FromContext(r.Context()).Destroy()
		})
		if a.body != "page" {
			t.Errorf("body %q", a.body)
		}
		w.wantNeither(a)
	})
}

func TestResponseR5EarlyHintsDoNotEndTheHeader(t *testing.T) {
	eachWire(t, func(w *wire) {
		var hints []string
		tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			for _, link := range []string{"</a.css>; rel=preload", "</b.css>; rel=preload"} {
				rw.Header().Set("Link", link)
				rw.Header().Set("Set-Cookie", "__Host-sid=forged")
				rw.WriteHeader(http.StatusEarlyHints)
			}
			if err := session.FromContext(r.Context()).Login("alice"); err != nil {
				t.Error(err)
			}
			rw.WriteHeader(200)
			fmt.Fprint(rw, "page")
		})
		r := tcpSite.request("GET", nil)
		a := tcpSite.do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, " ", header.Get("Link"), header.Get("Set-Cookie")))
				return nil
			},
		})))
		if want := "[103 </a.css>; rel=preload 103 </b.css>; rel=preload]"; fmt.Sprint(hints) != want {
			t.Errorf("hints %v, want %s, without a cookie of our name (R13)", hints, want)
		}
		if a.StatusCode != 200 || a.body != "page" {
			t.Errorf("status %d, body %q", a.StatusCode, a.body)
		}
		if user, _ := w.probe(w.wantPair(a)); user != "alice" {
			t.Errorf("user %q", user)
		}
	})
}

// reached stands outside of the manager, where the server's own writer would be.
type reached struct {
	http.ResponseWriter
	readFrom func(io.Reader)
}

func (w *reached) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *reached) ReadFrom(src io.Reader) (int64, error) {
	w.readFrom(src)
	return io.Copy(w.ResponseWriter, src)
}

// A file reaches the ReadFrom of the server's writer, which is what sendfile
// takes, and the session is saved before it.
func TestResponseR5ReadFromReachesTheServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("0123456789", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, ranges string
		status, size int
		send         func(http.ResponseWriter, *http.Request, *os.File)
	}{
		{"ServeContent", "", 200, 20000, serveContent},
		{"ServeContent of a range", "bytes=10000-14999", 206, 5000, serveContent},
		{"Copy", "", 200, 20000, func(w http.ResponseWriter, _ *http.Request, f *os.File) { _, _ = io.Copy(w, f) }},
	}
	eachWire(t, func(w *wire) {
		for _, tt := range tests {
			w.row(tt.name, func(w *wire) {
				calls := 0
				tcpSite := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					spy := &reached{rw, func(src io.Reader) {
						calls++
						if _, ok := src.(*io.LimitedReader); !ok && tt.name != "Copy" {
							t.Errorf("the source became a %T", src)
						}
						if rw.Header().Get("Set-Cookie") == "" || len(w.store.live(w.T)) != 1 {
							t.Error("ReadFrom came before the save")
						}
					}}
					w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						note.Set(session.FromContext(r.Context()), "after")
						f, err := os.Open(path)
						if err != nil {
							t.Error(err)
							return
						}
						defer f.Close()
						tt.send(rw, r, f)
					})).ServeHTTP(spy, r)
				}))
				r := tcpSite.request("GET", nil)
				if tt.ranges != "" {
					r.Header.Set("Range", tt.ranges)
				}
				a := tcpSite.do(r)
				if a.StatusCode != tt.status || len(a.body) != tt.size || calls != 1 {
					t.Errorf("status %d, %d bytes, %d calls of ReadFrom", a.StatusCode, len(a.body), calls)
				}
				w.wantStored(w.wantPair(a), "after")
			})
		}
	})
}

func serveContent(w http.ResponseWriter, r *http.Request, f *os.File) {
	http.ServeContent(w, r, "file.txt", time.Time{}, f)
}

// HTTP/1.1 takes a body that ended by a deadline for a client that left: it ends
// the request's context, so this tcpAnswer could not carry a new cookie (R11).
func TestResponseR5ControllerReachesTheConnection(t *testing.T) {
	eachWire(t, func(w *wire) {
		cookie := w.visitor()
		tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			note.Set(session.FromContext(r.Context()), "after")
			control := http.NewResponseController(rw)
			if err := control.EnableFullDuplex(); err != nil {
				t.Errorf("EnableFullDuplex: %v", err)
			}
			if err := control.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
				t.Errorf("SetWriteDeadline: %v", err)
			}
			if err := control.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
				t.Errorf("SetReadDeadline: %v", err)
			}
			// The body never ends: only the deadline ends this.
			if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the body ended with %v, want the deadline", err)
			}
			fmt.Fprint(rw, "page")
		})
		body, end := io.Pipe()
		defer end.Close()
		r := tcpSite.request("POST", cookie)
		r.Body = body
		if a := tcpSite.do(r); a.body != "page" {
			t.Errorf("body %q", a.body)
		}
		w.wantStored(cookie, "after")
	})
}

// hijackThen takes the connection and answers by hand.
func hijackThen(rw http.ResponseWriter, tcpAnswer string) error {
	conn, buf, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = buf.WriteString(tcpAnswer)
	return buf.Flush()
}

const rawAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nraw"

func TestResponseR5HijackSavesWhatNeedsNoCookie(t *testing.T) {
	eachHTTP1Wire(t, func(w *wire) {
		cookie, done := w.visitor(), make(chan struct{})
		behind := w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			note.Set(s, "before the hijack")
			if err := hijackThen(rw, rawAnswer); err != nil {
				t.Error(err)
			}
			w.wantStored(cookie, "before the hijack")
			note.Set(s, "after the hijack")
			if err := s.Login("alice"); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("Login after Hijack: %v, want ErrCommitted", err)
			}
		}))
		tcpSite := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			defer close(done) // closing a server does not wait for hijacked connections
			behind.ServeHTTP(rw, r)
		}))
		if a := tcpSite.get(cookie); a.body != "raw" {
			t.Errorf("body %q", a.body)
		}
		<-done
		w.wantStored(cookie, "after the hijack")
	})
}

func TestResponseR5HijackRefusesWhatNeedsACookie(t *testing.T) {
	acts := map[string]func(context.Context, *session.Session){
		"set":            func(_ context.Context, s *session.Session) { note.Set(s, "x") },
		"login":          func(_ context.Context, s *session.Session) { _ = s.Login("alice") },
		"login and save": func(ctx context.Context, s *session.Session) { _ = s.Login("alice"); _ = s.Save(ctx) },
	}
	eachHTTP1Wire(t, func(w *wire) {
		for name, act := range acts {
			w.row(name, func(w *wire) {
				a := w.answerTo("GET", nil, func(*session.Session) {}, func(rw http.ResponseWriter, r *http.Request) {
					act(r.Context(), session.FromContext(r.Context()))
					if err := hijackThen(rw, rawAnswer); !errors.Is(err, session.ErrCommitted) {
						t.Errorf("Hijack: %v, want ErrCommitted", err)
					}
					http.Error(rw, "no upgrade", 500)
				})
				if a.StatusCode != 500 || a.body != "no upgrade\n" {
					t.Errorf("status %d, body %q", a.StatusCode, a.body)
				}
				if name == "login and save" { // stored before, so its cookie goes with the page
					w.wantPair(a)
				} else {
					w.wantNeither(a)
				}
			})
		}
	})
}

func TestResponseR5SwitchingProtocolsCarriesTheCookie(t *testing.T) {
	eachHTTP1Wire(t, func(w *wire) {
		tcpSite := w.handle(func(rw http.ResponseWriter, r *http.Request) {
			_ = session.FromContext(r.Context()).Login("alice")
			rw.Header().Set("Connection", "Upgrade")
			rw.Header().Set("Upgrade", "echo")
			rw.WriteHeader(http.StatusSwitchingProtocols)
			if err := hijackThen(rw, "hello"); err != nil {
				t.Error(err)
			}
		})
		r := tcpSite.request("GET", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		a := tcpSite.do(r)
		if a.StatusCode != 101 || a.body != "hello" {
			t.Errorf("status %d, then %q", a.StatusCode, a.body)
		}
		if user, _ := w.probe(w.wantPair(a)); user != "alice" {
			t.Errorf("user %q", user)
		}
	})
}

// Where there is nothing to hijack, the page that a handler sends instead still
// carries what it did to the session.
func TestResponseR5HijackOfHTTP2LeavesTheSessionAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		w := newWire(t, store, true)
		a := w.answerTo("GET", nil, func(s *session.Session) { _ = s.Login("alice") }, func(rw http.ResponseWriter, _ *http.Request) {
			if err := hijackThen(rw, ""); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack: %v, want http.ErrNotSupported", err)
			}
			fmt.Fprint(rw, "page")
		})
		if user, _ := w.probe(w.wantPair(a)); user != "alice" || a.body != "page" {
			t.Errorf("user %q, body %q", user, a.body)
		}
	})
}

// The header is committed to one cookie. A Login of another goroutine that
// comes while the save runs is too late, and is told so instead of being lost.
func TestResponseR7LoginDuringTheCommitIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		w := newWire(t, store, false)
		var late error
		var s *session.Session
		w.store.on(func(op string) error {
			if op == "save" && late == nil {
				late = s.Login("alice")
			}
			return nil
		})
		rec := httptest.NewRecorder()
		w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			s = session.FromContext(r.Context())
			note.Set(s, "x")
			fmt.Fprint(rw, "page")
		})).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if !errors.Is(late, session.ErrCommitted) {
			t.Errorf("Login: %v, want ErrCommitted", late)
		}
		if user, _ := w.probe(w.wantPair(&tcpAnswer{Response: rec.Result()})); user != "" {
			t.Errorf("user %q", user)
		}
	})
}
