package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/session"
)

// At the instant when the store has a Login or Renew, the old token opens
// nothing, although nobody has the new one yet (L1).
func TestOldTokenIsDeadAtTheInstantOfLoginOrRenew(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for _, change := range []string{"login alice", "renew"} {
			v := s.visitor(t, "set kept x")
			token := v.now()
			before, after := s.store.stall(t, "before save"), s.store.stall(t, "after save")
			done := v.send(change)
			before.wait()
			want(t, "L1, before the save", s.b.old(token).do(), http.StatusOK, "nobody kept=x")
			before.open()
			after.wait()
			got := s.b.old(token).do()
			want(t, "L1, after the save", got, http.StatusOK, "nobody")
			wantCookie(t, "C7", got, "none")
			after.open()
			if got := <-done; got.status != http.StatusOK || got.cookie() != "token" {
				t.Errorf("L1, %s: answered %d with Set-Cookie: %s", change, got.status, got.cookie())
			}
			page := map[string]string{"login alice": "alice kept=x", "renew": "nobody kept=x"}[change]
			want(t, "L1, "+change, v.do(), http.StatusOK, page)
		}
	})
}

func TestLateWriterOfOldTokenChangesNothing(t *testing.T) {
	changes := []string{"set a new", "append kept !", "delete kept", "clear", "countnow", "renew", "logout"}
	eachScene(t, func(t *testing.T, s scene) {
		for _, secret := range []string{"login alice", "renew"} {
			for _, change := range changes {
				for place, steps := range places(change) {
					rule := "C3, " + change + " held " + place + " across " + secret
					if change == "countnow" {
						steps = []string{"hold", change}
					}
					v := s.visitor(t, "set kept x")
					late := s.a.old(v.now()).begin(steps...)
					if got := v.at(s.b.url).do(secret); got.cookie() != "token" {
						t.Fatalf("%s: answered %d", rule, got.status)
					}
					before := stored(t, s.store, v.now())
					got := late.end()
					if change == "logout" {
						s.lateLogout(t, rule, secret, got, v.now())
						continue
					}
					wantEnded(t, rule, got)
					if after := stored(t, s.store, v.now()); after.Version != before.Version {
						t.Errorf("%s: the record changed", rule)
					}
				}
			}
		}
	})
}

// lateLogout is the case of a logout that was held across another request's
// change of secret. It saw an anonymous session: it gives way to a Login and,
// like every logout, beats a Renew (C4).
func (s scene) lateLogout(t *testing.T, rule, secret string, got answer, token string) {
	t.Helper()
	want(t, rule, got, http.StatusOK, "nobody")
	if secret == "renew" {
		s.gone(t, rule, token)
		return
	}
	wantCookie(t, rule, got, "none")
	want(t, rule, s.b.old(token).do(), http.StatusOK, "alice kept=x")
}

// A logout that was stalled on its way to the store does nothing to the session
// that a Login made of it meanwhile (C4).
func TestStalledLogoutGivesWayToLogin(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		if s.a == s.b {
			t.Log("commits of one process queue; between two processes nothing does")
			return
		}
		v := s.visitor(t, "set kept x")
		stalled := s.store.stall(t, "before delete")
		leaving := s.a.old(v.now()).send("logout")
		stalled.wait()
		want(t, "C4", v.at(s.b.url).do("login alice"), http.StatusOK, "alice kept=x")
		stalled.open()
		got := <-leaving
		want(t, "C4", got, http.StatusOK, "nobody")
		wantCookie(t, "C4", got, "none")
		want(t, "C4", v.do(), http.StatusOK, "alice kept=x")
	})
}

// A touch that was stalled across a Login neither shortens nor stretches what
// the Login made (E4): here the login's server has a shorter idle timeout.
func TestStalledTouchDoesNothingToLogin(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		stalled := newStallStore(store)
		long := newSite(t, session.Config{Store: stalled})
		short := newSite(t, session.Config{Store: stalled, IdleTimeout: 5 * time.Minute})
		for _, c := range []struct{ reads, logsIn *site }{{long, short}, {short, long}} {
			v := c.reads.visitor()
			v.do("set kept x")
			tire(t, store, v.now(), time.Minute)
			touch := stalled.stall(t, "before touch")
			reader := c.reads.old(v.now()).send()
			touch.wait()
			want(t, "E4", v.at(c.logsIn.url).do("login alice"), http.StatusOK, "alice kept=x")
			before := stored(t, store, v.now())
			touch.open()
			want(t, "R4", <-reader, http.StatusOK, "nobody kept=x")
			after := stored(t, store, v.now())
			if after.Version != before.Version || after.TTL > before.TTL || after.TTL < before.TTL-2*time.Minute {
				t.Errorf("E4: a stalled touch turned %v into %v", before.TTL, after.TTL)
			}
		}
	})
}

