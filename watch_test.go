package session_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// A stream is a request of one browser that stays open.
type stream struct {
	t    testing.TB
	done <-chan struct{} // the session's
	end  func()          // of the request
}

// open sends a request with the browser's cookie as it is now, and leaves it
// open. Before it asks for Done it does first.
func (v *guest) open(first func(*session.Session)) *stream {
	v.t.Helper()
	tab := v.tab()
	ready, end, ended := make(chan (<-chan struct{})), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tab.visit(func(s *session.Session) {
			if first != nil {
				first(s)
			}
			ready <- s.Done()
			<-end
		})
	}()
	st := &stream{t: v.t, done: <-ready}
	st.end = sync.OnceFunc(func() { close(end); <-ended })
	v.t.Cleanup(st.end)
	return st
}

// within waits for the stream's end.
func (st *stream) within(what string, d time.Duration) {
	st.t.Helper()
	select {
	case <-st.done:
	case <-time.After(d):
		st.t.Errorf("Done: %s: the stream is open after %v", what, d)
	}
}

func (st *stream) stays(what string, d time.Duration) {
	st.t.Helper()
	select {
	case <-st.done:
		st.t.Errorf("Done: %s: the stream was ended", what)
	case <-time.After(d):
	}
}

func loginAs(user string) func(*session.Session) {
	return func(s *session.Session) { _ = s.Login(user) }
}

// enders end the session, or the secret, of a browser at one server.
var enders = map[string]func(t *testing.T, m *session.Manager, v *guest, user string, id uuid.UUID){
	"logout": func(_ *testing.T, _ *session.Manager, v *guest, _ string, _ uuid.UUID) {
		v.visit((*session.Session).Destroy)
	},
	"login": func(_ *testing.T, _ *session.Manager, v *guest, user string, _ uuid.UUID) { v.visit(loginAs(user)) },
	"login of another": func(_ *testing.T, _ *session.Manager, v *guest, user string, _ uuid.UUID) {
		v.visit(loginAs("not " + user))
	},
	"renew": func(_ *testing.T, _ *session.Manager, v *guest, _ string, _ uuid.UUID) {
		v.visit(func(s *session.Session) { _ = s.Renew() })
	},
	"Revoke": func(t *testing.T, m *session.Manager, _ *guest, user string, id uuid.UUID) {
		if err := m.Revoke(t.Context(), user, id); err != nil {
			t.Error(err)
		}
	},
	"RevokeAny": func(t *testing.T, m *session.Manager, _ *guest, _ string, id uuid.UUID) {
		if err := m.RevokeAny(t.Context(), id); err != nil {
			t.Error(err)
		}
	},
	"RevokeUser": func(t *testing.T, m *session.Manager, _ *guest, user string, _ uuid.UUID) { revokeUser(t, m, user) },
	"RevokeOthers": func(t *testing.T, m *session.Manager, _ *guest, user string, _ uuid.UUID) {
		(&guest{t: t, manager: m}).visit(func(s *session.Session) {
			_ = s.Login(user)
			if err := s.RevokeOthers(t.Context()); err != nil {
				t.Error(err)
			}
		})
	},
	"MaxPerUser": func(t *testing.T, m *session.Manager, _ *guest, user string, _ uuid.UUID) {
		for range 2 {
			(&guest{t: t, manager: m}).visit(loginAs(user))
		}
	},
}

func TestDoneIsClosedWhenTheSecretDies(t *testing.T) {
	eachUserStore(t, func(t *testing.T, store session.UserStore) {
		here := newManager(t, session.Config{Store: store, MaxPerUser: 2})
		there := newManager(t, session.Config{Store: store, MaxPerUser: 2})
		type ending struct {
			what                 string
			open, second, theirs *stream
		}
		var all []ending
		for where, server := range map[string]*session.Manager{"the same server": here, "another server": there} {
			for how, end := range enders {
				what := how + " on " + where
				v, bystander, user := &guest{t: t, manager: here}, &guest{t: t, manager: here}, "alice, "+what
				var id uuid.UUID
				v.visit(func(s *session.Session) { _ = s.Login(user); id = s.ID() })
				bystander.visit(loginAs("carol, beside " + user))
				all = append(all, ending{what, v.open(nil), v.open(nil), bystander.open(nil)})
				v.manager = server
				end(t, server, v, user, id)
			}
		}
		for _, e := range all {
			// Two seconds are promised; a machine that is busy with other tests gets thirty.
			e.open.within(e.what, 30*time.Second)
			e.second.within(e.what, 30*time.Second)
		}
		for _, e := range all { // after some polls, not before the first
			select {
			case <-e.theirs.done:
				t.Errorf("Done: %s: the stream of another visitor was ended", e.what)
			default:
			}
		}
	})
}

