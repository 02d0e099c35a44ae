package session_test

import (
	"context"
	"fmt"
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

// crowd sends n requests with these steps at once, spread over servers, and
// returns the answers.
func crowd(v *visitor, n int, servers []string, steps ...string) []answer {
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		there := v.at(servers[i%len(servers)])
		wg.Go(func() { answers[i] = there.do(steps...) })
	}
	wg.Wait()
	return answers
}

// counts lets 100 requests count at once, here and on another server.
func (s scene) counts(t *testing.T, step, other string) {
	t.Helper()
	v := s.visitor(t, "set a x")
	told := map[int]int{}
	for _, got := range crowd(v, 100, []string{s.a.url, other}, step) {
		if got.status != http.StatusOK {
			t.Errorf("C2, %s: answered %d %q %v", step, got.status, got.body, got.err)
		}
		var n int
		if _, err := fmt.Sscanf(got.body, "counted %d:", &n); err == nil {
			told[n]++
		}
	}
	want(t, "C2, "+step, v.do(), http.StatusOK, "nobody a=x n=100")
	if step != "countnow" {
		return
	}
	for n := range 100 {
		if told[n+1] != 1 {
			t.Errorf("UpdateNow: %d was told %d times", n+1, told[n+1])
		}
	}
}

func TestHundredParallelIncrementsEndAtHundred(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for _, step := range []string{"count", "countnow"} {
			s.counts(t, step, s.b.url)
		}
	})
}

// Commits of one session inside one process queue, and each begins with what the
// last one left: twenty that were all loaded before any was saved take twenty
// saves, not one more (C2).
func TestCommitsOfOneProcessDoNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStallStore(new(session.MemoryStore))
		d := newDesk(t, session.Config{Store: store})
		token := d.do("", "set a x").cookies[0].Value
		first := store.stall(t, "before save")
		for range 20 {
			go func() { want(t, "C2", answer{status: d.do(token, "count").status}, http.StatusOK, "") }()
		}
		synctest.Wait() // one is at the store, the others are in the queue
		before := store.called("save")
		first.open()
		synctest.Wait()
		want(t, "C2", d.do(token), http.StatusOK, "nobody a=x n=20")
		if more := store.called("save") - before; more != 19 {
			t.Errorf("C2: %d saves followed the first of twenty commits, want 19", more)
		}
	})
}

// redeems lets 50 requests use one ticket at once. UpdateNow tells each whether
// its own write was the one that used it.
func (s scene) redeems(t *testing.T, other string) {
	t.Helper()
	v := s.visitor(t, "login alice")
	winners := 0
	for _, got := range crowd(v, 50, []string{s.a.url, other}, "redeem") {
		want(t, "UpdateNow", answer{status: got.status, err: got.err}, http.StatusOK, "")
		if strings.HasPrefix(got.body, "won: ") {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("UpdateNow: %d of 50 requests used the ticket, want 1", winners)
	}
}

func TestUpdateNowLetsOneOfFiftyUseATicket(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) { s.redeems(t, s.b.url) })
}

// What UpdateNow says is what was committed, not what the request had loaded.
func TestUpdateNowCountsOnWhatOthersCommitted(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "count")
		late := v.begin("hold", "countnow")
		want(t, "C2", v.at(s.b.url).do("count", "set a x"), http.StatusOK, "nobody a=x n=2")
		want(t, "UpdateNow", late.end(), http.StatusOK, "counted 3: nobody a=x n=3")
	})
}

// A function that leaves the value as it is must still have seen the newest one:
// here the ticket that the request had loaded as used was given back.
func TestUpdateNowThatChangesNothingAsksTheStore(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "set kept x", "redeem")
		late := v.begin("hold", "redeem")
		want(t, "C2", v.at(s.b.url).do("clear", "set kept x"), http.StatusOK, "nobody kept=x")
		want(t, "UpdateNow", late.end(), http.StatusOK, "won: nobody kept=x ticket")

		late = v.begin("hold", "redeem")
		want(t, "C3", v.at(s.b.url).do("logout"), http.StatusOK, "nobody")
		wantEnded(t, "C3", late.end())
	})
}

// T56: two users on one connection that the server keeps alive, as behind a
// reverse proxy. Nothing of one request is there in the next.
func TestTwoUsersAlternateOnOneConnection(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		a := newSite(t, session.Config{Store: store})
		a.transport.MaxConnsPerHost = 1
		alice, bob, nobody := a.visitor(), a.visitor(), a.visitor()
		alice.do("login alice", "set a hers")
		bob.do("login bob", "set a his")
		for i := range 20 {
			step := fmt.Sprint("set b ", i)
			want(t, "T56", alice.do(step), http.StatusOK, fmt.Sprint("alice a=hers b=", i))
			got := nobody.do()
			want(t, "T56", got, http.StatusOK, "nobody")
			wantCookie(t, "T56", got, "none")
			want(t, "T56", bob.do("save"), http.StatusOK, "bob a=his")
		}
	})
}

