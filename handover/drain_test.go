package handover_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

const long = time.Hour

// await polls with a bound.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for begun := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// fill creates n sessions, every tenth of which has a user.
func fill(t *testing.T, s session.Store, n int) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
		rec := session.Record{Version: uint64(i + 1), Data: []byte("x")}
		if i%10 == 0 {
			rec.Owner = "ann"
		}
		save(t, s, ids[i], 0, rec, long)
	}
	return ids
}

// After a Drain the memory is empty, every session is in the shared store, and
// nothing runs any more. (A goroutine that was left would keep the bubble from
// ending.)
func TestDrainLeavesNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 1000
		local, shared := new(session.MemoryStore), new(session.MemoryStore)
		s := handover.New(local, shared)
		ids := fill(t, s, n)
		report, err := s.Drain(t.Context())
		if err != nil || report.Moved != n || report.Gone != 0 || report.Left != 0 || report != s.Progress() {
			t.Fatalf("%+v, %v", report, err)
		}
		if local.Len() != 0 || shared.Len() != n {
			t.Errorf("in memory %d, shared %d", local.Len(), shared.Len())
		}
		for i, id := range ids {
			if v := version(t, serving(shared), id); v != uint64(i+1) {
				t.Fatalf("session %d arrived as version %d", i, v)
			}
		}
		if again, err := s.Drain(t.Context()); err != nil || again != report {
			t.Errorf("called again: %+v, %v", again, err)
		}
	})
}

// Whoever has a user to lose is moved first.
func TestDrainMovesUsersFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		shared := &faulty{Store: new(session.MemoryStore)}
		s := serving(shared)
		owner := make(map[uuid.UUID]string)
		for i, id := range fill(t, s, 500) {
			owner[id] = "anonymous"
			if i%10 == 0 {
				owner[id] = "user"
			}
		}
		shared.decide(func(op string, id uuid.UUID, prev uint64) fate {
			mu.Lock()
			defer mu.Unlock()
			if op == "save" && prev == 0 {
				order = append(order, owner[id])
			}
			return happens
		})
		if _, err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.LastIndex(strings.Join(order, ","), "user") / len("user,"); len(order) != 500 || got >= 50 {
			t.Errorf("%d moved, the last user at %d", len(order), got)
		}
	})
}

// Sessions are on their way in parallel, and never more of them than workers.
func TestDrainMovesSixteenAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var now, most atomic.Int32
		shared := &slow{Store: new(session.MemoryStore), now: &now, most: &most}
		s := serving(shared)
		fill(t, s, 160)
		begun := time.Now()
		if _, err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if most.Load() != 16 || time.Since(begun) != 2*10*time.Millisecond {
			t.Errorf("%d at a time, in %v", most.Load(), time.Since(begun))
		}
	})
}

// A slow store takes a millisecond for each save.
type slow struct {
	session.Store
	now, most *atomic.Int32
}

func (s *slow) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	for n := s.now.Add(1); ; {
		if most := s.most.Load(); n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	defer s.now.Add(-1)
	time.Sleep(time.Millisecond)
	return s.Store.Save(ctx, id, prev, next, ttl)
}

// held is a move that is stopped while its record is neither here nor there.
type held struct {
	s      *handover.Store
	local  *session.MemoryStore
	shared *faulty
	id     uuid.UUID
	let    chan fate // what becomes of the next save over a placeholder
	drain  chan error
	cancel context.CancelFunc
}

// hold begins a Drain of one session, and returns when it was taken out of memory.
func hold(t *testing.T) *held {
	t.Helper()
	h := &held{
		local: new(session.MemoryStore), shared: &faulty{Store: new(session.MemoryStore)},
		id: uuid.New(), let: make(chan fate), drain: make(chan error, 1),
	}
	h.s = handover.New(h.local, h.shared)
	save(t, h.s, h.id, 0, session.Record{Version: 1, Owner: "ann", Data: []byte("x")}, long)
	h.shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
		if op == "save" && prev != 0 {
			return <-h.let
		}
		return happens
	})
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	go func() {
		_, err := h.s.Drain(ctx)
		h.drain <- err
	}()
	synctest.Wait()
	if h.local.Len() != 0 || h.s.Progress().Left != 1 {
		t.Fatalf("the record is not on its way: %+v", h.s.Progress())
	}
	return h
}

