package session_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// A logout is the one change that must not be lost to anything else: not to a
// refused save before it, not to a bad value after it, not to a panic. What is
// answered otherwise says so in its status (C4, R7, R10).

// A logout after a Save that was refused with ErrEnded used to do nothing, because
// the refusal had left the request without a session.
func TestC4LogoutHappensAfterARefusedSave(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { s.Login("alice") })
	v.tab().visit(func(s *session.Session) {
		s.User()
		v.visit(func(s *session.Session) { s.Renew() })
		nameKey.Set(s, "x")
		if err := s.Save(t.Context()); !errors.Is(err, session.ErrEnded) {
			t.Errorf("Save after a Renew elsewhere: %v", err)
		}
		s.Destroy()
	})
	if records.Len() != 0 {
		t.Error("C4: a logout by a request that saw alice left her record")
	}
}

// A save whose outcome was unknown used to be cleared up before a logout could go
// out, so that a store which refused writes and took deletes kept the record.
func TestC4LogoutHappensThoughSavesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { s.Login("alice") })
		store.failing(away("save")) // as a full Redis does
		w := v.visit(func(s *session.Session) {
			if _, err := countKey.UpdateNow(t.Context(), s, func(n int) int { return n + 1 }); err == nil {
				t.Error("UpdateNow succeeded without a store")
			}
			s.Destroy()
		})
		if records.Len() != 0 || w.Code != http.StatusOK || v.cookie != "" {
			t.Errorf("C4: %d records, status %d, cookie %q", records.Len(), w.Code, v.cookie)
		}
	})
}

// The same with a Renew elsewhere used to find its save refused, and to take the
// logout for refused as well.
func TestC4LogoutHappensThoughASaveFailedAndTheSecretIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { s.Login("alice") })
		v.tab().visit(func(s *session.Session) {
			store.failing(away("save"))
			if _, err := countKey.UpdateNow(t.Context(), s, func(n int) int { return n + 1 }); err == nil {
				t.Error("UpdateNow succeeded without a store")
			}
			store.failing(nil)
			v.visit(func(s *session.Session) { s.Renew() })
			s.Destroy()
		})
		if records.Len() != 0 {
			t.Error("C4: the logout left the record")
		}
	})
}

// A value that could not be encoded used to keep the logout before it from being
// sent.
func TestR10LogoutHappensThoughAValueIsBad(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { s.Login("alice") })
	w := v.visit(func(s *session.Session) { s.Destroy(); nameKey.Set(s, "bye \xff") })
	if records.Len() != 0 || w.Code != http.StatusInternalServerError {
		t.Errorf("R8, R10: %d records, status %d", records.Len(), w.Code)
	}
}

// A logout after the response had failed used to be dropped with what had failed.
func TestR10LogoutHappensThoughTheResponseFailed(t *testing.T) {
	for _, panics := range []bool{false, true} {
		v, _, records := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { s.Login("alice") })
		panicked := recovered(func() {
			v.request(func(w http.ResponseWriter, r *http.Request) {
				s := session.FromContext(r.Context())
				nameKey.Set(s, "\xff")
				if _, err := w.Write([]byte("bye")); err == nil {
					t.Error("R6: the page was written")
				}
				s.Destroy()
				if panics {
					panic(http.ErrAbortHandler)
				}
			})
		})
		if records.Len() != 0 || (panicked != nil) != panics {
			t.Errorf("R10: panics=%t: %d records, recovered %v", panics, records.Len(), panicked)
		}
	}
}

// recovered is what f panics with.
func recovered(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// A panic used to take away the steps that a Save of another goroutine was storing,
// and with them a logout made while that was under way.
func TestR10LogoutHappensInAPanicBesideASave(t *testing.T) {
	v, store, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { s.Login("alice") })
	held := store.stall(t, "before save")
	var saving sync.WaitGroup
	panicked := recovered(func() {
		v.request(func(_ http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			nameKey.Set(s, "x")
			saving.Go(func() {
				if err := s.Save(r.Context()); err != nil {
					t.Errorf("Save beside the panic: %v", err)
				}
			})
			held.wait()
			s.Destroy()
			// The panic waits for the Save, unseen. The delay only makes it likely that
			// it does; what is asked for below holds in either order.
			time.AfterFunc(5*time.Millisecond, held.open)
			panic("handler")
		})
	})
	saving.Wait()
	if records.Len() != 0 || panicked != "handler" {
		t.Errorf("R10: %d records, recovered %v", records.Len(), panicked)
	}
}

