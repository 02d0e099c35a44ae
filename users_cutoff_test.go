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

// A store forgets a cut-off after an hour. A login must not be answered behind
// that which was sent before it.
func TestNoLoginSlipsThroughByTakingAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, _ := newStalledUsers(t, session.Config{StoreTimeout: time.Minute})
		w := v.visit(func(s *session.Session) {
			time.Sleep(time.Millisecond)
			revokeUser(t, v.manager, "alice")
			time.Sleep(time.Hour - 2*time.Second)
			_ = s.Login("alice")
			held := store.stall(t, "before enlist")
			time.AfterFunc(4*time.Second, held.open)
		})
		if w.Code != http.StatusConflict {
			t.Errorf("a login that began before RevokeUser was answered %d", w.Code)
		}
		v.visit(func(s *session.Session) {
			if s.User() != "" {
				t.Errorf("it opens the session of %q", s.User())
			}
		})
	})
}

// A request that revokes one user, as an operator's does, has not begun anew for
// another one.
func TestRevokingOneUserLetsNoLoginOfAnotherThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		v := &guest{t: t, manager: m}
		w := v.request(func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			revokeUser(t, m, "alice") // by somebody else
			time.Sleep(time.Second)
			if err := m.RevokeUser(r.Context(), "bob"); err != nil {
				t.Error(err)
			}
			_ = session.FromContext(r.Context()).Login("alice")
		})
		if w.Code != http.StatusConflict {
			t.Errorf("a login that began before its user was revoked was answered %d", w.Code)
		}
	})
}

// RevokeOthers keeps this session, whatever context it is given, and also if the
// Login behind it takes another record (L4).
func TestRevokeOthersWithAnotherContextKeepsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		v := &guest{t: t, manager: m}
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		tab := v.tab()
		w := tab.visit(func(s *session.Session) {
			s.User()
			v.visit((*session.Session).Destroy)
			time.Sleep(time.Second)
			_ = s.Login("alice")
			if err := s.RevokeOthers(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if w.Code != http.StatusOK {
			t.Errorf("the request's own login was answered %d", w.Code)
		}
	})
}

// What a request asks for through a session that it was shown counts as its own.
func TestRevokeOthersOfAListedSessionKeepsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		(&guest{t: t, manager: m}).visit(loginAs("alice"))
		w := (&guest{t: t, manager: m}).request(func(_ http.ResponseWriter, r *http.Request) {
			found, err := m.Sessions(r.Context(), "alice")
			if err != nil || len(found) != 1 {
				t.Fatalf("%d sessions are shown, %v", len(found), err)
			}
			time.Sleep(time.Second)
			if err := found[0].RevokeOthers(r.Context()); err != nil {
				t.Error(err)
			}
			_ = session.FromContext(r.Context()).Login("alice")
		})
		if w.Code != http.StatusOK {
			t.Errorf("the request's own login was answered %d", w.Code)
		}
	})
}

// A slowStore takes a millisecond for each record that it is asked for.
type slowStore struct {
	session.UserStore
}

func (s slowStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	select {
	case <-time.After(time.Duration(len(ids)) * time.Millisecond):
		return s.UserStore.LoadAll(ctx, ids)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// However long a list is, RevokeUser gets to its end: no single call takes longer
// for it.
func TestRevokeUserWithAListLongerThanOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := new(session.MemoryStore)
		m := newManager(t, session.Config{Store: slowStore{records}, StoreTimeout: 2 * time.Second})
		for range 3000 {
			(&guest{t: t, manager: m}).visit(loginAs("alice"))
		}
		if err := m.RevokeUser(t.Context(), "alice"); err != nil {
			t.Errorf("RevokeUser of 3000 sessions: %v", err)
		}
		if n := records.Len(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		for range 3000 {
			(&guest{t: t, manager: m}).visit(loginAs("alice"))
		}
		if found, err := m.Sessions(t.Context(), "alice"); err != nil || len(found) != 3000 {
			t.Errorf("%d sessions are shown, %v", len(found), err)
		}
	})
}

// A browser that goes away takes no half of a revocation with it (R11).
func TestRevokeUserOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalledUsers(t, session.Config{})
		for range 3 {
			(&guest{t: t, manager: v.manager}).visit(loginAs("alice"))
		}
		ctx, leave := context.WithCancel(t.Context())
		held := store.stall(t, "after cutoff")
		time.AfterFunc(time.Millisecond, func() { leave(); held.open() })
		r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
		v.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := v.manager.RevokeUser(r.Context(), "alice"); err != nil {
				t.Error(err)
			}
			if err := v.manager.RevokeUser(r.Context(), "alice"); err == nil {
				t.Error("RevokeUser began when its context was done")
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		if n := records.Len(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// A session is on its list for longer than it lives, also by the clock of a
// server that is behind.
func TestListsOutliveSessionsOnServersWhoseClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &enlistSpy{UserStore: new(session.MemoryStore)}
		m := newManager(t, session.Config{Store: store})
		(&guest{t: t, manager: m}).visit(loginAs("alice"))
		if store.ttl < 12*time.Hour+time.Minute {
			t.Errorf("a session of 12 hours is on the list for %v", store.ttl)
		}
	})
}

type enlistSpy struct {
	session.UserStore
	ttl time.Duration
}

func (s *enlistSpy) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	s.ttl = ttl
	return s.UserStore.Enlist(ctx, list, id, ttl, most)
}
