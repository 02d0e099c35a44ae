package sessiontest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

var (
	cart = session.NewKey[[]string]("cart").SurvivesLogin()
	role = session.NewKey[string]("role")
	hits = session.NewKey[int]("hits")
)

func login(t testing.TB, s *session.Session, user string) {
	t.Helper()
	if err := s.Login(user); err != nil {
		t.Fatal(err)
	}
}

func TestContextWithoutSetupIsAnonymous(t *testing.T) {
	s := session.FromContext(sessiontest.Context(t.Context(), nil))
	if s.ID() != uuid.Nil || s.User() != "" || !s.IsNew() {
		t.Errorf("ID %v, user %q, new %t; want none, none, true", s.ID(), s.User(), s.IsNew())
	}
	for name := range s.Names() {
		t.Errorf("a value %q", name)
	}
}

// A setup that does nothing leaves the same as none.
func TestContextWithEmptySetupIsAnonymous(t *testing.T) {
	s := session.FromContext(sessiontest.Context(t.Context(), func(*session.Session) {}))
	if s.ID() != uuid.Nil || !s.IsNew() {
		t.Errorf("ID %v, new %t; want none, true", s.ID(), s.IsNew())
	}
}

// What setup did is there as if an earlier request had stored it: with an ID,
// and not new.
func TestContextIsAsAfterAnEarlierRequest(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	s := session.FromContext(sessiontest.Context(t.Context(), func(s *session.Session) {
		role.Set(s, "planted")
		cart.Set(s, []string{"kettle"})
		login(t, s, "alice")
		hits.Set(s, 7)
	}))
	if s.ID() == uuid.Nil || s.IsNew() || s.User() != "alice" {
		t.Errorf("ID %v, new %t, user %q; want one, false, alice", s.ID(), s.IsNew(), s.User())
	}
	if at := s.AuthenticatedAt(); at.Before(before) || at.After(time.Now()) {
		t.Errorf("authenticated at %v, not between %v and now", at, before)
	}
	if _, found := role.Lookup(s); found || len(cart.Get(s)) != 1 || hits.Get(s) != 7 {
		t.Errorf("role %q, cart %q, hits %d; want what Login leaves (L2)", role.Get(s), cart.Get(s), hits.Get(s))
	}
}

func TestContextSaves(t *testing.T) {
	ctx := sessiontest.Context(t.Context(), func(s *session.Session) { hits.Set(s, 1) })
	s := session.FromContext(ctx)
	n, err := hits.UpdateNow(ctx, s, func(n int) int { return n + 1 })
	if n != 2 || err != nil {
		t.Errorf("UpdateNow: %d, %v; want 2", n, err)
	}
	cart.Set(s, []string{"kettle"})
	if err := s.Save(ctx); err != nil {
		t.Errorf("Save: %v", err)
	}
	role.Set(s, strings.Repeat("x", 40<<10))
	var failed *session.Error
	if err := s.Save(ctx); !errors.As(err, &failed) || failed.Op != "encode" {
		t.Errorf("Save of a value that is too large: %v; want an Error of op encode", err)
	}
	if hits.Get(s) != 2 || len(cart.Get(s)) != 1 {
		t.Error("a refused save took what was saved before")
	}
}

func TestContextLogsInAndOut(t *testing.T) {
	ctx := sessiontest.Context(t.Context(), func(s *session.Session) { login(t, s, "alice") })
	s := session.FromContext(ctx)
	s.Destroy()
	if s.User() != "" || s.ID() != uuid.Nil {
		t.Errorf("after Destroy: user %q, ID %v", s.User(), s.ID())
	}
	login(t, s, "bob")
	if err := s.Save(ctx); err != nil || s.User() != "bob" {
		t.Errorf("after Login: user %q, %v", s.User(), err)
	}
}

