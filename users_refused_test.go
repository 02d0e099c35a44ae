package session_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/session"
)

// A login that is one too many costs the visitor nothing, also not the session
// of another user that it was to replace (L3).
func TestRefusedLoginAsAnotherUserKeepsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{MaxPerUser: 1, RefuseLogins: true})
		(&guest{t: t, manager: m}).visit(loginAs("bob"))
		v := &guest{t: t, manager: m}
		v.visit(loginAs("alice"))
		if w := v.visit(loginAs("bob")); w.Code != http.StatusConflict {
			t.Errorf("a login beyond MaxPerUser was answered %d", w.Code)
		}
		v.visit(func(s *session.Session) {
			if s.User() != "alice" {
				t.Errorf("after a login that was refused the session is %q's, want alice's", s.User())
			}
		})
	})
}

// A request whose token was replaced a moment ago sends no cookie of an anonymous
// session over the new one (C7), whatever became of a Login of its own.
func TestC7RefusedLoginMakesNoAnonymousSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{MaxPerUser: 1, RefuseLogins: true})
		v := &guest{t: t, manager: m}
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		tab := v.tab()
		v.visit(loginAs("alice"))
		old := tab.cookie
		w := tab.visit(func(s *session.Session) {
			_ = s.Login("alice")
			if err := s.Save(t.Context()); !errors.Is(err, session.ErrTooManySessions) {
				t.Errorf("Save said %v", err)
			}
			countKey.Set(s, 2) // to be shown on the login page
		})
		if tab.cookie != old || w.Code != http.StatusConflict {
			t.Errorf("C7: answered %d, with another cookie: %t", w.Code, tab.cookie != old)
		}
	})
}

// What the manager lets nobody in with is not a session that a user has, even if
// the store still holds it (E3, E5).
func TestMaxPerUserDoesNotCountSessionsPastTheirLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 100 * 24 * time.Hour
		store := new(session.MemoryStore)
		former := newManager(t, session.Config{Store: store, IdleTimeout: long, Lifetime: long})
		for range 2 {
			(&guest{t: t, manager: former}).visit(loginAs("alice"))
		}
		time.Sleep(time.Hour)
		m := newManager(t, session.Config{Store: store, Lifetime: time.Minute, MaxPerUser: 2, RefuseLogins: true})
		found, err := m.Sessions(t.Context(), "alice")
		if err != nil || len(found) != 0 {
			t.Fatalf("%d sessions are shown, %v", len(found), err)
		}
		if w := (&guest{t: t, manager: m}).visit(loginAs("alice")); w.Code != http.StatusOK {
			t.Errorf("a user without a session was answered %d: %s", w.Code, body(t, w))
		}
	})
}

// The cookie that an earlier Save left for the header goes with the login.
func TestRevokedLoginTakesTheCookieOfAnEarlierSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		v := &guest{t: t, manager: m}
		w := v.visit(func(s *session.Session) {
			countKey.Set(s, 1)
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			revokeUser(t, m, "alice")
			_ = s.Login("alice")
			if err := s.Save(t.Context()); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Save said %v", err)
			}
			if s.User() != "" || s.Expires() != (time.Time{}) && s.IsNew() == false {
				t.Errorf("user %q after a login that was undone", s.User())
			}
		})
		if got := w.Result().Cookies(); len(got) != 0 {
			t.Errorf("a login that was undone was answered with %d cookies", len(got))
		}
	})
}
