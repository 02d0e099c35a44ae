package session_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// Expiry as a visitor meets it (E1 to E5, R4), through the manager and in
// virtual time: hours pass at once, and every boundary is exact.

// signIn returns the token of a new session with a=x.
func (d *desk) signIn(user string) string {
	d.t.Helper()
	got := d.do("", "login "+user, "set a x")
	if got.cookie() != "token" {
		d.t.Fatalf("answered %d %q", got.status, got.body)
	}
	return got.cookies[0].Value
}

// alive reports whether the token still opens its session. It is a request like
// any other, and so may touch.
func (d *desk) alive(token string) bool {
	d.t.Helper()
	got := d.do(token)
	if got.status != http.StatusOK || got.body != "alice a=x" && got.body != "nobody" {
		d.t.Fatalf("answered %d %q", got.status, got.body)
	}
	return got.body != "nobody"
}

// The idle time is counted from the last touch, which may be up to a tenth older
// than the last request (E1, E4).
func TestIdleSessionEndsWithinATenthOfItsTimeout(t *testing.T) {
	const idle = 30 * time.Minute
	for _, c := range []struct {
		name string
		last time.Duration // after the touch comes one more request
	}{
		{"at once", 0},
		{"just before a touch is due", idle/10 - time.Millisecond},
		{"when a touch is due", idle / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends := func(after time.Duration) (gone bool) {
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(t, session.Config{IdleTimeout: idle})
					token := d.signIn("alice")
					time.Sleep(c.last)
					if !d.alive(token) {
						t.Fatal("E1: ended early")
					}
					time.Sleep(after)
					gone = !d.alive(token)
				})
				return gone
			}
			if ends(idle*9/10 - time.Millisecond) {
				t.Error("E4: ended more than a tenth of the idle timeout early")
			}
			if !ends(idle) {
				t.Error("E1: alive when the idle timeout had passed")
			}
		})
	}
}

// T12: a request a minute keeps a session for its lifetime and no longer.
// Neither touches, nor writes, nor Renews extend it (E5).
func TestBusySessionEndsWithItsLifetime(t *testing.T) {
	for _, c := range []struct {
		lifetime time.Duration
		steps    []string
	}{
		{12 * time.Hour, nil}, // the default
		{time.Hour, []string{"set b y", "delete b", "count"}},
		{time.Hour, []string{"renew"}},
	} {
		t.Run(fmt.Sprint(c.lifetime, " ", c.steps), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, session.Config{Lifetime: c.lifetime})
				token := d.signIn("alice")
				begun := time.Now()
				for time.Since(begun) < c.lifetime+time.Hour {
					time.Sleep(time.Minute)
					got := d.do(token, c.steps...)
					live := strings.HasPrefix(got.body, "alice")
					if since := time.Since(begun); live != (since < c.lifetime) {
						t.Fatalf("E1: after %v of a busy session: %q", since, got.body)
					}
					if got.cookie() == "token" {
						token = got.cookies[0].Value
					}
				}
			})
		})
	}
}

// Only Login restarts the lifetime, also as the same user (L1, E5).
func TestLoginRestartsTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, session.Config{IdleTimeout: time.Hour, Lifetime: time.Hour})
		token := d.signIn("alice")
		time.Sleep(50 * time.Minute)
		token = d.do(token, "login alice", "set a x").cookies[0].Value
		time.Sleep(time.Hour - time.Millisecond)
		if !d.alive(token) {
			t.Error("E5: ended before the lifetime that Login began")
		}
		time.Sleep(time.Millisecond)
		if d.alive(token) {
			t.Error("E1: alive after the lifetime that Login began")
		}
	})
}

