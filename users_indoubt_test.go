package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/sojourn-go/session"
)

// newStalledUsers is newStalled of a store that keeps lists.
func newStalledUsers(t testing.TB, cfg session.Config) (v *guest, store *stallUserStore, records *session.MemoryStore) {
	t.Helper()
	records = new(session.MemoryStore)
	store = newStallUserStore(records)
	cfg.Store = store
	return &guest{t: t, manager: newManager(t, cfg)}, store, records
}

// A handler that panics after a Save which failed leaves its header to whoever
// recovers. A session that is on no list, and that no RevokeUser would find, must
// not be in it.
func TestPanicSendsNoCookieOfALoginThatIsNotEnlisted(t *testing.T) {
	for _, what := range []string{"L3", "L4"} { // logins that take a new record
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, store, _ := newStalledUsers(t, session.Config{})
				v.visit(func(s *session.Session) { countKey.Set(s, 1) })
				if what == "L3" {
					v.visit(loginAs("bob"))
				}
				tab := v.tab()
				r := httptest.NewRequest("POST", "/", nil)
				r.Header.Set("Cookie", tab.cookie)
				w := httptest.NewRecorder()
				func() {
					defer func() { _ = recover() }()
					tab.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s := session.FromContext(r.Context())
						if what == "L4" {
							v.visit((*session.Session).Destroy)
						}
						_ = s.Login("alice")
						store.failing(away("enlist"))
						if err := s.Save(t.Context()); err == nil {
							t.Error("Save succeeded although the list is away")
						}
						panic("the handler gives up")
					})).ServeHTTP(w, r)
				}()
				store.failing(nil)
				for _, c := range w.Result().Cookies() {
					if c.Value == "" {
						continue
					}
					revokeUser(t, v.manager, "alice")
					stolen := &guest{t: t, manager: v.manager, cookie: c.Name + "=" + c.Value}
					stolen.visit(func(s *session.Session) {
						t.Errorf("a cookie left, and after RevokeUser it opens the session of %q", s.User())
					})
				}
			})
		})
	}
}

// The second send of a login whose record is stored, and whose place on the list
// is not, starts from what the first one started from.
func TestC5UpdateBehindALoginThatIsNotEnlistedHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, records := newStalledUsers(t, session.Config{})
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		tab := v.tab()
		tab.visit(func(s *session.Session) {
			s.User()
			v.visit((*session.Session).Destroy)
			_ = s.Login("alice")
			count.Update(s, func(n int) int { return n + 1 })
			store.failing(away("enlist"))
			if err := s.Save(t.Context()); err == nil {
				t.Error("Save succeeded although the list is away")
			}
			store.failing(nil)
		})
		if records.Len() != 1 {
			t.Errorf("C5: one Login made %d records", records.Len())
		}
		tab.visit(func(s *session.Session) {
			if n := count.Get(s); s.User() != "alice" || n != 1 {
				t.Errorf("C5: one Update behind a Login of %q left %d", s.User(), n)
			}
		})
	})
}

// A Login that counts once in the store counts once for who listens.
func TestLoginThatIsNotEnlistedIsNoLoginEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events eventLog
		v, store, _ := newStalledUsers(t, session.Config{OnEvent: events.note})
		v.visit(func(s *session.Session) {
			_ = s.Login("alice")
			store.failing(away("enlist"))
			if err := s.Save(t.Context()); err == nil {
				t.Error("Save succeeded although the list is away")
			}
			if n := events.count(session.EventLogin); n != 0 {
				t.Errorf("%d events tell of a login that is not one yet", n)
			}
			store.failing(nil)
		})
		if n := events.count(session.EventLogin); n != 1 {
			t.Errorf("one login gave %d events", n)
		}
	})
}
