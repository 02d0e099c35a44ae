package session_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// A proxy between the library and Redis loses, refuses and stalls commands. What
// the store did is then unknown to the library, and must come out right all the
// same (C5).

// proxied is a Redis, a proxy before it, and a site whose store goes through it.
// direct is the same store by another way.
type proxied struct {
	server *redistest.Server
	proxy  *redistest.Proxy
	direct session.Store
	site   *site
}

func newProxied(t *testing.T, cfg session.Config) *proxied {
	t.Helper()
	p := &proxied{server: redistest.Start(t, redistest.Config{})}
	p.proxy = redistest.StartProxy(t, p.server.Addr)
	p.direct = redisStore(t, p.server.Client(&redis.Options{}))
	cfg.Store = p.store(t)
	p.site = newSite(t, cfg)
	return p
}

// release lets the one held script go, and waits until the server has run it.
func (p *proxied) release(t *testing.T) {
	t.Helper()
	was := p.server.CommandStats()["evalsha"].Calls
	p.proxy.Release()
	for deadline := time.Now().Add(time.Minute); p.server.CommandStats()["evalsha"].Calls == was; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the script that was held did not run")
		}
	}
}

// store is one more store behind the proxy, as another server would have.
func (p *proxied) store(t *testing.T) session.Store {
	return redisStore(t, redis.NewClient(&redis.Options{
		Addr: p.proxy.Addr, ContextTimeoutEnabled: true, DisableIdentity: true, PoolSize: 32,
		DialTimeout: 2 * time.Second,
	}))
}

// patient is one more site on the same server, with time for a busy machine and
// nothing in the way.
func (p *proxied) patient(t *testing.T) *site { return newSite(t, session.Config{Store: p.direct}) }

// nth chooses action for the nth command from now on, and passes the others.
// It reports whether that many came.
func (p *proxied) nth(n int, action redistest.Action) (came func() bool) {
	var seen atomic.Int32
	p.proxy.Decide(func([]string) redistest.Action {
		if int(seen.Add(1)) == n {
			return action
		}
		return redistest.Pass
	})
	return func() bool { return int(seen.Load()) >= n }
}

// A lostStep is one request of a scenario, and what the page then says.
type lostStep struct {
	name  string
	tired bool // a touch is due
	do    []string
	page  string
}

var lostScenario = []lostStep{
	{"first write", false, []string{"set kept x", "count"}, "nobody kept=x n=1"},
	{"modify", false, []string{"count"}, "nobody kept=x n=2"},
	{"login", false, []string{"login alice", "count"}, "alice kept=x n=3"},
	{"renew", false, []string{"renew", "count"}, "alice kept=x n=4"},
	{"read", false, nil, "alice kept=x n=4"},
	{"touch", true, nil, "alice kept=x n=4"},
	{"updatenow", false, []string{"countnow"}, "counted 5: alice kept=x n=5"},
	{"updatenow then renew", false, []string{"countnow", "set a x"}, "counted 6: alice a=x kept=x n=6"},
	{"login as another", false, []string{"login bob", "count"}, "bob n=1"},
	{"logout", false, []string{"logout"}, "nobody"},
	{"first write again", false, []string{"login alice", "countnow"}, "counted 1: alice n=1"},
}

// run plays the scenario. At the step called at, if any, the nth command gets the
// action. Every answer must be the one of an undisturbed run: the library sends
// again, and finds what became of the first time.
func (p *proxied) run(t *testing.T, at string, n int, action redistest.Action) (came bool) {
	t.Helper()
	v := p.site.visitor()
	var dead []string // tokens that Login, Renew and logout replaced
	for _, step := range lostScenario {
		if step.tired {
			tire(t, p.direct, v.now(), 10*time.Minute)
		}
		rule := fmt.Sprintf("C5, %s at command %d of %q, step %q", actionName(action), n, at, step.name)
		before := v.now()
		hit := func() bool { return false }
		if step.name == at {
			hit = p.nth(n, action)
		}
		want(t, rule, v.do(step.do...), http.StatusOK, step.page)
		came = came || hit()
		p.proxy.Decide(nil)
		if now := v.now(); before != "" && now != before {
			dead = append(dead, before)
		}
		after := step.page
		if _, page, found := cutCounted(after); found {
			after = page
		}
		want(t, rule+", as it is stored", v.do(), http.StatusOK, after)
		for _, token := range dead {
			want(t, rule+", a dead token", p.site.old(token).do(), http.StatusOK, "nobody")
		}
	}
	return came
}

func cutCounted(page string) (n int, rest string, found bool) {
	if _, err := fmt.Sscanf(page, "counted %d:", &n); err != nil {
		return 0, page, false
	}
	return n, page[len("counted 1: "):], true
}

func actionName(a redistest.Action) string {
	switch a {
	case redistest.DropReply:
		return "reply dropped"
	case redistest.Refuse:
		return "refused"
	case redistest.BlackHole:
		return "swallowed"
	}
	return fmt.Sprint(time.Duration(a))
}

// Every command of the scenario is hit once, at every position of its request.
func TestLosingAnyOneReplyLosesAndRepeatsNothing(t *testing.T) {
	p := newProxied(t, session.Config{})
	p.run(t, "", 0, redistest.Pass) // gives the server the scripts
	hits := 0
	for _, action := range []redistest.Action{redistest.DropReply, redistest.Refuse} {
		for _, step := range lostScenario {
			for n := 1; p.run(t, step.name, n, action); n++ {
				hits++
			}
		}
	}
	t.Logf("%d commands were hit, each in a run of its own", hits)
	if hits < 2*2*len(lostScenario) {
		t.Errorf("only %d commands were hit", hits)
	}
}

