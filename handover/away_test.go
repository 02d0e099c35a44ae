package handover_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

// While the shared store answers nothing, sessions in memory are served and
// created as ever, whatever became of others. A token that memory does not know
// is answered 503: the first ones within StoreTimeout, the others at once.
func TestSharedStoreAwayConcernsNoSessionInMemory(t *testing.T) {
	const timeout = time.Second
	for _, is := range []fate{refused, silent} {
		bubble(t, func(t *testing.T) {
			shared := &faulty{Store: new(session.MemoryStore)}
			m, site := newSite(t, serving(shared), timeout)
			defer m.Close(context.Background())
			_, elsewhere := newSite(t, left(shared), timeout)
			ann, bob, old := &tab{site: site}, &tab{site: elsewhere}, &tab{site: site}
			ann.want(t, "/login?user=ann", 200, "")
			old.want(t, "/login?user=old", 200, "")
			expired := *old
			old.want(t, "/logout", 200, "")
			bob.want(t, "/login?user=bob", 200, "")
			bob.site = site
			bob.want(t, "/look", 200, "bob 0")

			shared.decide(func(string, uuid.UUID, uint64) fate { return is })
			counted := 0
			for begun := time.Now(); time.Since(begun) < 5*timeout; time.Sleep(timeout / 20) {
				for _, b := range []*tab{bob, &expired} {
					go func() {
						sent, b := time.Now(), &tab{site: site, cookie: b.cookie}
						if code, _ := b.get("/look"); code != http.StatusServiceUnavailable {
							t.Errorf("a session that only the shared store has: %d", code)
						}
						if took := time.Since(sent); took > timeout || sent.Sub(begun) > timeout && took > 0 {
							t.Errorf("%v into the outage it was answered after %v", sent.Sub(begun), took)
						}
					}()
				}
				sent := time.Now()
				ann.want(t, "/count", 200, "")
				counted++
				fresh := &tab{site: site}
				fresh.want(t, "/login?user=new", 200, "")
				fresh.want(t, "/logout", 200, "")
				if time.Since(sent) > 0 {
					t.Errorf("a session in memory waited %v", time.Since(sent))
				}
			}
			if _, body := ann.get("/look"); body != "ann 100" || counted != 100 {
				t.Errorf("counted %d, read %q", counted, body)
			}
			time.Sleep(timeout)
			shared.decide(nil)
			time.Sleep(time.Second) // for the probe
			bob.want(t, "/look", 200, "bob 0")
			expired.want(t, "/look", 200, " 0")
			synctest.Wait()
		})
	}
}

// Each Manager's guard is its own: calls of one pass no other's, and Drain, which
// waits for a store that is away, passes none.
func TestTwoManagersShareOneStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := new(session.MemoryStore)
		s := serving(shared)
		calls := 0
		view := s.WithGuard(func(other session.Store) session.Store {
			return &faulty{Store: other, judge: func(string, uuid.UUID, uint64) fate { calls++; return happens }}
		})
		id := uuid.New()
		save(t, view, id, 0, session.Record{Version: 1}, long)
		if v := version(t, s, id); v != 1 || calls != 0 {
			t.Errorf("version %d, %d calls of the shared store", v, calls)
		}
		if r, err := s.Drain(t.Context()); err != nil || r.Moved != 1 || calls != 0 {
			t.Errorf("%+v, %v, %d calls through the guard", r, err, calls)
		}
		if v := version(t, view, id); v != 1 || calls != 1 {
			t.Errorf("version %d, %d calls through the guard", v, calls)
		}
	})
}

// A placeholder is none of a Manager's records: on a server without this package,
// and on one with it while the placeholder is old, its visitor is anonymous, keeps
// the cookie, and sees nothing of it.
func TestPlaceholderIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		shared := &faulty{Store: store}
		s := serving(shared)
		_, here := newSite(t, s, time.Second)
		ann := &tab{site: here}
		ann.want(t, "/login?user=ann", 200, "")
		shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
			if op == "save" && prev == 0 {
				return lost
			}
			return happens
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if r, err := s.Drain(ctx); err == nil || r.Left != 1 || store.Len() != 1 {
			t.Fatalf("%+v, %v, %d placeholders", r, err, store.Len())
		}
		_, plain := newSite(t, &faulty{Store: store}, time.Second)
		_, there := newSite(t, serving(store), time.Second)
		cookie := ann.cookie
		for _, look := range []struct {
			site   http.Handler
			after  time.Duration
			status int
			body   string
		}{
			{plain, 0, 200, " 0"},
			{there, 0, 503, ""},
			{there, handover.PlaceholderFresh, 200, " 0"},
		} {
			time.Sleep(look.after)
			b := &tab{site: look.site, cookie: cookie}
			if b.want(t, "/look", look.status, look.body); b.cookie != cookie {
				t.Errorf("after %v: the cookie was replaced", look.after)
			}
		}
		ann.want(t, "/count", 200, "")
		for id := range store.All() {
			rec, err := store.Load(t.Context(), id)
			if err != nil || strings.Contains(string(rec.Data), "count") {
				t.Errorf("%q, %v", rec.Data, err)
			}
		}
		shared.decide(nil)
		if r, err := s.Drain(t.Context()); err != nil || r.Moved != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		ann.site = there
		ann.want(t, "/look", 200, "ann 1")
	})
}
