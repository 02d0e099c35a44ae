package session_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

// Requests of one session that run at the same time, over HTTP, with one of them
// held where it hurts. Each test runs on every store, with one server and with
// two that share the store.

// A scene is a store and two sites on it, which may be the same.
type scene struct {
	store *stallStore
	a, b  *site
}

func eachScene(t *testing.T, test func(t *testing.T, s scene)) {
	eachStore(t, func(t *testing.T, store session.Store) {
		t.Run("one server", func(t *testing.T) {
			stalled := newStallStore(store)
			a := newSite(t, session.Config{Store: stalled})
			test(t, scene{stalled, a, a})
		})
		t.Run("two servers", func(t *testing.T) {
			stalled := newStallStore(store)
			test(t, scene{stalled, newSite(t, session.Config{Store: stalled}), newSite(t, session.Config{Store: stalled})})
		})
	})
}

// visitor has a session with these steps done, on site a.
func (s scene) visitor(t testing.TB, steps ...string) *visitor {
	t.Helper()
	v := s.a.visitor()
	if got := v.do(steps...); got.status != http.StatusOK || got.cookie() != "token" {
		t.Fatalf("%q: answered %d %q %v", steps, got.status, got.body, got.err)
	}
	return v
}

// gone holds the store to having no record, and the token to opening nothing.
func (s scene) gone(t testing.TB, rule, token string) {
	t.Helper()
	if stored(t, s.store, token).Version != 0 {
		t.Errorf("%s: the record is in the store", rule)
	}
	want(t, rule, s.b.old(token).do(), http.StatusOK, "nobody")
}

// places are the points at which a request with a change can be held: after its
// load, and with the change made but not committed.
func places(change string) map[string][]string {
	return map[string][]string{
		"after load":    {"hold", change},
		"before commit": {change, "hold"},
	}
}

func TestDifferentKeysChangedAtOnceAreAllKept(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "set a old", "set b old")
		first, second := v.begin("set a new", "hold"), v.at(s.b.url).begin("set b new", "hold")
		third, fourth := v.begin("hold", "count"), v.at(s.b.url).begin("hold", "set kept new")
		for _, p := range []*pending{second, first, fourth, third} {
			if got := p.end(); got.status != http.StatusOK {
				t.Errorf("C2: answered %d %q", got.status, got.body)
			}
		}
		want(t, "C2", v.do(), http.StatusOK, "nobody a=new b=new kept=new n=1")
	})
}

func TestRemovedKeyStaysRemoved(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for change, after := range map[string]string{"set b new": "nobody b=new", "delete b": "nobody", "append b !": "nobody b=old!", "renew": "nobody b=old"} {
			for place, steps := range places(change) {
				v := s.visitor(t, "set a old", "set b old")
				writer := v.begin(steps...)
				want(t, "C2", v.at(s.b.url).do("delete a"), http.StatusOK, "nobody b=old")
				if got := writer.end(); got.status != http.StatusOK {
					t.Errorf("C2, %s, held %s: answered %d", change, place, got.status)
				}
				want(t, fmt.Sprintf("C2, %s, held %s", change, place), v.do(), http.StatusOK, after)
			}
		}
	})
}

// A Clear drops what is there when it commits, not what it saw.
func TestClearDropsWhatOthersSet(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "set a old")
		clearing := v.begin("clear", "set kept new", "hold")
		want(t, "C2", v.at(s.b.url).do("set b new"), http.StatusOK, "nobody a=old b=new")
		clearing.end()
		want(t, "C2", v.do(), http.StatusOK, "nobody kept=new")
	})
}

func TestReaderRevertsNobody(t *testing.T) {
	for _, touching := range []bool{false, true} {
		t.Run(fmt.Sprintf("touch due=%t", touching), func(t *testing.T) {
			eachScene(t, func(t *testing.T, s scene) {
				v := s.visitor(t, "set a old", "set b old")
				if touching {
					tire(t, s.store, v.now(), 10*time.Minute)
				}
				reader := v.begin("hold")
				want(t, "R4", v.at(s.b.url).do("set a new", "delete b"), http.StatusOK, "nobody a=new")
				written := stored(t, s.store, v.now())
				want(t, "R4", reader.end(), http.StatusOK, "nobody a=old b=old")
				if after := stored(t, s.store, v.now()); after.Version != written.Version {
					t.Error("R4: the reader wrote a record")
				}
				want(t, "R4", v.do(), http.StatusOK, "nobody a=new")
			})
		})
	}
}

// A touch that was on its way while others wrote, or ended the session, is for a
// version that is no longer there (E4).
func TestStalledTouchDoesNothing(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "set a old")
		tire(t, s.store, v.now(), 10*time.Minute)
		touch := s.store.stall(t, "before touch")
		reader := v.send()
		touch.wait()
		want(t, "E4", v.at(s.b.url).do("set a new"), http.StatusOK, "alice a=new")
		tire(t, s.store, v.now(), 20*time.Minute)
		touch.open()
		want(t, "E4", <-reader, http.StatusOK, "alice a=old")
		if left := stored(t, s.store, v.now()).TTL; left > 20*time.Minute {
			t.Errorf("E4: a touch for an older version left %v", left)
		}

		tire(t, s.store, v.now(), 10*time.Minute)
		touch = s.store.stall(t, "before touch")
		reader = v.send()
		touch.wait()
		token := v.now()
		want(t, "C1", v.at(s.b.url).do("logout"), http.StatusOK, "nobody")
		touch.open()
		want(t, "C1", <-reader, http.StatusOK, "alice a=new")
		s.gone(t, "C1", token)
		if n := s.a.events.count(session.EventTouchFailed); n > 0 {
			t.Errorf("R4: %d touches that came too late were reported as failures", n)
		}
	})
}

