package session_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/migrate"
)

func TestMaxPerUserEndsTheOldest(t *testing.T) {
	eachUserScene(t, session.Config{MaxPerUser: 3}, func(t *testing.T, s userScene) {
		var browsers []*visitor
		for i := range 5 {
			browsers = append(browsers, []*site{s.a, s.b}[i%2].login(t, "alice"))
			s.a.login(t, fmt.Sprintf("user%d", i))
		}
		for i, v := range browsers {
			want(t, "T90", v.do(), http.StatusOK, map[bool]string{true: "alice", false: "nobody"}[i >= 2])
		}
		if n := s.a.events.count(session.EventEvicted) + s.b.events.count(session.EventEvicted); n != 2 {
			t.Errorf("%d events of an eviction, want 2", n)
		}
		// One that logs in again is one session still, and the newest.
		want(t, "T90", browsers[2].do("login alice"), http.StatusOK, "alice")
		s.a.login(t, "alice")
		want(t, "T90", browsers[2].do(), http.StatusOK, "alice")
		want(t, "T90", browsers[3].do(), http.StatusOK, "nobody")
		// Those that logged out do not count.
		want(t, "T90", browsers[2].do("logout"), http.StatusOK, "nobody")
		s.a.login(t, "alice")
		want(t, "T90", browsers[4].do(), http.StatusOK, "alice")
	})
}

func TestMaxPerUserRefusesLogins(t *testing.T) {
	eachUserScene(t, session.Config{MaxPerUser: 2, RefuseLogins: true}, func(t *testing.T, s userScene) {
		first, second := s.a.login(t, "alice"), s.b.login(t, "alice")
		third := s.a.visitor()
		want(t, "R1", third.do("set kept cart"), http.StatusOK, "nobody kept=cart")
		got := third.do("login alice")
		want(t, "T90", got, http.StatusConflict, "")
		wantCookie(t, "T90", got, "none")
		if !strings.Contains(got.body, "devices") {
			t.Errorf("the visitor is told %q", got.body)
		}
		want(t, "T90: what the visitor had stays", third.do(), http.StatusOK, "nobody kept=cart")
		want(t, "T90", first.do("login alice"), http.StatusOK, "alice")
		want(t, "T90", second.do("logout"), http.StatusOK, "nobody")
		want(t, "T90", third.do("login alice"), http.StatusOK, "alice kept=cart")
		want(t, "T90", first.do(), http.StatusOK, "alice")
		if n := s.a.events.count(session.EventLoginRefused); n != 1 {
			t.Errorf("%d events of a refused login, want 1", n)
		}
	})
}

// T90: 50 logins at once, from two servers, and on Redis from two processes.
func TestMaxPerUserHoldsAgainstParallelLogins(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuse=%v", refuse), func(t *testing.T) {
			cfg := session.Config{MaxPerUser: 3, RefuseLogins: refuse}
			eachUserScene(t, cfg, func(t *testing.T, s userScene) {
				fiftyLogins(t, s.a, s.store.users, []string{s.a.url, s.b.url}, refuse)
			})
			t.Run("two processes", func(t *testing.T) {
				server := redistest.Start(t, redistest.Config{})
				store := redisStore(t, server.Client(&redis.Options{ContextTimeoutEnabled: true})).(session.UserStore)
				cfg := cfg
				cfg.Store = store
				a := newSite(t, cfg)
				fiftyLogins(t, a, store, []string{a.url, startProcessWith(t, server.Addr, cfg)}, refuse)
			})
		})
	}
}

func fiftyLogins(t *testing.T, a *site, users session.UserStore, urls []string, refuse bool) {
	var all sync.WaitGroup
	browsers := make([]*visitor, 50)
	for i := range browsers {
		browsers[i] = a.visitor().at(urls[i%len(urls)])
		all.Go(func() { browsers[i].do("login alice") })
	}
	all.Wait()
	ids, err := users.List(t.Context(), "site\x00alice")
	if err != nil || len(ids) == 0 {
		t.Fatalf("the list is %v %v", ids, err)
	}
	newest, alive, newestLives := ids[len(ids)-1], 0, false
	for _, v := range browsers {
		if v.now() != "" && v.do().body == "alice" {
			alive++
			newestLives = newestLives || idOf(t, v.now()) == newest
		}
	}
	if alive > 3 || alive == 0 || !refuse && (alive != 3 || !newestLives) {
		t.Errorf("T90: %d of 50 are logged in, at most 3 may be; the newest is: %v", alive, newestLives)
	}
	if found := a.sessions(t, "alice"); len(found) > 3 {
		t.Errorf("T90: the store holds %d sessions of alice's", len(found))
	}
}

// Sessions that ran out do not count, though they are on the list.
func TestMaxPerUserCountsLiveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{MaxPerUser: 2})
		active, idle, third := &guest{t: t, manager: m}, &guest{t: t, manager: m}, &guest{t: t, manager: m}
		login := func(s *session.Session) { _ = s.Login("alice") }
		active.visit(login)
		idle.visit(login)
		for range 3 {
			time.Sleep(15 * time.Minute)
			active.visit(func(*session.Session) {})
		}
		third.visit(login)
		for i, v := range []*guest{active, idle, third} {
			v.visit(func(s *session.Session) {
				if (s.User() == "alice") != (i != 1) {
					t.Errorf("T90: browser %d is %q", i, s.User())
				}
			})
		}
	})
}