// T04: whatever the timing, nobody who holds only the token from before a Login
// ever sees who logged in.
func TestOldTokenNeverSeesTheUser(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "set kept x")
		token := v.now()
		var wg sync.WaitGroup
		var asked, seen, set atomic.Int32
		// A hundred TLS handshakes would take longer than all the rest.
		var plain [2]*httptest.Server
		for i, site := range []*site{s.a, s.b} {
			plain[i] = httptest.NewServer(site.server.Config.Handler)
			t.Cleanup(plain[i].Close)
		}
		started, stop := make(chan struct{}, 100), make(chan struct{})
		for i := range 100 {
			thief := []*site{s.a, s.b}[i%2].old(token).at(plain[i%2].URL)
			wg.Go(func() {
				for first := true; ; first = false {
					got := thief.do()
					asked.Add(1)
					if strings.HasPrefix(got.body, "alice") {
						seen.Add(1)
					}
					if got.cookie() != "none" {
						set.Add(1)
					}
					if first {
						started <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for range 100 {
			<-started
		}
		want(t, "T04", v.do("login alice"), http.StatusOK, "alice kept=x")
		late := s.b.old(token).do("set a x")
		close(stop)
		wg.Wait()
		wantEnded(t, "T04", late)
		if seen.Load() > 0 || set.Load() > 0 {
			t.Errorf("T04: of %d requests with the old token %d saw alice and %d got a cookie", asked.Load(), seen.Load(), set.Load())
		}
		want(t, "T04", v.do(), http.StatusOK, "alice kept=x")
	})
}

// Two clicks on the button of the login form send the same old token twice. One
// of them comes too late, and logs in all the same (L4).
func TestDoubleClickOnLoginLeavesTheVisitorLoggedIn(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for _, order := range []string{"in order", "crossed"} {
			v := s.visitor(t, "set kept x")
			first, second := v.begin("login alice", "set a x", "hold"), v.at(s.b.url).begin("login alice", "set a x", "hold")
			if order == "crossed" {
				first, second = second, first
			}
			wantCookie(t, "L4", first.end(), "token")
			want(t, "L4", v.do(), http.StatusOK, "alice a=x kept=x")
			// What survives a Login survives it from the session that the token opens,
			// and the second click's token opens none any more.
			wantCookie(t, "L4", second.end(), "token")
			want(t, "L4", v.do(), http.StatusOK, "alice a=x")
		}
	})
}

// Between the deletion of one user's session and the creation of the next one's
// the store fails: the visitor is logged out, and nobody's session is left (L3).
func TestLoginAsAnotherUserFailingHalfwayLeavesLoggedOut(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "set a x", "set kept x")
		token := v.now()
		s.store.failing(func(call string, prev uint64) error {
			if call == "save" && prev == 0 {
				return errors.New("the store is away")
			}
			return nil
		})
		got := v.at(s.b.url).do("login bob")
		s.store.failing(nil)
		want(t, "L3", got, http.StatusServiceUnavailable, "")
		wantCookie(t, "R6", got, "none")
		s.gone(t, "L3", token)
		want(t, "L3", v.do(), http.StatusOK, "nobody")
		want(t, "L3", v.do("login bob"), http.StatusOK, "bob")
	})
}

// The same from the other end: while the old session cannot be deleted, no new
// one is made.
func TestLoginAsAnotherUserDeletesFirst(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "set kept x")
		s.store.failing(func(call string, _ uint64) error {
			if call == "delete" {
				return errors.New("the store is away")
			}
			return nil
		})
		saves := s.store.called("save")
		got := v.at(s.b.url).do("login bob")
		s.store.failing(nil)
		want(t, "L3", got, http.StatusServiceUnavailable, "")
		if s.store.called("save") != saves {
			t.Error("L3: the new session was made before the old one was gone")
		}
		want(t, "L3", v.do(), http.StatusOK, "alice kept=x")
		token := v.now()
		want(t, "L3", v.do("login bob"), http.StatusOK, "bob")
		s.gone(t, "L3", token)
	})
}

// What a panicking handler had not saved is dropped, the new secret with it, so
// the cookie that the visitor has stays good (R10).
func TestPanicAfterRenewLosesNothing(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		for _, change := range []string{"renew", "login bob", "set a new"} {
			v := s.visitor(t, "login alice", "set a old")
			if got := v.do(change, "panic"); got.err == nil {
				t.Fatalf("answered %d %q", got.status, got.body)
			}
			want(t, "R10, "+change, v.at(s.b.url).do(), http.StatusOK, "alice a=old")
		}
		v := s.visitor(t, "login alice", "set a old")
		token := v.now()
		v.do("renew", "logout", "panic")
		s.gone(t, "R10, a logout that was asked for", token)
	})
}

