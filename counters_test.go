package session_test

import (
	"context"
	"encoding/json"
	"expvar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

var _ expvar.Var = new(session.Counters)

// figures is what a Counters prints.
type figures struct {
	Events map[session.EventKind]int
	Calls  map[string]struct {
		Count, Errors, Conflicts, Retries int
		Seconds                           float64
	}
}

func figuresOf(t *testing.T, text string) (f figures) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return f
}

// The counts are what the manager told, and expvar prints them as they are.
func TestCountersCountWhatHappens(t *testing.T) {
	var counters session.Counters
	if text := counters.String(); text != `{"events":{},"calls":{}}` {
		t.Errorf("before anything happened: %s", text)
	}
	store := newMoodyStore()
	m := newManager(t, session.Config{Store: store, OnEvent: counters.Observe})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { _ = s.Login("alice") })
	v.visit(countOneUp)
	lost := false
	store.feel(func(_ context.Context, op string, _ uuid.UUID) error {
		if op == "save" && !lost {
			lost = true
			return errAway
		}
		return nil
	})
	v.visit(countOneUp)
	store.feel(nil)
	v.visit(func(s *session.Session) {
		countOneUp(s)
		other := v.tab()
		other.manager = newManager(t, session.Config{Store: store}) // as another server
		other.visit(countOneUp)
	})
	v.visit((*session.Session).Destroy)
	v.cookie = "__Host-sid=" + strings.Repeat("a", 64)
	v.visit(readCount)

	var published expvar.Map
	published.Set("sessions", &counters)
	var page struct{ Sessions json.RawMessage }
	if err := json.Unmarshal([]byte(published.String()), &page); err != nil {
		t.Fatal(err)
	}
	f := figuresOf(t, string(page.Sessions))
	for kind, want := range map[session.EventKind]int{
		session.EventCreated: 1, session.EventLogin: 1, session.EventDestroyed: 1, session.EventUnknownToken: 1,
		session.EventConflictMerged: 1, session.EventStoreFailed: 1, session.EventStoreCall: 12, session.EventStoreAway: 0,
	} {
		if f.Events[kind] != want {
			t.Errorf("%s: %d, want %d", kind, f.Events[kind], want)
		}
	}
	load, save, del := f.Calls["load"], f.Calls["save"], f.Calls["delete"]
	if load.Count != 5 || load.Errors != 0 || load.Seconds <= 0 {
		t.Errorf("loads: %+v", load)
	}
	if save.Count != 6 || save.Errors != 1 || save.Conflicts != 1 || save.Retries != 1 || save.Seconds <= 0 {
		t.Errorf("saves: %+v", save)
	}
	if del.Count != 1 || len(f.Calls) != 3 {
		t.Errorf("calls: %+v", f.Calls)
	}
}

// Counting from many goroutines, while somebody reads, loses nothing.
func TestCountersAreSafeForConcurrentUse(t *testing.T) {
	var counters session.Counters
	kinds := []session.EventKind{session.EventCreated, session.EventLogin, session.EventStoreCall}
	ops := []string{"load", "save", "touch", "delete"}
	const goroutines, rounds = 8, 500
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for j := range rounds {
				for _, kind := range kinds {
					e := session.Event{Kind: kind}
					if kind == session.EventStoreCall {
						e.Op, e.Duration = ops[(i+j)%len(ops)], time.Millisecond
					}
					counters.Observe(t.Context(), e)
				}
				if j%50 == 0 {
					figuresOf(t, counters.String())
				}
			}
		})
	}
	wg.Wait()
	f := figuresOf(t, counters.String())
	for _, kind := range kinds {
		if f.Events[kind] != goroutines*rounds {
			t.Errorf("%s: %d, want %d", kind, f.Events[kind], goroutines*rounds)
		}
	}
	for op, c := range f.Calls {
		if !slices.Contains(ops, op) || c.Count != goroutines*rounds/len(ops) || c.Seconds < 0.999 || c.Seconds > 1.001 {
			t.Errorf("%s: %+v", op, c)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		counters.Observe(t.Context(), session.Event{Kind: session.EventStoreCall, Op: "load"})
	}); n != 0 {
		t.Errorf("%v allocations to count one event", n)
	}
}
