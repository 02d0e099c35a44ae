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

// is checks who the visitor is, which is a request of theirs.
func (v *clockVisitor) is(user string) {
	v.t.Helper()
	v.visit(func(_ context.Context, s *session.Session) {
		if s.User() != user {
			v.t.Errorf("the visitor is %q, want %q", s.User(), user)
		}
	})
}

func newClockVisitor(t *testing.T, cfg session.Config) *clockVisitor {
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

// immortalStore ignores every ttl, as a broken store would.
type immortalStore struct{ session.MemoryStore }

const ages = 400 * 24 * time.Hour

func (s *immortalStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, _ time.Duration) (session.Record, error) {
	return s.MemoryStore.Save(ctx, id, prev, next, ages)
}

func (s *immortalStore) Touch(ctx context.Context, id uuid.UUID, version uint64, _ time.Duration) error {
	return s.MemoryStore.Touch(ctx, id, version, ages)
}

// busy makes a request each minute for d.
func (v *clockVisitor) busy(d time.Duration, handle func(context.Context, *session.Session)) {
	v.t.Helper()
	for range d / time.Minute {
		time.Sleep(time.Minute)
		v.visit(handle)
	}
}

func TestE3LifetimeEndsTheBusiestSession(t *testing.T) {
	for name, store := range map[string]session.Store{"memory": new(session.MemoryStore), "store that ignores ttl": new(immortalStore)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newClockVisitor(t, session.Config{Store: store, Lifetime: time.Hour, IdleTimeout: 10 * time.Minute})
				v.login("alice")
				v.busy(59*time.Minute, func(_ context.Context, s *session.Session) { planted.Set(s, time.Now().String()) })
				v.is("alice")
				time.Sleep(time.Minute - 2*time.Millisecond)
				v.is("alice")
				time.Sleep(2 * time.Millisecond)
				v.is("")
			})
		})
	}
}

// A commit that comes after the end stores nothing: not for ever, and not at all.
func TestE3CommitAfterTheLifetimeStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := newClockVisitor(t, session.Config{Store: store, Lifetime: time.Hour})
		v.login("alice")
		time.Sleep(29 * time.Minute)
		v.is("alice")
		time.Sleep(29 * time.Minute)
		if status := v.visit(func(_ context.Context, s *session.Session) {
			time.Sleep(3 * time.Minute)
			planted.Set(s, "late")
		}); status != http.StatusConflict {
			t.Errorf("status %d, want 409: the session ended while the request ran", status)
		}
		v.is("")
		time.Sleep(time.Minute)
		if n := store.Len(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

func TestE5OnlyLoginRestartsTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newClockVisitor(t, session.Config{Lifetime: time.Hour, IdleTimeout: time.Hour})
		v.login("alice")
		time.Sleep(50 * time.Minute)
		v.visit(func(ctx context.Context, s *session.Session) {
			if err := s.Renew(); err != nil {
				t.Error(err)
			}
			planted.Set(s, "busy")
		})
		time.Sleep(10 * time.Minute)
		v.is("") // Renew did not extend it

		v.login("alice")
		time.Sleep(50 * time.Minute)
		v.login("alice")
		time.Sleep(50 * time.Minute)
		v.is("alice")
		time.Sleep(10 * time.Minute)
		v.is("")
	})
}

func TestE5LoweredLifetimeReachesLiveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := newClockVisitor(t, session.Config{Store: store, Lifetime: 2 * time.Hour, IdleTimeout: time.Hour})
		v.login("alice")
		short := newClockVisitor(t, session.Config{Store: store, Lifetime: 30 * time.Minute})
		short.cookie = v.cookie
		time.Sleep(20 * time.Minute)
		short.is("alice")
		time.Sleep(10 * time.Minute)
		short.is("")
	})
}

func TestE5RaisedLifetimeDoesNotReachLiveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := newClockVisitor(t, session.Config{Store: store, Lifetime: time.Hour, IdleTimeout: time.Hour})
		v.login("alice")
		long := newClockVisitor(t, session.Config{Store: store, Lifetime: 9 * time.Hour, IdleTimeout: 9 * time.Hour})
		long.cookie = v.cookie
		time.Sleep(30 * time.Minute)
		long.is("alice")
		time.Sleep(30 * time.Minute)
		long.is("")
	})
}

func TestE5LoweredIdleTimeoutReachesLiveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := newClockVisitor(t, session.Config{Store: store, IdleTimeout: time.Hour})
		v.login("alice")
		short := newClockVisitor(t, session.Config{Store: store, IdleTimeout: 10 * time.Minute})
		short.cookie = v.cookie
		short.is("alice")
		time.Sleep(10 * time.Minute)
		short.is("")
	})
}

// The idle timeout counts from the last request, to within a tenth: it may end
// early by that much, never late (R4, E4).
func TestR4IdleTimeoutEndsWithinATenth(t *testing.T) {
	for _, quietFor := range []time.Duration{0, 30 * time.Second, 59 * time.Second, time.Minute, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			const idle = 10 * time.Minute
			v := newClockVisitor(t, session.Config{IdleTimeout: idle})
			v.login("alice")
			time.Sleep(quietFor)
			v.is("alice") // the last request
			time.Sleep(idle - idle/10)
			v.is("alice")
		})
		synctest.Test(t, func(t *testing.T) {
			const idle = 10 * time.Minute
			v := newClockVisitor(t, session.Config{IdleTimeout: idle})
			v.login("alice")
			time.Sleep(quietFor)
			v.is("alice")
			time.Sleep(idle)
			v.is("")
		})
	}
}

func TestL1LoginKeepsTheIDAndTellsWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newClockVisitor(t, session.Config{})
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
		v := newClockVisitor(t, session.Config{})
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
		v := newClockVisitor(t, session.Config{Store: store})
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