// An eviction that was decided on before a session logged in again leaves that
// one alone: it is the newest now.
func TestMaxPerUserSparesWhoLoggedInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStallUserStore(new(session.MemoryStore))
		m := newManager(t, session.Config{Store: store, MaxPerUser: 2})
		var browsers [3]*guest
		for i := range browsers {
			browsers[i] = &guest{t: t, manager: m}
		}
		browsers[0].visit(loginAs("alice"))
		browsers[1].visit(loginAs("alice"))
		for _, change := range []func(*session.Session){loginAs("alice"), func(s *session.Session) { session.NewKey[int]("n").Set(s, 1) }} {
			held := store.stall(t, "before delete") // of the oldest, browser 0 or then browser 2
			done := make(chan bool)
			go func() { browsers[2].visit(loginAs("alice")); close(done) }()
			held.wait()
			time.Sleep(time.Second)
			browsers[0].visit(change)
			held.open()
			<-done
			alive := 0
			for _, v := range browsers {
				v.visit(func(s *session.Session) {
					if s.User() == "alice" {
						alive++
					}
				})
			}
			if alive != 2 {
				t.Errorf("T90: %d sessions are left, want the 2 newest", alive)
			}
			// Of the two that are left the older one first, and one that comes new.
			browsers[0], browsers[1], browsers[2] = browsers[2], browsers[0], &guest{t: t, manager: m}
			time.Sleep(time.Second)
		}
	})
}

// An eviction whose look at a changed session failed used to delete it whatever it was.
func TestEvictionSparesWhoLoggedInAgainWhenALoadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStallUserStore(new(session.MemoryStore))
		m := newManager(t, session.Config{Store: store, MaxPerUser: 2})
		first, second, third := &guest{t: t, manager: m}, &guest{t: t, manager: m}, &guest{t: t, manager: m}
		first.visit(loginAs("alice"))
		second.visit(loginAs("alice"))
		time.Sleep(time.Second)
		eviction := store.stall(t, "before delete")
		done := make(chan int)
		go func() { done <- third.visit(loginAs("alice")).Code }()
		eviction.wait()
		again := first.visit(loginAs("alice")).Code
		failed := false
		store.failing(func(call string, _ uint64) error {
			if call == "load" && !failed {
				failed = true
				return errAway
			}
			return nil
		})
		eviction.open()
		if code := <-done; !failed || again != http.StatusOK || code != http.StatusOK {
			t.Fatalf("failed %t, answered %d and %d", failed, again, code)
		}
		user := ""
		first.visit(func(s *session.Session) { user = s.User() })
		if user != "alice" {
			t.Error("T90: who logged in again was evicted as if that had not been")
		}
	})
}

// The look at the list comes before there is a session. It is sent again, and a list
// that stays away is a 503 (C5, R6).
func TestRefuseLoginsWhileTheListIsAway(t *testing.T) {
	for name, first := range map[string]func(*session.Session){
		"a new visitor":    func(*session.Session) {},
		"after the logout": (*session.Session).Destroy,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newPhones(t, 1, 0, session.Config{MaxPerUser: 1, RefuseLogins: true})[0]
				for failures, code := range map[int]int{1: http.StatusOK, 1000: http.StatusServiceUnavailable} {
					d.cookie = ""
					d.visit(countOneUp)
					d.store.failing(func(call string, _ uint64) error {
						if call == "list" {
							if failures--; failures >= 0 {
								return errAway
							}
						}
						return nil
					})
					got := d.visit(func(s *session.Session) {
						first(s)
						_ = s.Login("alice")
					}).Code
					if got != code {
						t.Errorf("C5: answered %d, want %d", got, code)
					}
					d.store.failing(nil)
					revokeUser(t, d.manager, "alice")
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// Two logins of one session within a millisecond, beside another one's.
func TestMaxPerUserTellsLoginsOfOneMillisecondApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 2, 0, session.Config{MaxPerUser: 1})
		var other *gate
		d[0].visit(func(s *session.Session) {
			_ = s.Login("alice")
			if err := s.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			other = d[1].store.stall(t, "before delete")
			go func() { d[1].codes <- d[1].visit(loginAs("alice")).Code }()
			other.wait()
			_ = s.Login("alice")
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
		d[1].wantAnswer(other, http.StatusConflict)
		wantLoggedIn(t, d, "A-")
	})
}

// A session of a neighbour that is ahead, which the old store's list has lost.
func TestMaxPerUserEvictsWhatOnlyTheNewStoreLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, new := newStallUserStore(new(session.MemoryStore)), new(session.MemoryStore)
		at := func(p migrate.Phase) *guest {
			store, err := migrate.New(migrate.Config{Old: old, New: new, Phase: p, Name: "test"})
			if err != nil {
				t.Fatal(err)
			}
			return &guest{t: t, manager: newManager(t, session.Config{Store: store, MaxPerUser: 1})}
		}
		ahead, behind := at(migrate.WriteNew), at(migrate.WriteOld)
		ahead.visit(loginAs("alice"))
		time.Sleep(10 * time.Minute) // the sweep finds no record of it in the old store
		behind.visit(loginAs("alice"))
		if all, err := behind.manager.Sessions(t.Context(), "alice"); err != nil || len(all) != 1 {
			t.Errorf("T90: %d sessions with MaxPerUser 1, %v", len(all), err)
		}
	})
}
