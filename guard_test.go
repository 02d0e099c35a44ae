package session_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// The first half of a StoreTimeout into a black hole is what requests wait for;
// whoever comes later is answered at once, and the store is asked by one probe at
// a time until it is back. Nobody is logged out (R6).
func TestBreakerBlackHoleCostsTheFirstRequestsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		v := s.visitor(t)
		s.store.feel(blackHole)
		begun := time.Now()
		var wg sync.WaitGroup
		for time.Since(begun) < 3*moodyTimeout {
			wg.Go(func() {
				tab, sent := v.tab(), time.Now()
				w := tab.visit(readCount)
				waited := time.Since(sent)
				if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || tab.cookie != v.cookie {
					t.Errorf("R6: answered %d, %v", w.Code, w.Header())
				}
				if waited > moodyTimeout || sent.Sub(begun) > moodyTimeout/2 && waited > 0 {
					t.Errorf("sent %v into the outage, answered after %v", sent.Sub(begun), waited)
				}
			})
			time.Sleep(moodyTimeout / 40)
		}
		wg.Wait()
		s.store.feel(blackHole) // counts anew
		time.Sleep(time.Minute)
		if loads, most := s.store.called("load"); most != 1 {
			t.Errorf("%d probes at a time, of %d loads", most, loads)
		}
		s.store.feel(nil)
		back := time.Now()
		for v.tab().visit(readCount).Code != http.StatusOK {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(back); took > time.Second {
			t.Errorf("served again %v after the store came back", took)
		}
		synctest.Wait() // for who tells of it
		if n := s.events.count(session.EventStoreAway); n != 1 {
			t.Errorf("told %d times that the store is away", n)
		}
		if n := s.events.count(session.EventStoreBack); n != 1 {
			t.Errorf("told %d times that the store is back", n)
		}
		for _, word := range []string{"level=WARN msg=\"session: store_away\"", "level=INFO msg=\"session: store_back\""} {
			if n := strings.Count(s.logs.String(), word); n != 1 {
				t.Errorf("%d lines with %s", n, word)
			}
		}
	})
}

// A store that refuses its calls at once is found out in an eighth of a
// StoreTimeout. Calls that are turned away are told to the hook, and not logged.
func TestBreakerRefusingStoreIsAskedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		v := s.visitor(t)
		s.store.feel(refusing)
		v.visit(readCount)
		time.Sleep(moodyTimeout/8 + time.Millisecond)
		before, _ := s.store.called("load")
		lines, failures := strings.Count(s.logs.String(), "store_failed"), s.events.count(session.EventStoreFailed)
		for range 100 {
			if w := v.tab().visit(readCount); w.Code != http.StatusServiceUnavailable {
				t.Errorf("R6: answered %d", w.Code)
			}
		}
		if after, _ := s.store.called("load"); after != before {
			t.Errorf("%d calls to a store that is away", after-before)
		}
		if n := s.events.count(session.EventStoreFailed) - failures; n != 100 {
			t.Errorf("%d events tell of 100 calls that were turned away", n)
		}
		if last := s.events.events[len(s.events.events)-1]; !errors.Is(last.Err, errAway) || !strings.Contains(last.Err.Error(), errAway.Error()) {
			t.Errorf("what is told does not name the cause: %v", last)
		}
		if n := strings.Count(s.logs.String(), "store_failed") - lines; n != 0 {
			t.Errorf("%d log lines tell of calls that were turned away", n)
		}
	})
}

// Reads go on while every write fails, whether there are many requests or few.
func TestBreakerFailingWritesLeaveReadersAlone(t *testing.T) {
	for _, pause := range []time.Duration{0, 100 * time.Millisecond, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newMoodyScene(t)
			v := s.visitor(t)
			s.store.feel(refusingWrites)
			for range 50 {
				if w := v.tab().visit(countOneUp); w.Code != http.StatusServiceUnavailable {
					t.Errorf("a write was answered %d", w.Code)
				}
				if w := v.tab().visit(readCount); w.Code != http.StatusOK {
					t.Errorf("a read was answered %d", w.Code)
				}
				time.Sleep(pause)
			}
			if n := s.events.count(session.EventStoreAway); n != 0 {
				t.Errorf("pause %v: the breaker opened %d times", pause, n)
			}
		})
	}
}

// A store that answers within half of StoreTimeout, however slow that is, is not
// away: a slow site is better than none.
func TestBreakerSlowStoreIsNotAway(t *testing.T) {
	for _, latency := range []time.Duration{moodyTimeout / 5, moodyTimeout * 3 / 10, moodyTimeout * 45 / 100} {
		synctest.Test(t, func(t *testing.T) {
			s := newMoodyScene(t)
			v := s.visitor(t)
			s.store.feel(slow(latency))
			for i := range 100 {
				if w := v.visit(countOneUp); w.Code != http.StatusOK {
					t.Fatalf("latency %v: request %d was answered %d", latency, i, w.Code)
				}
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
			}
			if n := s.events.count(session.EventStoreAway); n != 0 {
				t.Errorf("latency %v: the breaker opened %d times", latency, n)
			}
		})
	}
}