// A lower timeout in the next version of the application reaches sessions of the
// last one at their next request (E5); a higher lifetime does not stretch them.
func TestChangedTimeoutsReachLiveSessions(t *testing.T) {
	of := func(idle, lifetime time.Duration) session.Config {
		return session.Config{IdleTimeout: idle * time.Minute, Lifetime: lifetime * time.Minute}
	}
	for _, c := range []struct {
		name        string
		before      session.Config
		after       session.Config
		next        time.Duration // when the new version sees its first request
		alive, gone time.Duration // of the next request, measured from the login
	}{
		{"IdleTimeout lowered", of(8, 12), of(1, 12), 30 * time.Second, 90*time.Second - time.Millisecond, 90 * time.Second},
		{"Lifetime lowered", of(8, 12), of(8, 4), time.Minute, 4*time.Minute - time.Millisecond, 4 * time.Minute},
		{"Lifetime raised", of(12, 12), of(12, 24), time.Minute, 12*time.Minute - time.Millisecond, 12 * time.Minute},
		{"IdleTimeout raised", of(1, 12), of(4, 12), 30 * time.Second, 4 * time.Minute, 5 * time.Minute},
	} {
		for _, last := range []time.Duration{c.alive, c.gone} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := new(session.MemoryStore)
					c.before.Store, c.after.Store = store, store
					before, after := newDesk(t, c.before), newDesk(t, c.after)
					token := before.signIn("alice")
					begun := time.Now()
					time.Sleep(c.next)
					if !after.alive(token) {
						t.Fatal("E5: the session did not reach the new version")
					}
					time.Sleep(last - time.Since(begun))
					if got := after.alive(token); got != (last == c.alive) {
						t.Errorf("E5: alive=%t at %v", got, last)
					}
				})
			})
		}
	}
	t.Run("Lifetime lowered below what has passed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := new(session.MemoryStore)
			before := newDesk(t, session.Config{Store: store})
			after := newDesk(t, session.Config{Store: store, Lifetime: 10 * time.Minute})
			token := before.signIn("alice")
			time.Sleep(10 * time.Minute)
			if after.alive(token) {
				t.Error("E5: a lowered lifetime did not reach the session")
			}
			if after.events.count(session.EventExpired) != 1 {
				t.Error("E3: no event tells that the session expired")
			}
		})
	})
}

// A busy page does not write at each request: at most one touch per tenth of the
// idle timeout, none when a save did it already (R4).
func TestAtMostOneTouchPerTenthOfTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 30 * time.Minute
		spy := newStallStore(new(session.MemoryStore))
		d := newDesk(t, session.Config{Store: spy, IdleTimeout: idle})
		token := d.signIn("alice")
		saves := spy.called("save")
		for range 6 * 60 { // a request every ten seconds for an hour
			time.Sleep(10 * time.Second)
			if !d.alive(token) {
				t.Fatal("R4: a busy session ended")
			}
		}
		if got, most := spy.called("touch"), int(time.Hour/(idle/10)); got != most {
			t.Errorf("R4: %d touches in an hour, want %d", got, most)
		}
		if spy.called("save") != saves {
			t.Error("R4: reading saved a record")
		}
		time.Sleep(idle / 2)
		touches := spy.called("touch")
		d.do(token, "count")
		if spy.called("touch") != touches {
			t.Error("R4: a request that saved touched as well")
		}
	})
}

// Near the end of the lifetime there is nothing left that a touch could give.
func TestNoTouchBeyondTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spy := newStallStore(new(session.MemoryStore))
		d := newDesk(t, session.Config{Store: spy, IdleTimeout: time.Hour, Lifetime: time.Hour})
		token := d.signIn("alice")
		for range 59 {
			time.Sleep(time.Minute)
			d.alive(token)
		}
		if n := spy.called("touch"); n != 0 {
			t.Errorf("R4: %d touches of a session that ends with its lifetime anyway", n)
		}
	})
}

// streaming holds a request of token open for that long.
func (d *desk) streaming(token string, open time.Duration) (done chan struct{}) {
	done = make(chan struct{})
	g := &gate{t: d.t, arrived: make(chan struct{}, 1), opened: make(chan struct{})}
	gates.Store(d.t.Name(), g)
	go func() {
		defer close(done)
		d.do(token, "flush", "hold "+d.t.Name())
	}()
	<-g.arrived
	go func() {
		time.Sleep(open)
		gates.Delete(d.t.Name())
		close(g.opened)
	}()
	return done
}

// A stream that stays open is one request, at its beginning (R4).
func TestOpenStreamDoesNotCountAsActivity(t *testing.T) {
	const idle = 30 * time.Minute
	t.Run("ends with its idle time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, session.Config{IdleTimeout: idle})
			token := d.signIn("alice")
			time.Sleep(10 * time.Minute)
			<-d.streaming(token, idle-time.Minute) // a touch is due, for 10 minutes after the login
			if got := d.do(token); got.body != "nobody" {
				t.Errorf("R4: alive %v after its last request began: %q", idle-time.Minute, got.body)
			}
		})
	})
	t.Run("is touched for its beginning", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, session.Config{IdleTimeout: idle})
			token := d.signIn("alice")
			time.Sleep(10 * time.Minute)
			begun := time.Now()
			<-d.streaming(token, 15*time.Minute)
			time.Sleep(idle - time.Since(begun) - time.Millisecond)
			if !d.alive(token) {
				t.Error("E1: ended before the idle time of the request that began the stream")
			}
		})
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, session.Config{IdleTimeout: idle})
			token := d.signIn("alice")
			time.Sleep(10 * time.Minute)
			begun := time.Now()
			<-d.streaming(token, 15*time.Minute)
			time.Sleep(idle - time.Since(begun))
			if d.alive(token) {
				t.Error("R4: the stream counted as activity")
			}
		})
	})
	t.Run("does not shorten what a later touch gave", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, session.Config{IdleTimeout: idle})
			token := d.signIn("alice")
			time.Sleep(10 * time.Minute)
			done := d.streaming(token, 16*time.Minute)
			time.Sleep(15 * time.Minute)
			if !d.alive(token) { // touches
				t.Fatal("E1: ended early")
			}
			touched := time.Now()
			<-done
			time.Sleep(idle - time.Since(touched) - time.Millisecond)
			if !d.alive(token) {
				t.Error("E4: the end of a stream shortened what a touch had given")
			}
		})
	})
}

