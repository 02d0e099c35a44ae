package session_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// outageTimeout is the StoreTimeout of these tests, and slack what a busy
// machine may add to it.
const (
	outageTimeout = 400 * time.Millisecond
	slack         = 10 * time.Second
)

// An outage takes the store away and gives it back.
type outage struct {
	name      string
	away      func(p *proxied)
	back      func(p *proxied)
	forgetful bool // what was stored is gone
}

var outages = []outage{
	{"refusing", func(p *proxied) { p.proxy.Down() }, func(p *proxied) { p.proxy.Restore() }, false},
	{"accepting and never answering", func(p *proxied) { p.proxy.Silence() }, func(p *proxied) { p.proxy.Restore() }, false},
	{"process paused", func(p *proxied) { p.server.Pause() }, func(p *proxied) { p.server.Resume() }, false},
	{"process killed", func(p *proxied) { p.server.Stop() }, func(p *proxied) { p.server.Start() }, true},
}

// wantAway holds an answer to 503 with Retry-After, in time, with nothing of the
// handler's page and no cookie of ours (R6, T95).
func wantAway(t *testing.T, rule string, v *visitor, steps ...string) {
	t.Helper()
	begun := time.Now()
	got := v.do(steps...)
	if took := time.Since(begun); took > outageTimeout+slack {
		t.Errorf("%s: answered after %v", rule, took)
	}
	want(t, rule, got, http.StatusServiceUnavailable, "")
	wantCookie(t, rule, got, "none")
	if got.header.Get("Retry-After") == "" || strings.Contains(got.body, "alice") || strings.Contains(got.body, "nobody") {
		t.Errorf("%s: answered %q with %v", rule, got.body, got.header)
	}
}

// T95: while the store is away the visitor is not treated as anonymous, and
// keeps the cookie; after it is back the session is the same.
func TestStoreAwayIsAnsweredWith503AndTheSessionStays(t *testing.T) {
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			p := newProxied(t, session.Config{StoreTimeout: outageTimeout})
			v := p.patient(t).visitor()
			want(t, "before", v.do("login alice", "count"), http.StatusOK, "alice n=1")
			v = v.at(p.site.url)
			wantServed(t, "before", "alice n=1", v)
			token := v.now()
			o.away(p)
			wantAway(t, "read", v)
			wantAway(t, "write", v, "count")
			wantAway(t, "logout", v, "logout")
			wantAway(t, "first write", p.site.visitor(), "set a x")
			wantAway(t, "first login", p.site.visitor(), "login bob")
			want(t, "R1", p.site.visitor().do(), http.StatusOK, "nobody")
			want(t, "R3", p.site.old("junk").do(), http.StatusOK, "nobody")
			if v.now() != token {
				t.Error("T95: the browser's cookie changed")
			}
			o.back(p)
			untilServed(t, p.site.manager)
			if o.forgetful {
				wantServed(t, "T95", "nobody", v)
				wantServed(t, "T95", "alice", v, "login alice")
				return
			}
			wantServed(t, "T95", "alice n=1", v)
			wantServed(t, "T95", "alice a=x n=1", v, "set a x")
		})
	}
}

// The store goes away between the load and the commit of a request.
func TestStoreGoneAtTheCommit(t *testing.T) {
	for _, o := range outages {
		if o.forgetful {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()                    // most of it is waiting
			const timeout = 4 * time.Second // the loads need some of it on a busy machine
			p := newProxied(t, session.Config{StoreTimeout: timeout})
			v := p.patient(t).visitor()
			v.do("login alice", "count")
			v = v.at(p.site.url)
			wantServed(t, "before", "alice n=1", v)
			reader := v.begin("hold")
			tire(t, p.direct, v.now(), time.Minute)
			touching := v.begin("hold")
			writer := v.begin("set a x", "hold")
			o.away(p)
			begun := time.Now()
			want(t, "R4", reader.end(), http.StatusOK, "alice n=1")
			got := touching.end()
			want(t, "R4: a failed touch is no error page", got, http.StatusOK, "alice n=1")
			wantCookie(t, "R4", got, "none")
			got = writer.end()
			if took := time.Since(begun); took > 3*timeout+slack {
				t.Errorf("answered after %v", took)
			}
			want(t, "R6", got, http.StatusServiceUnavailable, "")
			wantCookie(t, "R6", got, "none")
			o.back(p)
			untilServed(t, p.site.manager)
			if n := p.site.events.count(session.EventTouchFailed); n != 1 {
				t.Errorf("R4: %d events tell of the failed touch, want 1", n)
			}
			if p.site.events.count(session.EventStoreFailed) == 0 {
				t.Error("no event tells of the failed save")
			}
			// A 503 means unknown, not undone.
			if after := p.patient(t).old(v.now()).do(); after.body != "alice n=1" && after.body != "alice a=x n=1" {
				t.Errorf("T95: after the outage the page says %q", after.body)
			}
		})
	}
}