// finish lets everything happen and waits for the Drain.
func (h *held) finish(t *testing.T) {
	t.Helper()
	h.shared.decide(nil)
	close(h.let)
	if err := <-h.drain; err != nil {
		t.Fatal(err)
	}
}

// A call whose session is on its way waits, and has the effect that it would have
// had before or after.
func TestCallsWaitForASessionOnItsWay(t *testing.T) {
	ctx := context.Background()
	calls := map[string]func(h *held) error{
		"load": func(h *held) error {
			rec, err := h.s.Load(ctx, h.id)
			if err == nil && rec.Version != 1 {
				return errors.New("another record")
			}
			return err
		},
		"save": func(h *held) error {
			_, err := h.s.Save(ctx, h.id, 1, session.Record{Version: 2, Owner: "ann"}, long)
			return err
		},
		"touch":        func(h *held) error { return h.s.Touch(ctx, h.id, 1, 2*long) },
		"delete":       func(h *held) error { return h.s.Delete(ctx, h.id, 1) },
		"delete any":   func(h *held) error { return h.s.Delete(ctx, h.id, 0) },
		"other server": func(h *held) error { _, err := serving(h.shared).Load(ctx, h.id); return err },
	}
	after := map[string]uint64{"load": 1, "save": 2, "touch": 1, "other server": 1}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := hold(t)
				answered := make(chan error, 1)
				go func() { answered <- call(h) }()
				time.Sleep(100 * time.Millisecond)
				select {
				case err := <-answered:
					t.Fatalf("answered while the record was on its way: %v", err)
				default:
				}
				h.finish(t)
				if err := <-answered; err != nil {
					t.Fatal(err)
				}
				for _, s := range []session.Store{h.s, serving(h.shared), h.shared.Store} {
					if v := version(t, s, h.id); v != after[name] {
						t.Errorf("version %d, want %d", v, after[name])
					}
				}
			})
		})
	}
}

// Waiting ends with the caller's context, whatever the store does.
func TestWaitingEndsWithTheContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := hold(t)
		for name, call := range map[string]func(context.Context) error{
			"load":   func(ctx context.Context) error { _, err := h.s.Load(ctx, h.id); return err },
			"touch":  func(ctx context.Context) error { return h.s.Touch(ctx, h.id, 1, long) },
			"delete": func(ctx context.Context) error { return h.s.Delete(ctx, h.id, 0) },
			"save": func(ctx context.Context) error {
				_, err := h.s.Save(ctx, h.id, 1, session.Record{Version: 2}, long)
				return err
			},
			"other server": func(ctx context.Context) error { _, err := serving(h.shared).Load(ctx, h.id); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			begun := time.Now()
			err := call(ctx)
			cancel()
			if time.Since(begun) != 50*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) ||
				!strings.HasPrefix(err.Error(), "session: handover: ") {
				t.Errorf("%s: after %v: %v", name, time.Since(begun), err)
			}
		}
		h.finish(t)
		if v := version(t, h.s, h.id); v != 1 {
			t.Errorf("version %d", v)
		}
	})
}