// Whoever waited behind a commit that gave up on the store got its error untried,
// and so did a logout, which a delete could have served.
func TestC4LogoutBehindAFailingSaveIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { s.Login("alice") })
		store.failing(away("save"))
		held := store.stall(t, "before save")
		var writer, reader, logout int
		var wg sync.WaitGroup
		wg.Go(func() { writer = v.tab().visit(func(s *session.Session) { nameKey.Set(s, "x") }).Code })
		held.wait()
		wg.Go(func() { reader = v.tab().visit(func(s *session.Session) { nameKey.Set(s, "y") }).Code })
		synctest.Wait()
		wg.Go(func() { logout = v.tab().visit(func(s *session.Session) { s.Destroy() }).Code })
		synctest.Wait()
		held.open()
		wg.Wait()
		if writer != http.StatusServiceUnavailable || reader != http.StatusServiceUnavailable {
			t.Errorf("writers were answered %d and %d", writer, reader)
		}
		if records.Len() != 0 || logout != http.StatusOK || store.called("delete") != 1 {
			t.Errorf("C4: the logout was answered %d after %d deletes; %d records", logout, store.called("delete"), records.Len())
		}
	})
}

// A logout that lost to other writers until its time was over used to be reported
// as done.
func TestC4LogoutThatRanOutOfTimeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events eventLog
		v, store, records := newStalled(t, session.Config{StoreTimeout: 100 * time.Millisecond, OnEvent: events.note})
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		w := v.visit(func(s *session.Session) {
			s.Destroy()
			store.failing(func(call string, _ uint64) error {
				if call == "delete" {
					return session.ErrConflict
				}
				return nil
			})
			store.losing(func(string, uint64) error { // nothing, but the look at who won takes all the time there is
				time.Sleep(100 * time.Millisecond)
				return nil
			})
		})
		if records.Len() != 1 || w.Code != http.StatusServiceUnavailable || v.cookie == "" || events.count(session.EventDestroyed) != 0 {
			t.Errorf("C4: %d records, status %d, cookie %q, %d events of a logout", records.Len(), w.Code, v.cookie, events.count(session.EventDestroyed))
		}
	})
}

// A logout with a secret that was replaced used to be answered 200 while the session
// lived on.
func TestC3LogoutWithAReplacedSecretIsRefused(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { s.Login("alice") })
	old := v.tab()
	v.visit(func(s *session.Session) { s.Renew() })
	w := old.visit(func(s *session.Session) { s.Destroy() })
	if w.Code != http.StatusConflict || len(w.Result().Cookies()) != 0 || records.Len() != 1 {
		t.Errorf("C3: status %d, cookies %v, %d records", w.Code, w.Result().Cookies(), records.Len())
	}
}

// A Login as another user, saved and then destroyed, used to leave the cookie of
// the first user's session in the browser.
func TestL3LogoutAfterAnotherUsersLoginClearsTheCookie(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { s.Login("alice") })
	w := v.visit(func(s *session.Session) {
		s.Login("bob")
		if err := s.Save(t.Context()); err != nil {
			t.Error(err)
		}
		s.Destroy()
	})
	if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 || records.Len() != 0 {
		t.Errorf("L3: cookies %v, %d records", cookies, records.Len())
	}
}

// The event of a write that came after a logout used to be without ID and user,
// because the session had lost both by then.
func TestEventOfAWriteAfterALogoutNamesTheSession(t *testing.T) {
	var events eventLog
	v, _, _ := newStalled(t, session.Config{OnEvent: events.note})
	v.visit(func(s *session.Session) { s.Login("bob") })
	var id uuid.UUID
	v.tab().visit(func(s *session.Session) {
		id = s.ID()
		v.visit(func(s *session.Session) { s.Destroy() })
		countKey.Set(s, 2)
	})
	if events.count(session.EventWriteRefused) != 1 || events.count(session.EventDestroyed) != 1 {
		t.Errorf("events %v", events.events)
	}
	for _, e := range events.events {
		if (e.Kind == session.EventWriteRefused || e.Kind == session.EventDestroyed) && (e.ID != id || e.User != "bob") {
			t.Errorf("%+v: want ID %v and user bob", e, id)
		}
	}
}