// One dead master of three answers for a third of the sessions. The others' go
// on: whatever fails, something is answered in between.
func TestBreakerDeadThirdOfAClusterLeavesTheRestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		dead := func(id uuid.UUID) bool { return id[0]%3 == 0 }
		type visitor struct {
			*guest
			dead bool
		}
		var visitors []visitor
		var alive int
		for len(visitors) < 30 || alive < 15 {
			v := s.visitor(t)
			_, token, _ := strings.Cut(v.cookie, "=")
			visitors = append(visitors, visitor{v, dead(idOf(t, token))})
			if !visitors[len(visitors)-1].dead {
				alive++
			}
		}
		s.store.feel(func(ctx context.Context, op string, id uuid.UUID) error {
			if dead(id) {
				return blackHole(ctx, op, id)
			}
			return nil
		})
		var wg sync.WaitGroup
		var refused atomic.Int64
		done := make(chan struct{})
		for i := range 600 {
			v := visitors[i%len(visitors)]
			wg.Go(func() {
				switch w := v.tab().visit(countOneUp); {
				case v.dead && w.Code != http.StatusServiceUnavailable, !v.dead && w.Code != http.StatusOK:
					t.Errorf("dead %t: answered %d", v.dead, w.Code)
				case v.dead:
					refused.Add(1)
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
		go func() {
			wg.Wait()
			if err := s.manager.Ready(t.Context()); !errors.Is(err, session.ErrDegraded) {
				t.Errorf("Ready: %v", err)
			}
			close(done)
		}()
		// A site where nobody else comes meanwhile is one that cannot tell.
		for live := visitors[slices.IndexFunc(visitors, func(v visitor) bool { return !v.dead })]; ; {
			select {
			case <-done:
			case <-time.After(20 * time.Millisecond):
				live.visit(readCount)
				continue
			}
			break
		}
		if n := s.events.count(session.EventStoreAway); n != 0 || refused.Load() == 0 {
			t.Errorf("the breaker opened %d times, %d requests to the dead third were refused", n, refused.Load())
		}
	})
}

// A caller who gives up says nothing about the store.
func TestBreakerCallersWhoLeaveDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		s.store.feel(slow(100 * time.Millisecond))
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			if err := s.manager.RevokeAny(ctx, uuid.New()); !errors.Is(err, context.Canceled) {
				t.Errorf("Revoke: %v", err)
			}
		}
		if n := s.events.count(session.EventStoreAway); n != 0 {
			t.Errorf("the breaker opened %d times", n)
		}
		if err := s.manager.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A commit that meets the open breaker ends at once, without the sends and the
// pauses that a store gets which may answer. A logout is no exception: it did not
// happen, and the visitor is told so (C4, R6).
func TestBreakerEndsCommitsAtOnce(t *testing.T) {
	for name, change := range map[string]func(*session.Session){
		"change": countOneUp,
		"login":  func(s *session.Session) { _ = s.Login("bob") },
		"logout": (*session.Session).Destroy,
		"late logout": func(s *session.Session) {
			countOneUp(s)
			_ = s.Save(context.Background())
			s.Destroy()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newMoodyScene(t)
				v := s.visitor(t)
				cookie := v.cookie
				var saves, deletes int
				var begun time.Time
				w := v.visit(func(session *session.Session) {
					s.opened(t)
					saves, _ = s.store.called("save")
					deletes, _ = s.store.called("delete")
					begun = time.Now()
					change(session)
				})
				if w.Code != http.StatusServiceUnavailable || v.cookie != cookie || len(w.Result().Cookies()) > 0 {
					t.Errorf("R6: answered %d, %v", w.Code, w.Header())
				}
				if took := time.Since(begun); took > 0 {
					t.Errorf("after %v", took)
				}
				savesNow, _ := s.store.called("save")
				deletesNow, _ := s.store.called("delete")
				if savesNow != saves || deletesNow != deletes {
					t.Errorf("%d saves and %d deletes were sent to a store that is away", savesNow-saves, deletesNow-deletes)
				}
				s.store.feel(nil)
				time.Sleep(time.Second)
				v.visit(func(s *session.Session) {
					if s.User() != "alice" || count.Get(s) != 1 {
						t.Errorf("afterwards %q has counted to %d", s.User(), count.Get(s))
					}
				})
			})
		})
	}
}

// A commit that is under way when the store goes away gives up with it, and so do
// the sends that it would have made.
func TestBreakerEndsTheRetriesOfACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		v := s.visitor(t)
		begun := time.Now()
		v.visit(func(session *session.Session) {
			s.store.feel(func(ctx context.Context, op string, id uuid.UUID) error {
				if op == "save" && time.Since(begun) > moodyTimeout/4 {
					return errAway // at once: there would be more sends
				}
				return blackHole(ctx, op, id)
			})
			countOneUp(session)
		})
		if took := time.Since(begun); took > moodyTimeout/2+10*time.Millisecond {
			t.Errorf("the commit took %v, the store is known to be away after %v", took, moodyTimeout/2)
		}
	})
}