// The writer learns that its changes went nowhere: 409, and no cookie (C3).
func TestLogoutHoldsAgainstWriter(t *testing.T) {
	changes := []string{"set a new", "append a !", "delete a", "clear", "count", "countnow", "renew", "redeem"}
	eachScene(t, func(t *testing.T, s scene) {
		for _, change := range changes {
			for place, steps := range places(change) {
				v := s.visitor(t, "login alice", "set a old")
				token := v.now()
				if change == "countnow" || change == "redeem" {
					steps = []string{"hold", change} // it commits by itself
				}
				writer := s.a.old(token).begin(steps...)
				out := v.at(s.b.url).do("logout")
				want(t, "C3", out, http.StatusOK, "nobody")
				wantCookie(t, "C3", out, "cleared")
				wantEnded(t, fmt.Sprintf("C3, %s, held %s", change, place), writer.end())
				s.gone(t, fmt.Sprintf("C3, %s, held %s", change, place), token)
			}
		}
		if s.a.events.count(session.EventWriteRefused) == 0 {
			t.Error("C3: no event tells of the refused writes")
		}
	})
}

func TestLogoutHoldsAgainstWriterInsideTheStore(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for _, point := range []string{"before save", "after save"} {
			v := s.visitor(t, "login alice", "set a old")
			token := v.now()
			save := s.store.stall(t, point)
			writer := s.a.old(token).send("set a new")
			save.wait()
			leaving := s.b.old(token).send("logout")
			if s.a == s.b {
				save.open() // commits of one process queue: the logout waits for this one (C2)
			}
			want(t, "C4", <-leaving, http.StatusOK, "nobody")
			save.open()
			got := <-writer
			if point == "before save" && s.a != s.b {
				wantEnded(t, "C3, "+point, got)
			} else {
				want(t, "C3, "+point, got, http.StatusOK, "alice a=new")
			}
			wantCookie(t, "C3, "+point, got, "none")
			s.gone(t, "C3, "+point, token)
		}
	})
}

func TestLogoutHoldsAgainstReader(t *testing.T) {
	for _, touching := range []bool{false, true} {
		t.Run(fmt.Sprintf("touch due=%t", touching), func(t *testing.T) {
			eachScene(t, func(t *testing.T, s scene) {
				v := s.visitor(t, "login alice", "set a old")
				token := v.now()
				if touching {
					tire(t, s.store, token, 10*time.Minute)
				}
				reader := s.a.old(token).begin("hold")
				want(t, "C3", v.at(s.b.url).do("logout"), http.StatusOK, "nobody")
				got := reader.end()
				want(t, "C3", got, http.StatusOK, "alice a=old") // what it saw when it began
				wantCookie(t, "C3", got, "none")
				s.gone(t, "C3", token)
				if v.now() != "" {
					t.Error("T23: the browser kept a cookie after the logout")
				}
			})
		})
	}
}

// A logout that began before many Renews and Updates of its user ends the
// session all the same, and no request that begins after it sees the user (C4).
func TestLogoutBeatsBusyUser(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "count")
		first := v.now()
		leaving := s.a.old(first).begin("hold", "logout")
		if got := v.at(s.b.url).do("renew", "count"); got.status != http.StatusOK {
			t.Fatalf("answered %d %q", got.status, got.body)
		}
		var wg sync.WaitGroup
		stop, busier := make(chan struct{}), make(chan struct{}, 6)
		for i := range 6 {
			busy, steps := v.at([]string{s.a.url, s.b.url}[i%2]), []string{"count"}
			if i == 0 { // one renews; several would outdate each other's cookies
				steps = []string{"renew", "count"}
			}
			wg.Go(func() {
				busy.do(steps...)
				busier <- struct{}{}
				for {
					select {
					case <-stop:
						return
					default:
						busy.do(steps...)
					}
				}
			})
		}
		for range 6 {
			<-busier
		}
		want(t, "C4", leaving.end(), http.StatusOK, "nobody")
		if got := v.do(); strings.HasPrefix(got.body, "alice") {
			t.Errorf("C4: after the logout the page says %q", got.body)
		}
		close(stop)
		wg.Wait()
		s.gone(t, "C4", first)
	})
}

// A change made after the response began meets the logout at the handler's
// return, where nobody can be told any more (R7): it is lost, not stored.
func TestLogoutHoldsAgainstLateChange(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "set a old")
		token := v.now()
		stream := s.a.old(token).begin("flush", "set a new", "hold")
		want(t, "C3", v.at(s.b.url).do("logout"), http.StatusOK, "nobody")
		want(t, "R7", stream.end(), http.StatusOK, "alice a=new")
		s.gone(t, "R7", token)
	})
}

// Take is for messages: two requests at once may both show one. It is gone
// afterwards.
func TestTakeMayBeSeenTwiceAndIsGone(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "set a message", "set b other")
		first, second := v.begin("hold", "take a"), v.at(s.b.url).begin("hold", "take a")
		// Both had loaded the message. The answer began with it, so neither is told
		// anything that contradicts the other.
		want(t, "Take", first.end(), http.StatusOK, `took "message" nobody b=other`)
		want(t, "Take", second.end(), http.StatusOK, `took "message" nobody b=other`)
		want(t, "Take", v.do("take a"), http.StatusOK, `took "" nobody b=other`)
	})
}