// A request that outlives its session cannot bring it back: what it commits is
// refused, and nothing is stored (C3, E1). Login then starts anew (L4).
func TestCommitAfterTheLifetimeStoresNothing(t *testing.T) {
	const tenMinutes = 10 * time.Minute
	for _, ends := range []struct {
		name string
		cfg  session.Config
	}{
		{"lifetime", session.Config{IdleTimeout: tenMinutes, Lifetime: tenMinutes}},
		{"idle time", session.Config{IdleTimeout: tenMinutes, Lifetime: 12 * tenMinutes}},
		{"lifetime, in a store that ignores ttl", session.Config{Store: &everlasting{}, IdleTimeout: tenMinutes, Lifetime: tenMinutes}},
	} {
		for _, c := range []struct {
			step   string
			status int
			cookie string
		}{
			{"set a y", http.StatusConflict, "none"},
			{"count", http.StatusConflict, "none"},
			{"countnow", http.StatusConflict, "none"},
			{"renew", http.StatusConflict, "none"},
			{"login alice", http.StatusOK, "token"},
			{"login bob", http.StatusOK, "token"},
		} {
			t.Run(ends.name+" "+c.step, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if _, own := ends.cfg.Store.(*everlasting); own {
						ends.cfg.Store = &everlasting{}
					}
					d := newDesk(t, ends.cfg)
					token := d.signIn("alice")
					g := &gate{t: t, arrived: make(chan struct{}, 1), opened: make(chan struct{})}
					gates.Store(t.Name(), g)
					defer gates.Delete(t.Name())
					done := make(chan answer)
					go func() { done <- d.do(token, "hold "+t.Name(), c.step) }()
					<-g.arrived
					time.Sleep(tenMinutes)
					close(g.opened)
					got := <-done
					if got.status != c.status {
						t.Errorf("C3: answered %d %q, want %d", got.status, got.body, c.status)
					}
					wantCookie(t, "C3", got, c.cookie)
					want(t, "E1", d.do(token), http.StatusOK, "nobody")
					if c.cookie == "token" {
						if idOf(t, got.cookies[0].Value) == idOf(t, token) {
							t.Error("L4: the login went on with the session that had ended")
						}
						user := strings.TrimPrefix(c.step, "login ")
						want(t, "L4", d.do(got.cookies[0].Value), http.StatusOK, user)
						time.Sleep(tenMinutes - time.Millisecond)
						want(t, "L4", d.do(got.cookies[0].Value), http.StatusOK, user)
					}
				})
			})
		}
	}
}

// The end of the lifetime is in the record, so it holds in a store that forgets
// nothing (E3).
func TestLifetimeHoldsInAStoreThatIgnoresTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, session.Config{Store: &everlasting{}, IdleTimeout: time.Hour, Lifetime: 2 * time.Hour})
		token := d.signIn("alice")
		time.Sleep(2*time.Hour - time.Millisecond)
		if !d.alive(token) {
			t.Error("E1: ended early")
		}
		time.Sleep(time.Millisecond)
		if d.alive(token) {
			t.Error("E3: alive after its lifetime")
		}
		want(t, "R2", d.do(token, "set b y"), http.StatusOK, "nobody b=y")
	})
}

// An everlasting store keeps the contract but for time: no record ever ends.
type everlasting struct{ session.MemoryStore }

const forever = 1000 * time.Hour

func (s *everlasting) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	return s.MemoryStore.Load(ctx, id)
}

func (s *everlasting) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, _ time.Duration) (session.Record, error) {
	return s.MemoryStore.Save(ctx, id, prev, next, forever)
}

func (s *everlasting) Touch(ctx context.Context, id uuid.UUID, version uint64, _ time.Duration) error {
	return s.MemoryStore.Touch(ctx, id, version, forever)
}

