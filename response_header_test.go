package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

// What reaches the header of a response by ways around the wrapper: a map that a
// handler kept, a key in another spelling, a writer that buffers (R6, R13).

// buffered serves one request behind a writer that copies the header out only
// when the handler has returned, as many middlewares do.
func buffered(m *session.Manager, handle http.HandlerFunc) *http.Response {
	w := httptest.NewRecorder()
	http.TimeoutHandler(m.Handler(handle), time.Hour, "").ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return w.Result()
}

// A buffer used to send what a handler put into the header after its first Write,
// another session cookie and a Cache-Control for everyone included.
func TestResponseR13HeaderBehindABufferIsSettled(t *testing.T) {
	resp := buffered(newManager(t, session.Config{}), func(w http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Login("alice")
		fmt.Fprint(w, "hello")
		http.SetCookie(w, &http.Cookie{Name: "__Host-sid", Value: "evil"})
		w.Header().Set("Cache-Control", "public")
	})
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Value == "evil" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("R12, R13: cookies %v, Cache-Control %q", cookies, resp.Header.Get("Cache-Control"))
	}
}

// A header map kept from before a failed save used to reach the error page's header.
func TestResponseR6KeptHeaderDoesNotReachTheErrorPage(t *testing.T) {
	resp := buffered(newManager(t, session.Config{}), func(w http.ResponseWriter, r *http.Request) {
		kept := w.Header()
		nameKey.Set(session.FromContext(r.Context()), "\xff")
		fmt.Fprint(w, "hello")
		kept.Set("Location", "/account/deleted")
		kept.Set("Cache-Control", "public, max-age=3600")
	})
	if resp.StatusCode != http.StatusInternalServerError || resp.Header.Get("Location") != "" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("R6, R12: status %d, header %v", resp.StatusCode, resp.Header)
	}
}

// A Set-Cookie under a key that is not in canonical form used to be sent beside ours.
func TestResponseR13KeyInAnotherSpelling(t *testing.T) {
	m := newManager(t, session.Config{})
	server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Login("alice")
		w.Header()["set-cookie"] = []string{"__Host-sid=evil; Path=/; Secure"}
	})))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if cookies := resp.Cookies(); len(cookies) != 1 || cookies[0].Value == "evil" {
		t.Errorf("R13: %q", resp.Header["Set-Cookie"])
	}
}

// Nor may it hide behind a line break, which net/http sends as a space, and trims.
func TestResponseR13NameWithALineBreak(t *testing.T) {
	for _, line := range []string{"\n__Host-sid=evil", "\r\n__Host-sid=evil", "__Host-sid\n=evil", " \r__Host-sid\t\n=evil"} {
		m := newManager(t, session.Config{})
		server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session.FromContext(r.Context()).Login("alice")
			w.Header().Add("Set-Cookie", line)
		})))
		resp, err := server.Client().Get(server.URL)
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if lines := resp.Header["Set-Cookie"]; len(lines) != 1 || strings.Contains(lines[0], "evil") {
			t.Errorf("R13: %q", lines)
		}
	}
}

// A status that net/http panics at used to be found out after the session had been
// stored.
func TestResponseR10InvalidStatusStoresNothing(t *testing.T) {
	for _, status := range []int{0, 99, 1000} {
		v, _, records := newStalled(t, session.Config{})
		server := httptest.NewUnstartedServer(v.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			nameKey.Set(session.FromContext(r.Context()), "x")
			w.WriteHeader(status)
		})))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		resp, err := server.Client().Get(server.URL)
		if err == nil {
			resp.Body.Close()
		}
		server.Close()
		if err == nil || records.Len() != 0 {
			t.Errorf("R10: WriteHeader(%d): error %v, %d records", status, err, records.Len())
		}
	}
}

// Two managers that write one cookie used to be noticed only when nothing was
// between them, and otherwise each stripped the other's cookie.
func TestResponseR13SameCookieWithAManagerBetween(t *testing.T) {
	named := func(cookie string) *session.Manager {
		return newManager(t, session.Config{Cookie: session.Cookie{Name: cookie}})
	}
	a, b, again := named("__Host-a"), named("__Host-b"), named("__Host-a")
	w := httptest.NewRecorder()
	panicked := recovered(func() {
		a.Handler(b.Handler(again.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			session.FromContext(r.Context()).Login("alice")
		})))).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	})
	if panicked == nil {
		t.Errorf("R13: no panic; status %d, cookies %v", w.Code, w.Result().Cookies())
	}
}

// An ErrorHandler that panics must not keep the session from its next request.
func TestResponseR6ErrorHandlerMayPanic(t *testing.T) {
	m := newManager(t, session.Config{ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	if panicked := recovered(func() { v.visit(func(s *session.Session) { nameKey.Set(s, "\xff") }) }); panicked != http.ErrAbortHandler {
		t.Errorf("R6: recovered %v", panicked)
	}
	if w := v.visit(func(s *session.Session) { countKey.Set(s, 2) }); w.Code != http.StatusOK {
		t.Errorf("R6: the next request was answered %d", w.Code)
	}
}

// While a store's context is alive it has no cause, whatever became of the
// request's: a client that looks at the cause would refuse the save.
func TestResponseR11StoreContextHasNoCauseWhileItLives(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	v := &guest{t: t, manager: newManager(t, session.Config{Store: spy})}
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	spy.inSave = func(ctx context.Context) error {
		if ctx.Err() == nil {
			return context.Cause(ctx)
		}
		return ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	r.Header.Set("Cookie", v.cookie)
	w := httptest.NewRecorder()
	v.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		countKey.Set(session.FromContext(r.Context()), 2)
		cancel(errors.New("the client left"))
	})).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("R11: status %d", w.Code)
	}
}