// What changes values only, and what happens to others, ends no stream.
func TestDoneStaysOpenWhileTheSecretLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(session.MemoryStore)
		here, there := newManager(t, session.Config{Store: store}), newManager(t, session.Config{Store: store})
		v, other := &guest{t: t, manager: here}, &guest{t: t, manager: here}
		v.visit(loginAs("alice"))
		other.visit(loginAs("alice"))
		open := v.open(nil)
		v.manager, other.manager = there, there
		name := session.NewKey[int]("n")
		for i := range 30 {
			v.visit(func(s *session.Session) { name.Set(s, i) })
			v.visit(func(s *session.Session) { s.Clear() })
			time.Sleep(7 * time.Minute)
			v.visit(func(*session.Session) {}) // a touch
			other.visit((*session.Session).Destroy)
			open.stays("values changed", 2*time.Second)
		}
		open.end()
	})
}

func TestDoneIsClosedByExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{IdleTimeout: 10 * time.Minute, Lifetime: time.Hour})
		v := &guest{t: t, manager: m}
		v.visit(loginAs("alice"))
		idle := v.open(nil)
		time.Sleep(10*time.Minute - time.Millisecond)
		idle.stays("idle for not quite ten minutes", 0)
		time.Sleep(time.Millisecond)
		idle.within("idle for ten minutes", 2*time.Second)

		v.visit(loginAs("alice"))
		began, busy := time.Now(), v.open(nil)
		for time.Since(began) < 55*time.Minute {
			time.Sleep(5 * time.Minute)
			v.visit(func(*session.Session) {})
		}
		busy.stays("within the lifetime", 0)
		time.Sleep(time.Hour - time.Since(began))
		busy.within("the lifetime is over", 2*time.Second)
	})
}

func TestDoneOfARequestThatChangesItsOwnSecret(t *testing.T) {
	m := newManager(t, session.Config{})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) {
		if s.Done() != nil {
			t.Error("Done: of a session that is not stored it is not nil")
		}
		_ = s.Login("alice")
		if s.Done() != nil {
			t.Error("Done: of a login that is not stored it is not nil")
		}
	})
	v.visit(func(s *session.Session) {
		before := s.Done()
		if s.Done() != before {
			t.Error("Done: asked twice, two channels")
		}
		_ = s.Renew()
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-before:
		default:
			t.Error("Done: the secret that was presented is dead, and its channel open")
		}
		after := s.Done()
		select {
		case <-after:
			t.Error("Done: the new secret's channel is closed")
		default:
		}
		s.Destroy()
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-after:
		default:
			t.Error("Done: after a logout of its own it is open")
		}
	})
}

// A goroutine that outlives its request, and waits for Done, ends with it.
func TestDoneIsClosedWithTheRequest(t *testing.T) {
	m := newManager(t, session.Config{})
	v := &guest{t: t, manager: m}
	v.visit(loginAs("alice"))
	var kept *session.Session
	var done <-chan struct{}
	v.visit(func(s *session.Session) { kept, done = s, s.Done() })
	for _, c := range []<-chan struct{}{done, kept.Done()} {
		select {
		case <-c:
		default:
			t.Error("Done: open after the request")
		}
	}
	found, err := m.Sessions(t.Context(), "alice")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	select {
	case <-found[0].Done():
	default:
		t.Error("Done: a listed session has no request, and its channel is open")
	}
}