// A session that a handler gave to a goroutine which outlives the request: it
// can be read, refuses every change, and touches nobody else's state (R14).
func TestSessionKeptAfterItsRequestRefusesWrites(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		var kept *session.Session
		stalled := newStallStore(store)
		m, err := session.New(session.Config{Store: stalled, Name: "site", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		keep := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kept = session.FromContext(r.Context())
			page(w, r)
		}))
		serve := func(token string, steps ...string) answer {
			d := desk{t: t, handler: keep}
			return d.do(token, steps...)
		}
		token := serve("", "login alice", "set a x").cookies[0].Value
		serve(token)
		of := kept
		serve("", "login bob", "set a x") // the next request on the same server
		before := stored(t, store, token)
		calls := stalled.called("save") + stalled.called("delete")

		words["a"].Set(of, "late")
		words["a"].Update(of, func(string) string { return "late" })
		words["a"].Delete(of)
		if _, found := words["a"].Take(of); !found {
			t.Error("R14: a kept session cannot be read")
		}
		of.Clear()
		of.Destroy()
		for name, err := range map[string]error{
			"Login": of.Login("mallory"), "Renew": of.Renew(), "Save": of.Save(t.Context()),
			"UpdateNow": func() error {
				_, err := count.UpdateNow(t.Context(), of, func(n int) int { return n + 1 })
				return err
			}(),
		} {
			if err == nil {
				t.Errorf("R14: %s after the request's end returns no error", name)
			}
		}
		if got := show(of); got != "alice a=x" {
			t.Errorf("R14: a kept session reads %q", got)
		}
		if now := stalled.called("save") + stalled.called("delete"); now != calls {
			t.Errorf("R14: %d calls to the store after the request's end", now-calls)
		}
		if after := stored(t, store, token); after.Version != before.Version {
			t.Error("R14: the record changed after the request's end")
		}
		want(t, "R14", serve(token), http.StatusOK, "alice a=x")
	})
}

// Goroutines of one request share its session: no race, no lost change (R14).
func TestGoroutinesOfOneRequestShareItsSession(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		m, err := session.New(session.Config{Store: store, Name: "site", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		d := desk{t: t, handler: m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					count.Update(s, func(n int) int { return n + 1 })
					_, _ = count.Lookup(s)
					_, _, _ = s.ID(), s.Expires(), show(s)
					switch i % 4 {
					case 0:
						words["a"].Set(s, "x")
					case 1:
						if err := s.Save(r.Context()); err != nil {
							t.Error("R14:", err)
						}
					case 2:
						if _, err := count.UpdateNow(r.Context(), s, func(n int) int { return n + 1 }); err != nil {
							t.Error("R14:", err)
						}
					case 3:
						words["b"].Set(s, "x")
						words["b"].Delete(s)
					}
				})
			}
			wg.Wait()
			fmt.Fprint(w, show(s))
		}))}
		token := ""
		for i := range 5 {
			n := 20 * (i + 1) // 16 and one UpdateNow in four
			got := d.do(token)
			want(t, "R14", got, http.StatusOK, fmt.Sprint("nobody a=x n=", n))
			if token == "" {
				token = got.cookies[0].Value
			}
		}
	})
}

// A store that answers with somebody else's record, by a bug or by a mix-up of
// replies on a connection: nothing of it is shown, used or overwritten (T4, T54).
func TestAnotherSessionsRecordIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		mixed := &mixedStore{Store: store}
		a := newSite(t, session.Config{Store: mixed})
		alice, bob := a.visitor(), a.visitor()
		alice.do("login alice", "set a hers")
		bob.do("login bob", "set a his")
		token := bob.now()
		before := stored(t, store, alice.now())

		mixed.give(before)
		got := a.old(token).do()
		want(t, "T4", got, http.StatusOK, "nobody")
		wantCookie(t, "T4", got, "none")
		want(t, "T4", a.old(token).do("append a !"), http.StatusOK, "nobody a=!") // a visitor without a session
		if a.events.count(session.EventRecordRefused) == 0 {
			t.Error("T4: no event tells of the record")
		}
		mixed.give(session.Record{})

		// The same at a conflict: what is there instead is not merged with.
		held := a.old(token).begin("hold", "append a !")
		bob.do("set b x")
		mixed.give(before)
		wantEnded(t, "T4", held.end())
		mixed.give(session.Record{})
		want(t, "T4", bob.do(), http.StatusOK, "bob a=his b=x")
		if after := stored(t, store, alice.now()); after.Version != before.Version {
			t.Error("T4: the other session's record was written to")
		}
	})
}

// A mixedStore gives one record to whoever asks for any.
type mixedStore struct {
	session.Store
	instead atomic.Pointer[session.Record]
}

func (s *mixedStore) give(rec session.Record) { s.instead.Store(&rec) }

func (s *mixedStore) wrong(rec session.Record, err error) (session.Record, error) {
	if instead := s.instead.Load(); instead != nil && instead.Version != 0 && (err == nil || rec.Version != 0) {
		return *instead, err
	}
	return rec, err
}

func (s *mixedStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	return s.wrong(s.Store.Load(ctx, id))
}

func (s *mixedStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	live, err := s.Store.Save(ctx, id, prev, next, ttl)
	if err == nil {
		return live, nil
	}
	return s.wrong(live, err)
}
