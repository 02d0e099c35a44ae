package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

var (
	planted   = session.NewKey[string]("planted")
	surviving = session.NewKey[string]("surviving").SurvivesLogin()
)

// A clockVisitor is a browser on one manager, in virtual time.
type clockVisitor struct {
	t      *testing.T
	m      *session.Manager
	cookie *http.Cookie
}

// visit runs one request and returns its status.
func (v *clockVisitor) visit(handle func(ctx context.Context, s *session.Session)) int {
	v.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if v.cookie != nil {
		r.AddCookie(v.cookie)
	}
	w := httptest.NewRecorder()
	v.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		handle(r.Context(), v.m.FromContext(r.Context()))
	})).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		v.cookie = c
	}
	return w.Code
}

func (v *clockVisitor) login(user string) {
	v.t.Helper()
	v.visit(func(_ context.Context, s *session.Session) {
		if err := s.Login(user); err != nil {
			v.t.Error(err)
		}
	})
}

func newVisitor(t *testing.T, cfg session.Config) *clockVisitor {
	t.Helper()
	cfg.Name, cfg.Logger = "clock", quiet
	if cfg.Store == nil {
		cfg.Store = new(session.MemoryStore)
	}
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &clockVisitor{t: t, m: m}
}

// The defaults keep both limits of AAL2 (NIST SP 800-63B-4, 2.2.3): 24 hours over
// all, 1 hour of inactivity.
func TestDefaultsKeepTheLimitsOfAAL2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitor(t, session.Config{})
		v.login("alice")
		v.visit(func(_ context.Context, s *session.Session) {
			if got := time.Until(s.Expires()); got != 30*time.Minute {
				t.Errorf("an idle session ends after %v, want 30m", got)
			}
		})
		for range 60 {
			time.Sleep(12 * time.Minute)
			v.visit(func(_ context.Context, s *session.Session) { s.User() })
		}
		v.visit(func(_ context.Context, s *session.Session) {
			if s.User() != "" {
				t.Error("a busy session is alive after 12 hours")
			}
		})
	})
}

func TestL1LoginKeepsTheIDAndTellsWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitor(t, session.Config{})
		var id uuid.UUID
		v.visit(func(_ context.Context, s *session.Session) {
			surviving.Set(s, "kettle")
			id = s.ID()
		})
		before := v.cookie.Value
		time.Sleep(time.Minute)
		v.login("alice")
		if v.cookie.Value == before {
			t.Error("Login kept the secret")
		}
		v.visit(func(_ context.Context, s *session.Session) {
			if s.ID() != id {
				t.Errorf("Login changed the ID from %v to %v", id, s.ID())
			}
			if !s.AuthenticatedAt().Equal(time.Now()) || !s.Created().Equal(time.Now().Add(-time.Minute)) {
				t.Errorf("created %v, authenticated %v, now %v", s.Created(), s.AuthenticatedAt(), time.Now())
			}
		})
	})
}

// Whoever sat at the computer before may have planted any value. The process
// that logs in need not know the keys: the record says which values survive.
func TestL2LoginDropsWhatDoesNotSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitor(t, session.Config{})
		v.visit(func(_ context.Context, s *session.Session) {
			planted.Set(s, "by an earlier request")
			surviving.Set(s, "kettle")
		})
		v.visit(func(_ context.Context, s *session.Session) {
			note := session.NewKey[string]("note")
			note.Set(s, "by the same request")
			if err := s.Login("alice"); err != nil {
				t.Error(err)
			}
			other := session.NewKey[string]("other")
			other.Set(s, "after the login")
		})
		v.visit(func(_ context.Context, s *session.Session) {
			var names []string
			for name := range s.Names() {
				names = append(names, name)
			}
			if len(names) != 2 || names[0] != "other" || names[1] != "surviving" {
				t.Errorf("after the login there are %q, want other and surviving", names)
			}
		})
	})
}

func TestL3LoginAsAnotherUserKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := newVisitor(t, session.Config{Store: store})
		v.login("alice")
		var id uuid.UUID
		v.visit(func(_ context.Context, s *session.Session) {
			surviving.Set(s, "alice's")
			id = s.ID()
		})
		v.login("bob")
		v.visit(func(_ context.Context, s *session.Session) {
			if _, found := surviving.Lookup(s); found || s.ID() == id || s.User() != "bob" {
				t.Errorf("bob has %q, ID new %t, user %q", surviving.Get(s), s.ID() != id, s.User())
			}
		})
		if n := store.Len(); n != 1 {
			t.Errorf("%d records, want one", n)
		}
	})
}

// A Login with a replaced secret used to give its handler one ID and to store the
// session under another.
func TestL4LoginWithAReplacedSecretAnnouncesItsID(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	old := v.tab()
	v.visit(func(s *session.Session) { s.Renew() })
	var announced uuid.UUID
	old.visit(func(s *session.Session) { s.Login("alice"); announced = s.ID() })
	old.visit(func(s *session.Session) {
		if s.ID() != announced || s.User() != "alice" {
			t.Errorf("L4: Login announced %v, stored is %v of %q", announced, s.ID(), s.User())
		}
	})
}

// A Login that began anew, because its session had ended, used to be reported as
// merged with another request's changes.
func TestL4LoginThatBeginsAnewIsNoMerge(t *testing.T) {
	var events eventLog
	v := &guest{t: t, manager: newManager(t, session.Config{OnEvent: events.note})}
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	v.tab().visit(func(s *session.Session) {
		s.User()
		v.visit(func(s *session.Session) { s.Destroy() })
		s.Login("alice")
	})
	if events.count(session.EventConflictMerged) != 0 || events.count(session.EventLogin) != 1 {
		t.Errorf("L4: events %v", events.events)
	}
}