// A fresh server, or one whose scripts were flushed, answers NOSCRIPT: nothing
// ran, and the script is sent as a whole. The reply to that may get lost, too.
func TestLosingRepliesAfterScriptFlush(t *testing.T) {
	p := newProxied(t, session.Config{})
	admin := p.server.Admin()
	for n := 1; ; n++ {
		v := p.site.visitor()
		want(t, "NOSCRIPT", v.do("count"), http.StatusOK, "nobody n=1")
		if err := admin.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		came := p.nth(n, redistest.DropReply)
		want(t, "NOSCRIPT", v.do("login alice", "count"), http.StatusOK, "alice n=2")
		p.proxy.Decide(nil)
		want(t, "NOSCRIPT", v.do(), http.StatusOK, "alice n=2")
		if !came() {
			if n < 5 {
				t.Errorf("NOSCRIPT: a login took %d commands; where was the script sent?", n-1)
			}
			return
		}
	}
}

// A command that is swallowed without an answer takes half of what time there
// is, so that it can be sent again (C5).
func TestSwallowedSaveIsSentAgainWithinStoreTimeout(t *testing.T) {
	for _, step := range []string{"first write", "modify", "login", "updatenow", "logout"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			p := newProxied(t, session.Config{StoreTimeout: 4 * time.Second})
			n := 3 // behind the two of the load
			if step == "first write" {
				n = 1
			}
			p.run(t, "", 0, redistest.Pass)
			if !p.run(t, step, n, redistest.BlackHole) {
				t.Errorf("no command was swallowed")
			}
		})
	}
}

// Sixteen goroutines on two servers count in one session, and every tenth save's
// reply is lost after the server executed it. Each increment that was answered
// with 200 is there once.
func TestLosingEveryTenthReplyUnderLoadCountsRight(t *testing.T) {
	const goroutines, each = 16, 25
	for _, step := range []string{"count", "countnow"} {
		t.Run(step, func(t *testing.T) {
			p := newProxied(t, session.Config{})
			other := newSite(t, session.Config{Store: p.store(t)})
			v := p.site.visitor()
			v.do("set a x")
			var saves, lost int
			p.proxy.Decide(func(cmd []string) redistest.Action {
				if cmd[0] != "EVALSHA" && cmd[0] != "EVAL" {
					return redistest.Pass
				}
				if saves++; saves%10 != 0 {
					return redistest.Pass
				}
				lost++
				return redistest.DropReply
			})
			var acked, unknown atomic.Int32
			var wg sync.WaitGroup
			for i := range goroutines {
				there := v.at([]string{p.site.url, other.url}[i%2])
				wg.Go(func() {
					for range each {
						switch got := there.do(step); got.status {
						case http.StatusOK:
							acked.Add(1)
						case http.StatusServiceUnavailable:
							unknown.Add(1)
						default:
							t.Errorf("C5: answered %d %q %v", got.status, got.body, got.err)
						}
					}
				})
			}
			wg.Wait()
			p.proxy.Decide(nil)
			var n int
			if _, err := fmt.Sscanf(v.do().body, "nobody a=x n=%d", &n); err != nil {
				t.Fatal(err)
			}
			merged := p.site.events.count(session.EventConflictMerged) + other.events.count(session.EventConflictMerged)
			t.Logf("%d increments answered 200, %d answered 503, %d counted; %d saves sent, %d replies lost, %d commits merged", acked.Load(), unknown.Load(), n, saves, lost, merged)
			if n < int(acked.Load()) || n > int(acked.Load()+unknown.Load()) {
				t.Errorf("C5: the counter ended at %d", n)
			}
			if lost == 0 {
				t.Error("no reply was lost")
			}
		})
	}
}

// A save that creates a session may be stalled on its way, sent again, answered,
// and the session logged out, before the first copy arrives. It must not bring
// the session back.
func TestStalledCreationDoesNotReviveASession(t *testing.T) {
	t.Parallel() // most of it is waiting
	p := newProxied(t, session.Config{StoreTimeout: 4 * time.Second})
	p.run(t, "", 0, redistest.Pass)
	for _, steps := range [][]string{{"set a x"}, {"login alice"}} {
		v := p.site.visitor()
		p.nth(1, redistest.HoldCommand)
		got := v.do(steps...)
		p.proxy.Decide(nil)
		<-p.proxy.Held()
		wantCookie(t, "C5", got, "token")
		token := v.now()
		want(t, "C5", v.do("logout"), http.StatusOK, "nobody")
		p.release(t)
		want(t, "C1", p.site.old(token).do(), http.StatusOK, "nobody")
	}
}

// The same for a session that exists: a copy of a save that arrives late finds
// another version, or none.
func TestStalledSaveDoesNotReviveASession(t *testing.T) {
	t.Parallel() // most of it is waiting
	p := newProxied(t, session.Config{StoreTimeout: 4 * time.Second})
	p.run(t, "", 0, redistest.Pass)
	for _, end := range []string{"logout", "renew"} {
		v := p.site.visitor()
		v.do("login alice", "count")
		p.nth(3, redistest.HoldCommand)
		want(t, "C5", v.do("count"), http.StatusOK, "alice n=2")
		p.proxy.Decide(nil)
		<-p.proxy.Held()
		token := v.now()
		v.do(end)
		before, _ := p.direct.Load(context.Background(), idOf(t, token))
		p.release(t)
		after, _ := p.direct.Load(context.Background(), idOf(t, token))
		if before.Version != after.Version {
			t.Errorf("C1: after %s a save that came late changed the record", end)
		}
	}
}