// While the answer of a Renew is on its way the browser still sends the old
// token. Nothing that it is answered may overwrite the cookie to come (C7).
func TestRequestsBehindARenewDoNotOverwriteItsCookie(t *testing.T) {
	eachScene(t, func(t *testing.T, s scene) {
		v := s.visitor(t, "login alice", "set a x")
		saved := s.store.stall(t, "after save")
		renewing := v.send("renew")
		saved.wait()
		for range 3 {
			got := v.at(s.b.url).do()
			want(t, "C7", got, http.StatusOK, "nobody")
			wantCookie(t, "C7", got, "none")
		}
		for _, change := range []string{"set a y", "count", "countnow", "append a y"} {
			wantEnded(t, "C7, "+change, v.at(s.b.url).do(change))
		}
		wantCookie(t, "C7", v.at(s.b.url).do("logout"), "none")
		second := s.b.old(v.now()).do("login bob") // whoever logs in means it (L4)
		want(t, "C7", second, http.StatusOK, "bob")
		wantCookie(t, "C7", second, "token")
		saved.open()
		want(t, "C7", <-renewing, http.StatusOK, "alice a=x")
		want(t, "C7", v.do(), http.StatusOK, "alice a=x")
		if s.b.events.count(session.EventSuperseded) == 0 {
			t.Error("C7: no event tells of the superseded token")
		}
	})
}

// Ten seconds later no answer can still be on its way: the token is like any
// other that opens nothing, and a write begins a new session (C7, R2).
func TestSupersededTokenIsUnknownAfterTenSeconds(t *testing.T) {
	for _, c := range []struct {
		after  time.Duration
		status int
		cookie string
		event  session.EventKind
	}{
		{0, http.StatusConflict, "none", session.EventSuperseded},
		{10*time.Second - time.Millisecond, http.StatusConflict, "none", session.EventSuperseded},
		{10 * time.Second, http.StatusOK, "token", session.EventUnknownToken},
		{time.Minute, http.StatusOK, "token", session.EventUnknownToken},
	} {
		t.Run(c.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, session.Config{})
				token := d.do("", "set a x").cookies[0].Value
				renewed := d.do(token, "renew").cookies[0].Value
				time.Sleep(c.after)
				got := d.do(token, "set a y")
				want(t, "C7", got, c.status, "nobody a=y")
				wantCookie(t, "C7", got, c.cookie)
				if d.events.count(c.event) != 1 {
					t.Errorf("C7: no event of kind %s", c.event)
				}
				want(t, "C7", d.do(renewed), http.StatusOK, "nobody a=x")
			})
		})
	}
}

// A record keeps the 16 newest of its replaced secrets. What is older opens nothing
// that is known, and a write with it begins a new session; the others are answered
// 409 and get no cookie (C7).
func TestC7SixteenReplacedSecretsAreToldApart(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	v.visit(func(s *session.Session) { nameKey.Set(s, "x") })
	var replaced []*guest // oldest first
	for range 17 {
		replaced = append(replaced, v.tab())
		v.visit(func(s *session.Session) { s.Renew() })
	}
	for i, old := range replaced {
		w := old.visit(func(s *session.Session) { nameKey.Set(s, "y") })
		status, cookies := http.StatusConflict, 0
		if i == 0 {
			status, cookies = http.StatusOK, 1
		}
		if w.Code != status || len(w.Result().Cookies()) != cookies {
			t.Errorf("C7: secret %d of 17: status %d, %d cookies", i+1, w.Code, len(w.Result().Cookies()))
		}
	}
	v.visit(func(s *session.Session) {
		if nameKey.Get(s) != "x" || records.Len() != 2 {
			t.Errorf("C7: name %q, %d records", nameKey.Get(s), records.Len())
		}
	})
}

// A desk is a site without a network, for virtual time.
type desk struct {
	t       testing.TB
	handler http.Handler
	events  eventLog
}

func newDesk(t testing.TB, cfg session.Config) *desk {
	t.Helper()
	d := &desk{t: t}
	if cfg.Name == "" {
		cfg.Name = "site"
	}
	cfg.Logger, cfg.OnEvent = quiet, d.events.note
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.handler = m.Handler(http.HandlerFunc(page))
	return d
}

// do is one request with that token, "" for none.
func (d *desk) do(token string, steps ...string) answer {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, newRequest("https://site.example", token, steps))
	return read(w.Result())
}

// R14: a logout of an anonymous session that meets another request's write, while a
// goroutine of its own asks for Done. The race detector tells.
func TestR14LogoutGivesWayWhileDoneIsAskedFor(t *testing.T) {
	for range 20 {
		v := &guest{t: t, manager: newManager(t, session.Config{})}
		v.visit(func(s *session.Session) { countKey.Set(s, 1) })
		v.request(func(_ http.ResponseWriter, r *http.Request) {
			s := v.manager.FromContext(r.Context())
			v.tab().visit(func(s *session.Session) { countKey.Set(s, 2) })
			var asking sync.WaitGroup
			asking.Go(func() {
				for range 100 {
					s.Done()
				}
			})
			s.Destroy()
			if err := s.Save(r.Context()); err != nil {
				t.Error(err)
			}
			asking.Wait()
		})
		v.visit(func(s *session.Session) {
			if !s.IsNew() {
				t.Error("the session is there after the logout")
			}
		})
	}
}