// Thirty commits of one session queue behind a store that is away. None waits for
// the time-outs of those before it (C2), and no goroutine stays.
func TestCommitsQueuedBehindAnOutageAllReturn(t *testing.T) {
	const crowdSize = 30
	for _, o := range outages {
		if o.forgetful {
			continue
		}
		for _, timeout := range []time.Duration{time.Second, 2 * time.Second} {
			t.Run(fmt.Sprint(o.name, " ", timeout), func(t *testing.T) {
				p := newProxied(t, session.Config{StoreTimeout: timeout})
				patient := p.patient(t)
				v := patient.visitor()
				v.do("login alice")
				v.do("count")
				v = v.at(p.site.url)
				wantServed(t, "before", "alice n=1", v)
				before := runtime.NumGoroutine()
				held := make([]*pending, crowdSize)
				for i := range held {
					held[i] = v.begin("count", "hold")
				}
				o.away(p)
				begun := time.Now()
				var wg sync.WaitGroup
				for _, h := range held {
					wg.Go(func() {
						got := h.end()
						want(t, "R6", got, http.StatusServiceUnavailable, "")
						wantCookie(t, "R6", got, "none")
					})
				}
				wg.Wait()
				took := time.Since(begun)
				t.Logf("%d commits returned after %v", crowdSize, took.Round(time.Millisecond))
				if took > 2*timeout+slack {
					t.Errorf("C2: the last of %d commits returned after %v, StoreTimeout is %v", crowdSize, took, timeout)
				}
				o.back(p)
				untilServed(t, p.site.manager)
				var n int
				after := v.at(patient.url).do()
				if _, err := fmt.Sscanf(after.body, "alice n=%d", &n); err != nil || n > 1+crowdSize {
					t.Errorf("C5: after the outage the page says %q", after.body)
				}
				patient.transport.CloseIdleConnections()
				p.site.transport.CloseIdleConnections()
				settled(t, before)
			})
		}
	}
}

// A store that answers, but with errors (a Redis that is loading, or out of
// memory), makes each commit give up after some pauses. Those who queue behind
// the first need not go through the same one after the other (C2).
func TestCommitsQueuedBehindErrorsAllReturn(t *testing.T) {
	const crowdSize = 100 // who paused one after the other would need 20 seconds
	store := newStallStore(new(session.MemoryStore))
	a := newSite(t, session.Config{Store: store, StoreTimeout: outageTimeout})
	v := a.visitor()
	v.do("login alice")
	held := make([]*pending, crowdSize)
	for i := range held {
		held[i] = v.begin("count", "hold")
	}
	store.failing(func(string, uint64) error { return errors.New("LOADING Redis is loading the dataset in memory") })
	begun := time.Now()
	var wg sync.WaitGroup
	for _, h := range held {
		wg.Go(func() { want(t, "R6", h.end(), http.StatusServiceUnavailable, "") })
	}
	wg.Wait()
	took := time.Since(begun)
	t.Logf("%d commits returned after %v", crowdSize, took.Round(time.Millisecond))
	if took > 2*outageTimeout+slack {
		t.Errorf("C2: the last of %d commits returned after %v, StoreTimeout is %v", crowdSize, took, outageTimeout)
	}
	store.failing(nil)
	untilServed(t, a.manager)
	want(t, "T95", v.do("count"), http.StatusOK, "alice n=1")
}

// wantServed is want for a request that may be sent twice. A short StoreTimeout
// is too short for a busy machine now and then: the 503 says to try again.
func wantServed(t testing.TB, rule, body string, v *visitor, steps ...string) {
	t.Helper()
	got := v.do(steps...)
	for begun := time.Now(); got.status == http.StatusServiceUnavailable && time.Since(begun) < time.Minute; got = v.do(steps...) {
		time.Sleep(10 * time.Millisecond)
	}
	want(t, rule, got, http.StatusOK, body)
}

// untilServed waits until a store that is back gets calls again, and says how
// long that took.
func untilServed(t testing.TB, m *session.Manager) time.Duration {
	t.Helper()
	begun := time.Now()
	var err error
	for time.Since(begun) < time.Minute {
		if err = m.Ready(t.Context()); err == nil || errors.Is(err, session.ErrDegraded) {
			return time.Since(begun)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("a minute after the store came back: %v", err)
	return time.Since(begun)
}

// settled waits until no more goroutines run than before, give or take those
// that a connection pool keeps.
func settled(t *testing.T, before int) {
	t.Helper()
	const few = 10
	now := 0
	for range 3000 {
		if now = runtime.NumGoroutine(); now <= before+few {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%d goroutines before the outage, %d after it\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
}

// Sessions of other visitors do not wait for one that is stuck (R4).
func TestOneSessionsStalledSaveHoldsNobodyElse(t *testing.T) {
	p := newProxied(t, session.Config{})
	stuck, free := p.site.visitor(), p.site.visitor()
	stuck.do("login alice")
	free.do("login bob")
	key := "session:" + idOf(t, stuck.now()).String()
	admin := p.server.Admin()
	if n, err := admin.Exists(t.Context(), key).Result(); err != nil || n != 1 {
		t.Fatalf("%d keys are called %s: %v", n, key, err)
	}
	p.proxy.Decide(func(cmd []string) redistest.Action {
		if cmd[0] == "EVALSHA" && cmd[3] == key {
			return redistest.HoldCommand
		}
		return redistest.Pass
	})
	waiting := stuck.send("count")
	<-p.proxy.Held()
	want(t, "R4", free.do("count"), http.StatusOK, "bob n=1")
	want(t, "R4", stuck.do(), http.StatusOK, "alice") // nor do readers of the same one
	p.proxy.Decide(nil)
	p.proxy.Release()
	want(t, "R4", <-waiting, http.StatusOK, "alice n=1")
}