// The context goes on to be the parent's, and two of them share nothing.
func TestContextsAreApart(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	one := sessiontest.Context(parent, func(s *session.Session) { login(t, s, "alice") })
	two := sessiontest.Context(parent, nil)
	if session.FromContext(one) == session.FromContext(two) || session.FromContext(two).User() != "" {
		t.Error("two contexts share a session")
	}
	if one.Value(key{}) != "value" {
		t.Error("the parent's values are gone")
	}
	cancel()
	if one.Err() == nil {
		t.Error("the parent's end did not reach the context")
	}
}

func newManager(t testing.TB, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A handler that is run through the middleware sees the visitor that Cookie
// made, whatever the configuration.
func TestCookieOpensItsSession(t *testing.T) {
	for name, cfg := range map[string]session.Config{
		"default":   {},
		"named":     {Store: new(session.MemoryStore), Name: "shop", Cookie: session.Cookie{Name: "__Host-shop", Persist: true}},
		"path":      {Cookie: session.Cookie{Path: "/app"}},
		"plainhttp": {Cookie: session.Cookie{InsecureHTTP: true}},
		"skip":      {Skip: func(r *http.Request) bool { return r.Method != http.MethodGet }},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, cfg)
			cookie := sessiontest.Cookie(t, m, func(s *session.Session) {
				login(t, s, "alice")
				cart.Set(s, []string{"kettle"})
			})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.AddCookie(cookie)
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s := m.FromContext(r.Context())
				if s.User() != "alice" || s.IsNew() || len(cart.Get(s)) != 1 {
					t.Errorf("user %q, new %t, cart %q", s.User(), s.IsNew(), cart.Get(s))
				}
			})).ServeHTTP(w, r)
			if got := w.Header().Get("Set-Cookie"); got != "" {
				t.Errorf("Set-Cookie %q; want none, the session is stored already", got)
			}
		})
	}
}

// Two visitors are two sessions.
func TestCookiesAreApart(t *testing.T) {
	m := newManager(t, session.Config{})
	setup := func(s *session.Session) { hits.Set(s, 1) }
	if a, b := sessiontest.Cookie(t, m, setup), sessiontest.Cookie(t, m, setup); a.Value == b.Value {
		t.Error("two visitors have one cookie")
	}
}

// fakeT notes that a test would have ended.
type fakeT struct {
	testing.TB
	said string
}

func (t *fakeT) Helper() {}

func (t *fakeT) Fatalf(format string, _ ...any) {
	t.said = format
	runtime.Goexit()
}

// A visitor without a session has no cookie, and a store that is away gives
// none: both end the test with a sentence.
func TestCookieEndsTheTestWithoutASession(t *testing.T) {
	quiet := func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	away := newManager(t, session.Config{Store: awayStore{}, Name: "test", StoreTimeout: 50 * time.Millisecond, ErrorHandler: quiet, OnEvent: nil})
	for name, run := range map[string]func(t testing.TB){
		"nothing to store": func(t testing.TB) { sessiontest.Cookie(t, newManager(t, session.Config{}), func(*session.Session) {}) },
		"store away":       func(t testing.TB) { sessiontest.Cookie(t, away, func(s *session.Session) { hits.Set(s, 1) }) },
	} {
		t.Run(name, func(t *testing.T) {
			fake := &fakeT{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				run(fake)
				t.Error("the test went on")
			}()
			<-done
			if !strings.HasPrefix(fake.said, "sessiontest: ") {
				t.Errorf("it said %q", fake.said)
			}
		})
	}
}

var errAway = errors.New("away")

type awayStore struct{}

func (awayStore) Load(context.Context, uuid.UUID) (session.Record, error) {
	return session.Record{}, errAway
}

func (awayStore) Save(context.Context, uuid.UUID, uint64, session.Record, time.Duration) (session.Record, error) {
	return session.Record{}, errAway
}

func (awayStore) Touch(context.Context, uuid.UUID, uint64, time.Duration) error { return errAway }

func (awayStore) Delete(context.Context, uuid.UUID, uint64) error { return errAway }
