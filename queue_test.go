package session_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sojourn-go/session"
)

// Commits of one session that wait for each other inside a process: what one of
// them tells the next must hold for the next (C2).

// A write with the current cookie used to be answered 409 if it waited behind the
// second click of a double click on Login. That one was loaded before the first
// had taken its secret away, and told whoever came next that the session was gone:
// when it moved to a record of its own (L4), and when it was refused one, because
// its client had left (R11).
func TestL4WriteBehindADoubleClickOnLoginIsStored(t *testing.T) {
	creation := func(prev uint64) bool { return prev == 0 }
	conflict := func(prev uint64) bool { return prev != 0 }
	for _, c := range []struct {
		name   string
		held   func(prev uint64) bool // the second click's save
		leaves bool                   // its client
	}{
		{"moves", creation, false},
		{"moves without its client", creation, true},
		{"is refused", conflict, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, store, records := newStalled(t, session.Config{})
				v.visit(func(s *session.Session) { countKey.Set(s, 1) })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := httptest.NewRequest("POST", "/", nil).WithContext(ctx)
				r.Header.Set("Cookie", v.cookie)
				loaded, held := newGate(t), newGate(t)
				var requests sync.WaitGroup
				requests.Go(func() {
					v.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						s := session.FromContext(r.Context())
						loaded.pass()
						s.Login("alice")
					})).ServeHTTP(httptest.NewRecorder(), r)
				})
				loaded.wait()
				v.visit(func(s *session.Session) { s.Login("alice") })
				var stalled atomic.Bool
				store.failing(func(call string, prev uint64) error {
					if call == "save" && c.held(prev) && !stalled.Swap(true) {
						held.pass()
					}
					return nil
				})
				loaded.open()
				held.wait()
				var code int
				requests.Go(func() { code = v.tab().visit(func(s *session.Session) { nameKey.Set(s, "mine") }).Code })
				synctest.Wait()
				if c.leaves {
					cancel()
				}
				held.open()
				requests.Wait()
				if code != http.StatusOK || c.name == "is refused" && records.Len() != 1 {
					t.Errorf("L4: a write with the current cookie was answered %d; %d records", code, records.Len())
				}
				v.visit(func(s *session.Session) {
					if s.User() != "alice" || nameKey.Get(s) != "mine" {
						t.Errorf("L4: user %q, name %q", s.User(), nameKey.Get(s))
					}
				})
			})
		})
	}
}

// An Update that panics when it is called again for another request's value must
// neither stop those who wait nor count.
func TestR10UpdateThatPanicsInACommitHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, _ := newStalled(t, session.Config{})
		v.visit(func(s *session.Session) { countKey.Set(s, 0) })
		var counted, panicked atomic.Int32
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				calls := 0
				p := recovered(func() {
					v.tab().visit(func(s *session.Session) {
						s.User()
						<-start
						countKey.Update(s, func(n int) int {
							if calls++; i%4 == 0 && calls > 1 {
								panic("update")
							}
							return n + 1
						})
					})
				})
				if p == nil {
					counted.Add(1)
				} else {
					panicked.Add(1)
				}
			})
		}
		synctest.Wait()
		close(start)
		wg.Wait()
		v.visit(func(s *session.Session) {
			if n := countKey.Get(s); n != int(counted.Load()) || panicked.Load() == 0 {
				t.Errorf("R10: %d updates returned, %d panicked, the count is %d", counted.Load(), panicked.Load(), n)
			}
		})
	})
}

// Goroutines of one request do everything at once on a store that fails and loses
// answers: there must be no crash, no race, no deadlock, and one Set-Cookie (R13).
func TestR13GoroutinesOfARequestOnAFailingStore(t *testing.T) {
	v, store, _ := newStalled(t, session.Config{})
	var saves atomic.Int32
	sometimes := func(call string, _ uint64) error {
		if call == "save" && saves.Add(1)%5 == 0 {
			return errAway
		}
		return nil
	}
	store.failing(sometimes)
	store.losing(sometimes)
	var visitors sync.WaitGroup
	for visitor := range uint64(3) {
		tab := v.tab()
		visitors.Go(func() {
			for request := range uint64(40) {
				w := tab.request(func(w http.ResponseWriter, r *http.Request) {
					s := session.FromContext(r.Context())
					var wg sync.WaitGroup
					for i := range uint64(3) {
						rnd := rand.New(rand.NewPCG(visitor, request*3+i))
						wg.Go(func() {
							for range 4 {
								anything(r.Context(), s, rnd)
							}
						})
					}
					if request%2 == 0 {
						wg.Wait()
					}
					w.Write([]byte("page"))
					wg.Wait()
				})
				if lines := w.Result().Header["Set-Cookie"]; len(lines) > 1 {
					t.Errorf("R13: %d cookies", len(lines))
				}
			}
		})
	}
	visitors.Wait()
}

// anything is one use of a session that may fail.
func anything(ctx context.Context, s *session.Session, rnd *rand.Rand) {
	uses := []func(){
		func() { s.Login("alice") },
		func() { s.Login("bob") },
		func() { s.Destroy() },
		func() { s.Renew() },
		func() { s.Clear() },
		func() { s.Save(ctx) },
		func() { countKey.UpdateNow(ctx, s, func(n int) int { return n + 1 }) },
		func() { countKey.Update(s, func(n int) int { return n + 1 }) },
		func() { nameKey.Set(s, string(rune('a'+rnd.IntN(4)))) },
		func() { nameKey.Delete(s) },
		func() { nameKey.Take(s) },
		func() { cartKey.Update(s, func([]string) []string { return []string{"tea"} }) },
		func() { nameKey.Get(s); s.ID(); s.Expires(); s.IsNew() },
		func() {
			for range s.Names() {
			}
		},
	}
	uses[rnd.IntN(len(uses))]()
}
