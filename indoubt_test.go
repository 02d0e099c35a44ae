package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/session"
)

// Commits whose outcome the store does not tell: they may have taken effect. They
// are sent again until it is known, take effect once, and nobody is told that
// they succeeded before that (C5).

// updateNowBeside has an UpdateNow wait for a commit of another goroutine, behind
// what spoil does meanwhile, and returns what it says. That they wait is not to be
// seen, so the pauses only make it likely; what the tests ask for holds in any order.
func updateNowBeside(t *testing.T, v *guest, store *stallStore, spoil func(*session.Session) (then func())) (got int, err error) {
	v.request(func(_ http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		held := store.stall(t, "before save")
		var saving sync.WaitGroup
		nameKey.Set(s, "b")
		saving.Go(func() { s.Save(r.Context()) })
		held.wait()
		var then func()
		saving.Go(func() { then = spoil(s); s.Save(r.Context()) })
		time.Sleep(5 * time.Millisecond)
		saving.Go(func() { got, err = countKey.UpdateNow(r.Context(), s, func(n int) int { return n + 1 }) })
		time.Sleep(5 * time.Millisecond)
		held.open()
		saving.Wait()
		if then != nil {
			then()
		}
	})
	return got, err
}

// A Save of another goroutine used to take the update along and keep the refusal
// to itself, and UpdateNow said that a value was stored which was not.
func TestR14UpdateNowTellsWhatAnotherSaveWasRefused(t *testing.T) {
	v, store, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	got, err := updateNowBeside(t, v, store, func(s *session.Session) func() {
		if err := records.Delete(t.Context(), s.ID(), 0); err != nil { // a logout elsewhere
			t.Error(err)
		}
		return nil
	})
	if !errors.Is(err, session.ErrEnded) || records.Len() != 0 {
		t.Errorf("R14: UpdateNow returned %d, %v; %d records", got, err, records.Len())
	}
}

// The same with a value of another goroutine's that could not be encoded.
func TestR14UpdateNowBesideAValueThatIsBad(t *testing.T) {
	v, store, _ := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { countKey.Set(s, 1) })
	got, err := updateNowBeside(t, v, store, func(s *session.Session) func() {
		nameKey.Set(s, "\xff")
		return func() { nameKey.Set(s, "fine") }
	})
	v.visit(func(s *session.Session) {
		if n := countKey.Get(s); err == nil && n != got {
			t.Errorf("R14: UpdateNow returned %d and no error; stored is %d", got, n)
		}
	})
}

// A hijackRecorder gives its connection away, which is none.
type hijackRecorder struct {
	*httptest.ResponseRecorder
	hijacked bool
}

func (h *hijackRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.hijacked = true
	return nil, nil, nil
}

// A Hijack used to send a failed Login again without a way for its cookie to leave,
// and killed the cookie that the visitor had.
func TestR5HijackDoesNotRepeatALoginInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, _ := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", v.cookie)
		w := &hijackRecorder{ResponseRecorder: httptest.NewRecorder()}
		v.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			s.Login("alice")
			store.failing(away("save"))
			if err := s.Save(r.Context()); err == nil {
				t.Error("Save succeeded without a store")
			}
			store.failing(nil)
			if _, _, err := w.(http.Hijacker).Hijack(); err == nil {
				t.Error("R5: Hijack succeeded with a cookie unsent")
			}
		})).ServeHTTP(w, r)
		v.visit(func(s *session.Session) {
			if w.hijacked || s.IsNew() {
				t.Errorf("R5: hijacked %t, and the visitor's cookie opens nothing: %t", w.hijacked, s.IsNew())
			}
		})
	})
}

// A Save after a failed response used to store the Login whose cookie could not
// leave any more, which left the visitor with neither session.
func TestR7SaveAfterAFailedResponseDoesNotRepeatALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, _ := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		var err error
		w := v.request(func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			s.Login("alice")
			store.failing(away("save"))
			fmt.Fprint(w, "hello")
			store.failing(nil)
			err = s.Save(context.Background())
		})
		if w.Code != http.StatusServiceUnavailable || err == nil {
			t.Errorf("R7: status %d, and Save after it said %v", w.Code, err)
		}
		v.visit(func(s *session.Session) {
			if s.IsNew() || s.User() != "" {
				t.Errorf("R7: new %t, user %q, want the session as it was", s.IsNew(), s.User())
			}
		})
	})
}

// An update that had nothing to do on the first record, and took effect on the
// store's with the answer lost, used to be done again by the next commit.
func TestC5UpdateInDoubtOnAReloadedRecordHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, _ := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { countKey.Set(s, 0) })
		v.tab().visit(func(s *session.Session) {
			s.User()
			v.visit(func(s *session.Session) { countKey.Set(s, 5) })
			before := store.called("save")
			store.losing(away("save"))
			store.failing(func(call string, _ uint64) error {
				if store.called("save") > before+1 {
					return away("save")(call, 0)
				}
				return nil
			})
			if _, err := countKey.UpdateNow(t.Context(), s, func(n int) int { return max(n-1, 0) }); err == nil {
				t.Error("UpdateNow succeeded without an answer")
			}
			store.losing(nil)
			store.failing(nil)
			if _, err := ticket.UpdateNow(t.Context(), s, func(bool) bool { return true }); err != nil {
				t.Error(err)
			}
		})
		v.visit(func(s *session.Session) {
			if n := countKey.Get(s); n != 4 || !ticket.Get(s) {
				t.Errorf("C5: one decrement of 5 ended at %d, ticket %t", n, ticket.Get(s))
			}
		})
	})
}

// A Login in doubt that had moved to a record of its own used to be sent again for
// yet another one, and the first stayed behind without an owner.
func TestC5LoginInDoubtOnANewRecordMakesOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { nameKey.Set(s, "x") })
		tab := v.tab()
		tab.visit(func(s *session.Session) {
			s.User()
			v.visit(func(s *session.Session) { s.Destroy() })
			store.losing(func(call string, prev uint64) error {
				if call == "save" && prev == 0 {
					return errAway
				}
				return nil
			})
			s.Login("alice")
			if err := s.Save(t.Context()); err == nil {
				t.Error("Save succeeded without an answer")
			}
			store.losing(nil)
		})
		if records.Len() != 1 {
			t.Errorf("C5: one Login made %d records", records.Len())
		}
		tab.visit(func(s *session.Session) {
			if s.User() != "alice" {
				t.Errorf("C5: the cookie opens the session of %q", s.User())
			}
		})
	})
}
