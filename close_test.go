package session_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// Close under load: what was answered 200 is in the store, what was answered 503
// is not, and no write is under way or begins once Close has returned. Each
// visitor writes in a session of their own, or all in one.
func TestCloseLosesNoCommitAndBeginsNone(t *testing.T) {
	for _, shared := range []bool{false, true} {
		name := map[bool]string{false: "own sessions", true: "one session"}[shared]
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, inner session.Store) { closeUnderLoad(t, inner, shared) })
		})
	}
}

func closeUnderLoad(t *testing.T, inner session.Store, shared bool) {
	const writers = 16
	store := newMoodyStore()
	store.Store = inner
	store.feel(func(_ context.Context, op string, _ uuid.UUID) error {
		if op == "save" {
			time.Sleep(rand.N(3 * time.Millisecond)) // so that many are under way
		}
		return nil
	})
	m := newManager(t, session.Config{Store: store, Name: "close"})
	visitors := make([]*guest, writers)
	for i := range visitors {
		visitors[i] = &guest{t: t, manager: m}
		if shared && i > 0 {
			visitors[i] = visitors[0].tab()
			continue
		}
		visitors[i].visit(func(s *session.Session) { count.Set(s, 0) })
	}
	var saved [writers]int
	var all, refused atomic.Int64
	var wg sync.WaitGroup
	for i, v := range visitors {
		wg.Go(func() {
			for tries, refusals := 0, 0; tries < 10_000 && refusals < 5; tries++ { // some after Close, too
				w := v.visit(countOneUp)
				switch {
				case w.Code == http.StatusOK:
					saved[i]++
					all.Add(1)
				case w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "":
					refusals++
					refused.Add(1)
				default:
					t.Errorf("answered %d, %v", w.Code, w.Header())
				}
			}
		})
	}
	for begun := time.Now(); all.Load() < 10*writers && time.Since(begun) < time.Minute; {
		time.Sleep(time.Millisecond)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	begun, _ := store.called("save")
	store.mu.Lock()
	running := store.saving
	store.mu.Unlock()
	if running != 0 {
		t.Errorf("%d saves were under way when Close returned", running)
	}
	wg.Wait()
	if after, _ := store.called("save"); after != begun {
		t.Errorf("%d saves began after Close had returned", after-begun)
	}
	if refused.Load() != 5*writers {
		t.Errorf("%d requests were refused", refused.Load())
	}
	next := newManager(t, session.Config{Store: inner, Name: "close"})
	for i, v := range visitors {
		want := saved[i]
		if shared {
			want = int(all.Load())
		}
		v.manager = next
		v.visit(func(s *session.Session) {
			if got := count.Get(s); got != want {
				t.Errorf("visitor %d: %d requests were answered 200, %d are in the store", i, want, got)
			}
		})
	}
}

// While a save is stuck, Close gives up with its context and says what is left.
// Readers are served meanwhile, writers are not, and sessions are not touched.
func TestCloseGivesUpWithItsContext(t *testing.T) {
	v, store, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { _ = s.Login("alice"); count.Set(s, 1) })
	_, token, _ := strings.Cut(v.cookie, "=")
	tire(t, records, token, time.Minute)
	cookie := v.cookie

	stuck := store.stall(t, "before save")
	answered := make(chan int, 1)
	go func() { answered <- v.tab().visit(countOneUp).Code }()
	stuck.wait()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		err := v.manager.Close(over)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), " 1 commits") {
			t.Fatalf("Close: %v", err)
		}
	}
	saves, deletes := store.called("save"), store.called("delete")
	for what, do := range map[string]func(*session.Session){
		"change": countOneUp,
		"login":  func(s *session.Session) { _ = s.Login("bob") },
		"renew":  func(s *session.Session) { _ = s.Renew() },
		"logout": (*session.Session).Destroy,
	} {
		w := v.visit(do)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || v.cookie != cookie {
			t.Errorf("%s: answered %d, %v", what, w.Code, w.Header())
		}
	}
	w := v.visit(func(s *session.Session) {
		if s.User() != "alice" || count.Get(s) != 1 {
			t.Errorf("%q has counted to %d", s.User(), count.Get(s))
		}
	})
	if w.Code != http.StatusOK || store.called("touch") != 0 {
		t.Errorf("a reader was answered %d, the store was asked for %d touches", w.Code, store.called("touch"))
	}
	if store.called("save") != saves || store.called("delete") != deletes {
		t.Error("something was written after Close")
	}
	stuck.open()
	if code := <-answered; code != http.StatusOK {
		t.Errorf("the commit that Close waited for was answered %d", code)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := v.manager.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := v.manager.Close(over); err != nil {
		t.Errorf("with nothing left to wait for: %v", err)
	}
}

// What writes without a response says so once the manager is closed.
func TestCloseRefusesWhatWritesWithoutAResponse(t *testing.T) {
	lists := &listsStore{moodyStore: newMoodyStore()}
	m := newManager(t, session.Config{Store: lists})
	v := &guest{t: t, manager: m}
	var id uuid.UUID
	v.visit(func(s *session.Session) { _ = s.Login("alice"); id = s.ID() })
	v.visit(func(s *session.Session) {
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		countOneUp(s)
		_, now := count.UpdateNow(t.Context(), s, func(n int) int { return n + 1 })
		for what, err := range map[string]error{
			"Save":       s.Save(t.Context()),
			"UpdateNow":  now,
			"Revoke":     m.Revoke(t.Context(), "alice", id),
			"RevokeAny":  m.RevokeAny(t.Context(), id),
			"RevokeUser": m.RevokeUser(t.Context(), "alice"),
			"Ready":      m.Ready(t.Context()),
		} {
			if err == nil || !strings.Contains(err.Error(), "the Manager was closed") || errors.Is(err, session.ErrDegraded) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	if _, err := lists.Load(t.Context(), id); err != nil {
		t.Errorf("the session: %v", err)
	}
}

// Sessions still reads, and leaves it to others to take off the list what has ended.
func TestCloseLeavesListsAlone(t *testing.T) {
	store := newStallUserStore(new(session.MemoryStore))
	m := newManager(t, session.Config{Store: store})
	v := &guest{t: t, manager: m}
	v.visit(loginAs("alice"))
	v.visit((*session.Session).Destroy)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := m.Sessions(t.Context(), "alice"); err != nil || len(found) != 0 {
		t.Errorf("%d sessions, %v", len(found), err)
	}
	if store.called("end") != 0 {
		t.Error("the list was written to after Close")
	}
}

// Nobody looks after streams once the manager is closed, so they end, whether they
// were open by then or not.
func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &listsStore{moodyStore: newMoodyStore()}
		m := newManager(t, session.Config{Store: store})
		v := &guest{t: t, manager: m}
		v.visit(countOneUp)
		before := v.open(nil)
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		after := v.open(nil)
		before.within("the manager was closed", 2*time.Second)
		after.within("the manager was closed before", 2*time.Second)
		time.Sleep(time.Minute)
		if len(store.asked) > 0 {
			t.Errorf("asked for %q after Close", store.asked)
		}
	})
}