// The probes of a manager end with Close, and with a manager that nobody uses any
// more.
func TestBreakerProbesEndWithTheManager(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newMoodyScene(t)
			s.opened(t)
			s.store.feel(blackHole)
			time.Sleep(moodyTimeout)
			begun := time.Now()
			if err := s.manager.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 0 {
				t.Errorf("a probe held Close up for %v", took)
			}
			before, _ := s.store.called("load")
			time.Sleep(time.Hour)
			if after, _ := s.store.called("load"); after != before {
				t.Errorf("%d probes after Close", after-before)
			}
		})
	})
	t.Run("forgotten", func(t *testing.T) {
		store := newMoodyStore()
		store.feel(refusing)
		manager := awayManager(t, store)
		for range 3000 {
			if runtime.GC(); manager.Value() == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("a manager is not collected while its store is away")
	})
}

// awayManager is a manager whose store is known to be away, which nobody refers to.
func awayManager(t *testing.T, store session.Store) weak.Pointer[session.Manager] {
	var events eventLog
	m, err := session.New(session.Config{Store: store, Name: "forgotten", StoreTimeout: 50 * time.Millisecond, Logger: quiet, OnEvent: events.note})
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if events.count(session.EventStoreAway) > 0 {
			return weak.Make(m)
		}
		_ = m.RevokeAny(t.Context(), uuid.New())
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the breaker did not open")
	return weak.Pointer[session.Manager]{}
}

// The guard is a UserStore where the store is one, and tells of each call by its
// name; elsewhere the user is told of their own store's type.
func TestGuardKeepsListsWhereTheStoreDoes(t *testing.T) {
	lists := &listsStore{moodyStore: newMoodyStore()}
	var events eventLog
	m := newManager(t, session.Config{Store: lists, OnEvent: events.note})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { _ = s.Login("alice") })
	if _, err := m.Sessions(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	if err := m.RevokeUser(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	var told []string
	for _, e := range events.events {
		if e.Kind == session.EventStoreCall && e.Op != "save" {
			told = append(told, e.Op)
		}
	}
	if len(told) < 6 || !slices.Equal(told, lists.asked) {
		t.Errorf("told of %q, the store was asked %q", told, lists.asked)
	}

	m = newManager(t, session.Config{Store: newMoodyStore()})
	_, err := m.Sessions(t.Context(), "alice")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "moodyStore") {
		t.Errorf("a store without lists: %v", err)
	}
}

// Each call to a store is told with its name, its time and what came back, and a
// write that is sent again says so. A MemoryStore is not measured.
func TestEventsTellOfStoreCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		s.store.feel(slow(7 * time.Millisecond))
		v := s.visitor(t)
		lost := 0
		s.store.feel(func(_ context.Context, op string, _ uuid.UUID) error {
			if op == "save" && lost < 2 {
				lost++
				return errAway
			}
			time.Sleep(7 * time.Millisecond)
			return nil
		})
		v.visit(countOneUp)
		_ = s.manager.RevokeAny(t.Context(), uuid.New())
		v.visit((*session.Session).Destroy)
		type call struct {
			op      string
			took    time.Duration
			attempt int
			err     error
		}
		var got []call
		for _, e := range s.events.events {
			if e.Kind == session.EventStoreCall {
				got = append(got, call{e.Op, e.Duration, e.Attempt, e.Err})
				if e.ID != uuid.Nil || e.User != "" {
					t.Errorf("T2: %v", e)
				}
			}
		}
		const ms = time.Millisecond
		want := []call{
			{"save", 7 * ms, 0, nil},
			{"load", 7 * ms, 0, nil}, {"save", 0, 0, errAway}, {"save", 0, 1, errAway}, {"save", 7 * ms, 2, nil},
			{"load", 7 * ms, 0, session.ErrNotFound},
			{"load", 7 * ms, 0, nil}, {"delete", 7 * ms, 0, nil},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
	var events eventLog
	v := &guest{t: t, manager: newManager(t, session.Config{OnEvent: events.note})}
	v.visit(countOneUp)
	v.visit(countOneUp)
	if n := events.count(session.EventStoreCall); n != 0 || events.count(session.EventCreated) != 1 {
		t.Errorf("%d calls to a MemoryStore were measured", n)
	}
}

// Every field of an event is in its log line.
func TestEventLogValueIsComplete(t *testing.T) {
	e := session.Event{Kind: "k", ID: uuid.UUID{1}, User: "u", Key: "key", Err: errAway, Op: "load", Attempt: 1, Duration: time.Second}
	fields := reflect.ValueOf(e)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("%s is not set in this test", fields.Type().Field(i).Name)
		}
	}
	if n := len(e.LogValue().Group()); n != fields.NumField() {
		t.Errorf("%d attributes, %d fields", n, fields.NumField())
	}
}

// Close promises that requests which change nothing are still served.
func TestBreakerDoesNotStayOpenAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		v := s.visitor(t)
		s.opened(t)
		if err := s.manager.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.store.feel(nil)
		time.Sleep(time.Minute)
		if got := v.visit(readCount); got.Code != http.StatusOK {
			t.Errorf("answered %d a minute after the store came back", got.Code)
		}
	})
}