// While the store is away nobody can be told to be logged out; but not for longer
// than a session lives without it.
func TestDoneWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStallUserStore(new(session.MemoryStore))
		m := newManager(t, session.Config{Store: store, IdleTimeout: 10 * time.Minute})
		v := &guest{t: t, manager: m}
		v.visit(loginAs("alice"))
		short, long := v.open(nil), v.open(nil)
		store.failing(away("versions", "load"))
		time.Sleep(5 * time.Minute)
		short.stays("the store is away", 0)
		store.failing(nil)
		v.visit(func(*session.Session) {})
		short.stays("it is back", 3*time.Second)
		short.end()
		store.failing(away("versions", "load"))
		long.stays("it is away again", 9*time.Minute)
		long.within("it is away for too long", 2*time.Minute)
	})
}

// One batch a second for ten thousand streams, and none for none.
func TestTenThousandStreamsCostOneBatchASecond(t *testing.T) {
	const streams = 10_000
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Addr)
	store := redisStore(t, redis.NewClient(&redis.Options{Addr: proxy.Addr, ContextTimeoutEnabled: true, DisableIdentity: true, ReadTimeout: time.Minute}))
	m := newManager(t, session.Config{Store: store, StoreTimeout: time.Minute}) // for a busy machine
	var opened []*stream
	for range streams {
		v := &guest{t: t, manager: m}
		v.visit(func(s *session.Session) { session.NewKey[string]("room").Set(s, strings.Repeat("x", 300)) })
		opened = append(opened, v.open(nil))
	}
	reads := func() int { return server.CommandStats()["getrange"].Calls }
	goroutines, first, began := runtime.NumGoroutine(), reads(), time.Now()
	proxy.Reset()
	for deadline := began.Add(5 * time.Minute); reads()-first < 2*streams; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Done: %d reads in five minutes, want all %d streams looked at twice", reads()-first, streams)
		}
	}
	asked, trips, took := reads()-first, proxy.RoundTrips(), time.Since(began)
	t.Logf("%d streams, %v: %d round trips, %d reads of %.1f us, %d goroutines more",
		streams, took, trips, asked, server.CommandStats()["getrange"].Microseconds, runtime.NumGoroutine()-goroutines)
	if most := streams * int(took/time.Second+3); asked > most {
		t.Errorf("Done: %d reads in %v, want %d at most, one of each stream a second", asked, took, most)
	}
	if trips*500 > asked+streams { // the last batch may be under way
		t.Errorf("Done: %d reads in %d round trips, want 500 in each at least", asked, trips)
	}
	if n := proxy.Connections(); n > 10 {
		t.Errorf("Done: %d connections", n)
	}
	if err := server.Admin().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	for _, st := range opened {
		st.within("all are gone", 5*time.Minute)
	}
	t.Logf("all were told within %v", time.Since(began))
	for _, st := range opened {
		st.end()
	}
	time.Sleep(1500 * time.Millisecond)
	trips = 1
	for began = time.Now(); trips != 0 && time.Since(began) < 30*time.Second; { // the last batch may be late
		proxy.Reset()
		time.Sleep(2 * time.Second)
		trips = proxy.RoundTrips()
	}
	if trips != 0 {
		t.Errorf("Done: %d round trips without a stream", trips)
	}
}

// Server-sent events over a real connection end with the session.
func TestServerSentEventsEndWithTheSession(t *testing.T) {
	eachUserStore(t, func(t *testing.T, store session.UserStore) {
		a, b := newSite(t, session.Config{Store: store}), newSite(t, session.Config{Store: store})
		v := a.login(t, "alice")
		req := newRequest(a.url, "", []string{"stream"})
		req.RequestURI = ""
		resp, err := v.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		if line, err := lines.ReadString('\n'); err != nil || line != "data: hello\n" {
			t.Fatalf("%q %v", line, err)
		}
		want(t, "Done", v.at(b.url).do("logout"), http.StatusOK, "nobody")
		rest := make(chan string, 1)
		go func() {
			text, err := io.ReadAll(lines)
			rest <- fmt.Sprint(string(text), err)
		}()
		select {
		case text := <-rest:
			if !strings.Contains(text, "data: bye\n") {
				t.Errorf("Done: the stream ended with %q", text)
			}
		case <-time.After(time.Minute):
			t.Error("Done: the stream goes on after the logout")
		}
	})
}