// Expires says what then happens, if nothing else does (E1).
func TestExpiresAgreesWithWhatHappens(t *testing.T) {
	for _, c := range []struct {
		name  string
		idle  time.Duration
		after time.Duration // the login comes the request that asks
		steps []string
	}{
		{"just after the login", 6 * time.Minute, 0, nil},
		{"before a touch is due", 6 * time.Minute, 30 * time.Second, nil},
		{"with a touch at the end of this request", 6 * time.Minute, 3 * time.Minute, nil},
		{"with a change", 6 * time.Minute, 30 * time.Second, []string{"count"}},
		{"with a change that is saved", 6 * time.Minute, 30 * time.Second, []string{"count", "save"}},
		{"with a renew", 6 * time.Minute, 30 * time.Second, []string{"renew"}},
		{"with a login", 6 * time.Minute, 3 * time.Minute, []string{"login alice"}},
		{"near the end of the lifetime", 50 * time.Minute, 430 * time.Second, nil},
		{"with a change near the end of the lifetime", 50 * time.Minute, 430 * time.Second, []string{"count"}},
		{"with a renew near the end of the lifetime", 50 * time.Minute, 430 * time.Second, []string{"renew"}},
		{"with a login near the end of the lifetime", 50 * time.Minute, 430 * time.Second, []string{"login alice"}},
	} {
		for _, late := range []time.Duration{-time.Millisecond, 0} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, err := session.New(session.Config{IdleTimeout: c.idle, Lifetime: time.Hour, Logger: quiet})
					if err != nil {
						t.Fatal(err)
					}
					var expires time.Time
					d := &desk{t: t, handler: m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						page(w, r)
						expires = session.FromContext(r.Context()).Expires()
					}))}
					token := d.signIn("alice")
					time.Sleep(c.after)
					got := d.do(token, c.steps...)
					if got.cookie() == "token" {
						token = got.cookies[0].Value
					}
					time.Sleep(time.Until(expires.Add(late)))
					if alive := strings.HasPrefix(d.do(token).body, "alice"); alive != (late < 0) {
						t.Errorf("E1: alive=%t %v after what Expires said", alive, late)
					}
				})
			})
		}
	}
}

// A persistent cookie lasts as long as the lifetime, of which a Renew gives no
// more (T6, E5). Touches send no cookie.
func TestPersistentCookieLastsForTheRestOfTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, session.Config{Cookie: session.Cookie{Persist: true}, IdleTimeout: 12 * time.Hour})
		first := d.do("", "login alice")
		maxAge := func(got answer, want time.Duration) {
			t.Helper()
			if age := got.cookies[0].MaxAge; age != int(want.Seconds()) {
				t.Errorf("Max-Age=%s, want %v", strconv.Itoa(age), want)
			}
		}
		maxAge(first, 12*time.Hour)
		time.Sleep(5 * time.Hour)
		wantCookie(t, "R4", d.do(first.cookies[0].Value), "none")
		renewed := d.do(first.cookies[0].Value, "renew")
		maxAge(renewed, 7*time.Hour)
		maxAge(d.do(renewed.cookies[0].Value, "login alice"), 12*time.Hour)
	})
}

// A stream that was open for longer than a lowered idle timeout used to leave its
// session the time that the old one had given it.
func TestE5LoweredIdleTimeoutReachesTheSessionOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		v := &guest{t: t, manager: newManager(t, session.Config{Store: store, IdleTimeout: time.Hour})}
		var id uuid.UUID
		v.visit(func(s *session.Session) { s.Login("alice"); id = s.ID() })
		v.manager = newManager(t, session.Config{Store: store, IdleTimeout: time.Second})
		v.visit(func(s *session.Session) { s.User(); time.Sleep(1100 * time.Millisecond) })
		if rec, err := store.Load(t.Context(), id); err == nil && rec.TTL > time.Second {
			t.Errorf("E5: %v are left of an idle timeout of 1s", rec.TTL)
		}
	})
}

// While a lower Lifetime is rolled out, a session may be over on one server and log
// in again on another. Looking at a user's sessions ends none of them, revoking does.
func TestE5SessionsEndsNoneThatLivesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		newer := newManager(t, session.Config{Store: store, Lifetime: time.Hour, MaxPerUser: 1})
		older := newManager(t, session.Config{Store: store, Lifetime: 24 * time.Hour})
		v := &guest{t: t, manager: older}
		v.visit(loginAs("alice"))
		for range 5 {
			time.Sleep(15 * time.Minute)
			v.visit(func(*session.Session) {})
		}
		if found, err := newer.Sessions(t.Context(), "alice"); err != nil || len(found) != 0 {
			t.Errorf("E5: %d sessions, %v", len(found), err)
		}
		other := &guest{t: t, manager: newer}
		other.visit(loginAs("alice"))
		for _, want := range []string{"alice", ""} {
			v.visit(func(s *session.Session) {
				if s.User() != want {
					t.Errorf("E5: the older server has %q, want %q", s.User(), want)
				}
			})
			revokeUser(t, newer, "alice")
		}
	})
}