// While it is not known whether the shared store got a session, each request tries
// to find out; if it cannot, it gets an error, and nobody is served from both.
func TestUnknownOutcomeIsSettledByWhoeverComes(t *testing.T) {
	for _, first := range []fate{refused, lost} {
		bubble(t, func(t *testing.T) {
			h := hold(t)
			h.let <- first
			synctest.Wait() // the Drain pauses
			answered := make(chan error, 1)
			go func() { _, err := h.s.Load(t.Context(), h.id); answered <- err }()
			h.let <- refused
			if err := <-answered; !errors.Is(err, errLost) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("served from somewhere, or told that it is gone: %v", err)
			}
			go func() { _, err := h.s.Load(t.Context(), h.id); answered <- err }()
			h.let <- happens
			if err := <-answered; err != nil {
				t.Error(err)
			}
			h.finish(t)
			if r := h.s.Progress(); r.Moved != 1 || r.Gone != 0 || r.Left != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A lost answer is recognised, also when others built on what it did not tell.
func TestLostAnswerIsRecognised(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := hold(t)
		h.let <- lost
		synctest.Wait()
		h.shared.decide(nil)
		save(t, serving(h.shared), h.id, 1, session.Record{Version: 2, Owner: "ann"}, long)
		if err := <-h.drain; err != nil {
			t.Fatal(err)
		}
		if r := h.s.Progress(); r.Moved != 1 || r.Gone != 0 {
			t.Errorf("%+v", r)
		}
		if v := version(t, h.s, h.id); v != 2 {
			t.Errorf("version %d: a write on another server was undone", v)
		}
	})
}

// A logout during a move is not undone: not by a send that is repeated, not by one
// that was stalled on its way, wherever the logout came from and whenever.
func TestLogoutDuringAMoveStays(t *testing.T) {
	logouts := map[string]func(ctx context.Context, h *held) error{
		"here":                       func(ctx context.Context, h *held) error { return h.s.Delete(ctx, h.id, 0) },
		"at another server":          func(ctx context.Context, h *held) error { return serving(h.shared).Delete(ctx, h.id, 0) },
		"at one without the package": func(ctx context.Context, h *held) error { return h.shared.Delete(ctx, h.id, 0) },
	}
	for _, first := range []fate{refused, lost, stalled} {
		for name, logout := range logouts {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					h := hold(t)
					h.let <- first
					synctest.Wait()
					if err := logout(t.Context(), h); err != nil {
						t.Fatal(err)
					}
					h.shared.release()
					gone(t, h)
					h.finish(t)
					h.shared.release()
					gone(t, h)
					if r := h.s.Progress(); r.Left != 0 || r.Moved+r.Gone != 1 {
						t.Errorf("%+v", r)
					}
				})
			})
		}
	}
}

// gone looks where a request would. (A load here may have to send, and be let.)
func gone(t *testing.T, h *held) {
	t.Helper()
	if v := version(t, serving(h.shared), h.id); v != 0 {
		t.Errorf("logged in again, as version %d", v)
	}
	if h.local.Len() != 0 {
		t.Error("it is in memory again")
	}
}

// A placeholder that was stalled, and comes after the session was moved and logged
// out, opens nothing: to who knows this package it is nobody, after at most ten
// seconds of waiting, and for the rest see TestPlaceholderIsLeftAlone.
func TestStalledPlaceholderOpensNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := &faulty{Store: new(session.MemoryStore)}
		s, other, id := serving(shared), serving(shared), uuid.New()
		save(t, s, id, 0, session.Record{Version: 1, Owner: "ann"}, long)
		var first atomic.Bool
		shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
			if op == "save" && prev == 0 && first.CompareAndSwap(false, true) {
				return stalled
			}
			return happens
		})
		if r, err := s.Drain(t.Context()); err != nil || r.Moved != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if err := other.Delete(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
		shared.release()
		if n := shared.Store.(*session.MemoryStore).Len(); n != 1 {
			t.Fatalf("%d records: the placeholder did not arrive, so this proves nothing", n)
		}
		begun := time.Now()
		for _, store := range []session.Store{s, other} {
			if v := version(t, store, id); v != 0 {
				t.Errorf("logged in again, as version %d", v)
			}
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("after %v", took)
		}
		if _, err := other.Save(t.Context(), id, 1, session.Record{Version: 2}, long); err == nil {
			t.Error("C1: saved over a session that was logged out")
		}
	})
}

// A session that is logged out, or whose time runs out, between its placeholder
// and its move leaves no placeholder.
func TestSessionThatEndsBeforeItsMoveLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		shared := &faulty{Store: store}
		s, id := serving(shared), uuid.New()
		save(t, s, id, 0, session.Record{Version: 1, Owner: "ann"}, long)
		shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
			if op == "save" && prev == 0 {
				if err := s.Delete(t.Context(), id, 0); err != nil {
					t.Error(err)
				}
			}
			return happens
		})
		if r, err := s.Drain(t.Context()); err != nil || r.Moved != 0 || r.Gone != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if store.Len() != 0 || version(t, s, id) != 0 {
			t.Errorf("%d records are left", store.Len())
		}
	})
}

