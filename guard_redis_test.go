package session_test

import (
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// breakerTimeout is the StoreTimeout here: long enough to tell those who waited
// for it from those who did not.
const breakerTimeout = 2 * time.Second

// Patrons are visitors of one manager, each with a session of their own.
type patrons []*guest

func newPatrons(t testing.TB, m *session.Manager, n int) patrons {
	c := make(patrons, n)
	for i := range c {
		c[i] = &guest{t: t, manager: m}
		for begun := time.Now(); c[i].cookie == ""; { // a busy machine may refuse the first ones
			c[i].visit(func(s *session.Session) { _ = s.Login("alice"); count.Set(s, i) })
			if c[i].cookie == "" && time.Since(begun) > time.Minute {
				t.Fatal("no cookie")
			}
		}
	}
	return c
}

// turnedAway sends n requests, one every pause, and holds each answer to a 503
// that leaves the cookie alone. It returns how long they took, in order of length,
// and how many goroutines there were at the most.
func (c patrons) turnedAway(t testing.TB, n int, pause time.Duration) (took []time.Duration, goroutines int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			tab, sent := c[i%len(c)].tab(), time.Now()
			change := readCount
			if i%2 == 0 {
				change = countOneUp
			}
			w := tab.visit(change)
			waited := time.Since(sent)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || len(w.Result().Cookies()) > 0 {
				t.Errorf("R6: answered %d, %v", w.Code, w.Header())
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, waited)
		})
		goroutines = max(goroutines, runtime.NumGoroutine())
		time.Sleep(pause)
	}
	wg.Wait()
	slices.Sort(took)
	return took, goroutines
}

// A real Redis that goes away costs the first requests a StoreTimeout, and those
// that follow next to nothing: no goroutine piles up behind it. Once it is back
// everybody is logged in as before.
func TestBreakerOnRedis(t *testing.T) {
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Config{})
			p := &proxied{server: server, proxy: redistest.StartProxy(t, server.Addr)}
			var events eventLog
			m := newManager(t, session.Config{Store: p.store(t), Name: "outage", StoreTimeout: breakerTimeout, OnEvent: events.note})
			visitors := newPatrons(t, m, 20)
			untilServed(t, m)
			opened := events.count(session.EventStoreAway)

			o.away(p)
			begun := time.Now()
			first, _ := visitors.turnedAway(t, 50, 0)
			t.Logf("the first %d requests: p50 %v, longest %v", len(first), first[len(first)/2], first[len(first)-1])
			for events.count(session.EventStoreAway) == opened {
				if time.Since(begun) > time.Minute {
					t.Fatal("the breaker did not open")
				}
				time.Sleep(time.Millisecond)
			}
			settledBefore := runtime.NumGoroutine()
			calls := events.calls()
			then, goroutines := visitors.turnedAway(t, 500, time.Millisecond)
			p50 := then[len(then)/2]
			t.Logf("%d requests while the breaker is open: p50 %v, p99 %v, longest %v; goroutines %d before, %d at the most", len(then), p50, then[len(then)*99/100], then[len(then)-1], settledBefore, goroutines)
			if p50 > breakerTimeout/4 { // who waits for the store waits for half of it
				t.Errorf("half of the requests took longer than %v", p50)
			}
			if n := events.calls() - calls; n != 0 {
				t.Errorf("%d calls to a store that is away", n)
			}
			if goroutines > settledBefore+100 {
				t.Errorf("%d goroutines, %d before", goroutines, settledBefore)
			}

			o.back(p)
			t.Logf("served again after %v", untilServed(t, m).Round(time.Millisecond))
			if o.forgetful {
				return
			}
			for i, v := range visitors {
				v.visit(func(s *session.Session) {
					// A save whose outcome nobody was told may have taken effect (C5).
					if got := count.Get(s); s.User() != "alice" || got < i || got > i+5 {
						t.Errorf("visitor %d is %q and has counted to %d", i, s.User(), got)
					}
				})
			}
		})
	}
}

// calls is how many calls to the store ended, those of probes aside.
func (l *eventLog) calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if e.Kind == session.EventStoreCall && e.Op != "probe" {
			n++
		}
	}
	return n
}
