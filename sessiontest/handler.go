package sessiontest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/detached"
)

// Context returns a context in which [session.FromContext] finds a session, for
// the unit test of a handler: no middleware, no store to set up. What setup does
// to the session is there as if an earlier request had stored it; nil leaves an
// anonymous visitor. Save and UpdateNow work, and nothing is ever sent. It panics
// if what setup did cannot be stored: a value that cannot be encoded, or a ctx
// that is done.
//
//	r := httptest.NewRequest("POST", "/cart", nil)
//	r = r.WithContext(sessiontest.Context(r.Context(), func(s *session.Session) { s.Login("alice") }))
func Context(ctx context.Context, setup func(*session.Session)) context.Context {
	if setup == nil {
		return detached.New(ctx, nil)
	}
	return detached.New(ctx, func(ctx context.Context) { setup(session.FromContext(ctx)) })
}

// Cookie returns the cookie of a visitor whose session is what setup made of it,
// stored in m's store, for tests that go through the middleware: add it to a
// request or a cookie jar. It ends the test if setup leaves nothing to store.
func Cookie(t testing.TB, m *session.Manager, setup func(*session.Session)) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		setup(m.FromContext(r.Context()))
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://example.com/", nil))
	cookies := w.Result().Cookies()
	if w.Code != http.StatusOK || len(cookies) == 0 {
		t.Fatalf("sessiontest: no cookie, status %d: setup must set a value or call Login, and the store must be there", w.Code)
	}
	return cookies[0]
}