// What a visitor did between the placeholder and the move arrives, however near
// its end the session had been.
func TestChangeBeforeTheMoveArrives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := &faulty{Store: new(session.MemoryStore)}
		s, id := serving(shared), uuid.New()
		save(t, s, id, 0, session.Record{Version: 1, Owner: "ann"}, time.Second)
		var sends atomic.Int32
		shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
			switch {
			case op == "save" && prev == 0:
				save(t, s, id, 1, session.Record{Version: 2, Owner: "ann"}, long)
			case op == "save" && sends.Add(1) < 10:
				time.Sleep(time.Second)
				return refused
			}
			return happens
		})
		if r, err := s.Drain(t.Context()); err != nil || r.Moved != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if v := version(t, s, id); v != 2 {
			t.Errorf("version %d", v)
		}
	})
}

// As long as the shared store is away nothing is taken from the visitors. A Drain
// that runs out of time says what is left, and the next one goes on.
func TestDrainThatEndsEarlyGoesOnLater(t *testing.T) {
	for _, is := range []fate{refused, lost, silent} {
		bubble(t, func(t *testing.T) {
			const n = 100
			shared := &faulty{Store: new(session.MemoryStore)}
			s := serving(shared)
			ids := fill(t, s, n)
			shared.decide(func(string, uuid.UUID, uint64) fate { return is })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			r, err := s.Drain(ctx)
			if r.Left != n || r.Moved != 0 || r.Took > 6*time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%+v, %v", r, err)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "session: Drain: 100 sessions are left") {
				t.Errorf("does not say what is left: %v", err)
			}
			for i, id := range ids {
				if v := version(t, s, id); v != uint64(i+1) {
					t.Fatalf("session %d is not served while the shared store is away: version %d", i, v)
				}
			}
			shared.decide(nil)
			if r, err := s.Drain(t.Context()); err != nil || r.Moved != n || r.Left != 0 {
				t.Errorf("again: %+v, %v", r, err)
			}
			for i, id := range ids {
				if v := version(t, shared, id); v != uint64(i+1) {
					t.Fatalf("session %d arrived as version %d", i, v)
				}
			}
		})
	}
}

// If it goes away after the placeholders were put, no more than sixteen sessions
// are of unknown whereabouts, and the next Drain finds out.
func TestAtMostSixteenSessionsAreOfUnknownWhereabouts(t *testing.T) {
	for _, is := range []fate{refused, lost, silent} {
		bubble(t, func(t *testing.T) {
			const n = 100
			shared := &faulty{Store: new(session.MemoryStore)}
			s := serving(shared)
			ids := fill(t, s, n)
			shared.decide(func(op string, _ uuid.UUID, prev uint64) fate {
				if op == "save" && prev != 0 {
					return is
				}
				return happens
			})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := s.Drain(ctx); err == nil {
				t.Fatal("it says that all is well")
			}
			shared.decide(func(string, uuid.UUID, uint64) fate { return refused })
			served, unknown := 0, 0
			for _, id := range ids {
				switch _, err := s.Load(t.Context(), id); {
				case err == nil:
					served++
				case errors.Is(err, session.ErrNotFound):
					t.Errorf("a visitor is logged out")
				default:
					unknown++
				}
			}
			if unknown > 16 || served+unknown != n {
				t.Errorf("%d are served, %d are not", served, unknown)
			}
			shared.decide(nil)
			if r, err := s.Drain(t.Context()); err != nil || r.Moved != n || r.Left != 0 || r.Gone != 0 {
				t.Errorf("again: %+v, %v", r, err)
			}
			for i, id := range ids {
				if v := version(t, shared, id); v != uint64(i+1) {
					t.Fatalf("session %d arrived as version %d", i, v)
				}
			}
		})
	}
}

// A session that the shared store never takes keeps no other from being moved.
func TestOneSessionThatIsRefusedHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := &faulty{Store: new(session.MemoryStore)}
		s := serving(shared)
		ids := fill(t, s, 200)
		shared.decide(func(op string, id uuid.UUID, prev uint64) fate {
			if op == "save" && id == ids[7] {
				return refused
			}
			return happens
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r, err := s.Drain(ctx)
		if err == nil || r.Moved != 199 || r.Left != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if v := version(t, s, ids[7]); v != 8 {
			t.Errorf("it is not served meanwhile: version %d", v)
		}
	})
}
