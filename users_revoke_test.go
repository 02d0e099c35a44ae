package session_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// Whatever a login had done when RevokeUser ran, it is refused if its request
// began before: nobody gets a cookie, and no record is left.
func TestNoLoginSlipsThroughARevocation(t *testing.T) {
	logins := map[string][]string{
		"anonymous":       {"login alice"},
		"with a session":  {"set kept x", "login alice"},
		"of another user": {"login alice"},
		"again":           {"login alice"},
	}
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
		for who, steps := range logins {
			browser := func() *visitor {
				switch who {
				case "of another user":
					return s.a.login(t, "bob")
				case "again":
					return s.a.login(t, "alice")
				}
				return s.a.visitor()
			}
			for _, point := range []string{"before save", "after save", "before enlist", "after enlist"} {
				t.Run(who+" "+point, func(t *testing.T) {
					v := browser()
					held := s.store.stall(t, point)
					answer := v.send(steps...)
					held.wait()
					revokeUser(t, s.b.manager, "alice")
					held.open()
					got := <-answer
					if point == "after enlist" && got.status == http.StatusOK { // it came first, and was ended
						s.nobody(t, v)
						return
					}
					s.refused(t, got, v)
				})
			}
			t.Run(who+" before the login", func(t *testing.T) {
				v := browser()
				held := v.begin(append([]string{"hold"}, steps...)...)
				revokeUser(t, s.b.manager, "alice")
				s.refused(t, held.end(), v)
			})
			for _, point := range []string{"before cutoff", "after cutoff", "before loadall", "before end", "after end"} {
				if who != "again" && point != "after cutoff" && point != "before cutoff" {
					continue // nobody is on the list, so there is nothing more to ask
				}
				t.Run(who+" while RevokeUser is "+point, func(t *testing.T) {
					v := browser()
					login := v.begin(append([]string{"hold"}, steps...)...)
					held := s.store.stall(t, point)
					done := make(chan error, 1)
					go func() { done <- s.b.manager.RevokeUser(t.Context(), "alice") }()
					held.wait()
					got := login.end()
					held.open()
					if err := <-done; err != nil {
						t.Fatal(err)
					}
					if point == "before cutoff" { // it came first, and was ended
						want(t, "L1", got, http.StatusOK, strings.Join(append([]string{"alice"}, kept(steps)...), " "))
						s.nobody(t, v)
						return
					}
					s.refused(t, got, v)
				})
			}
		}
		if n := s.a.events.count(session.EventLoginRefused); n == 0 {
			t.Error("no event says that a login was refused")
		}
	})
}

func kept(steps []string) (words []string) {
	for _, step := range steps {
		if step == "set kept x" {
			words = append(words, "kept=x")
		}
	}
	return words
}

// refused holds a login to have come to nothing.
func (s userScene) refused(t testing.TB, got answer, v *visitor) {
	t.Helper()
	wantEnded(t, "RevokeUser", got)
	s.nobody(t, v)
}

// nobody holds a browser to be nobody's, and the store to hold nothing of alice's.
func (s userScene) nobody(t testing.TB, v *visitor) {
	t.Helper()
	got := v.do()
	if strings.Contains(got.body, "alice") {
		t.Errorf("a browser whose login was revoked is answered %q", got.body)
	}
	if ids, err := s.store.users.List(t.Context(), "site\x00alice"); err != nil || slices.ContainsFunc(ids, func(id uuid.UUID) bool {
		_, err := s.store.users.Load(t.Context(), id)
		return err == nil
	}) {
		t.Errorf("alice has %v %v", ids, err)
	}
}

// A login that begins after the cut-off is not RevokeUser's business.
func TestLoginAfterARevocationHolds(t *testing.T) {
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
		s.a.login(t, "alice")
		held := s.store.stall(t, "before end")
		done := make(chan error, 1)
		go func() { done <- s.b.manager.RevokeUser(t.Context(), "alice") }()
		held.wait()
		later := s.a.login(t, "alice")
		held.open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want(t, "RevokeUser", later.do(), http.StatusOK, "alice")
		want(t, "RevokeUser", s.a.login(t, "alice").do(), http.StatusOK, "alice")
	})
}

// T09: with requests of every kind in flight on two processes. Each has begun
// when RevokeUser is called, and commits before, during or after it.
func TestRevokeUserWithFiftyRequestsInFlightOnTwoProcesses(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	store := redisStore(t, server.Client(&redis.Options{ContextTimeoutEnabled: true}))
	here := newSite(t, session.Config{Store: store})
	urls := []string{here.url, startProcess(t, server.Addr)}
	kinds := [][]string{{"login alice"}, {"set kept x", "login alice"}, {"set a x"}, {"countnow"}, {"renew"}, {"logout", "login alice"}, {}}
	for round := range 4 {
		excepted := here.login(t, "alice")
		var browsers []*visitor
		var tokens []string
		var under []chan answer
		for i := range 50 {
			v := here.visitor().at(urls[i%2])
			if i%3 > 0 { // the others have no session yet
				want(t, "T09", v.do("login alice"), http.StatusOK, "alice")
				tokens = append(tokens, v.now())
			}
			browsers = append(browsers, v)
		}
		for i, v := range browsers {
			steps := append([]string{"begun", fmt.Sprintf("nap %d", i*2)}, kinds[i%len(kinds)]...)
			under = append(under, v.sendBegun(steps...))
		}
		early := len(under) / 4
		answers := answersOf(under[:early]) // these have committed, and most of the others have not
		revokeUser(t, here.manager, "alice", idOf(t, excepted.now()))
		for _, token := range tokens {
			want(t, fmt.Sprintf("T09, round %d", round), here.old(token).do(), http.StatusOK, "nobody")
		}
		for _, got := range append(answers, answersOf(under[early:])...) {
			if got.err != nil || got.status >= 500 {
				t.Errorf("round %d: answered %d %q %v", round, got.status, got.body, got.err)
			}
		}
		for i, v := range browsers {
			if got := v.do(); strings.Contains(got.body, "alice") {
				t.Errorf("round %d: after RevokeUser browser %d, whose request did %q, is answered %q", round, i, kinds[i%len(kinds)], got.body)
			}
		}
		want(t, "T09", excepted.do(), http.StatusOK, "alice")
		if left := recordsOf(t, server, "alice"); left != 1 {
			t.Errorf("round %d: %d records of alice's are left, want the excepted one", round, left)
		}
		revokeUser(t, here.manager, "alice")
	}
}

func answersOf(under []chan answer) (answers []answer) {
	for _, done := range under {
		answers = append(answers, <-done)
	}
	return answers
}

// sendBegun sends a request with the step "begun" and returns when it got there.
func (v *visitor) sendBegun(steps ...string) chan answer {
	v.t.Helper()
	begun := make(chan struct{})
	trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { close(begun); return nil }}
	req := newRequest(v.url, v.token, steps)
	req.RequestURI = ""
	done := make(chan answer, 1)
	go func() {
		resp, err := v.client.Do(req.WithContext(httptrace.WithClientTrace(context.Background(), trace)))
		if err != nil {
			done <- answer{err: err}
			return
		}
		done <- read(resp)
	}()
	select {
	case <-begun:
	case <-time.After(time.Minute):
		v.t.Fatal("the request did not begin")
	}
	return done
}

// recordsOf counts a user's records by looking at every key.
func recordsOf(t testing.TB, server *redistest.Server, user string) (n int) {
	t.Helper()
	ctx := t.Context()
	for keys := server.Admin().Scan(ctx, 0, "session:*", 1000).Iterator(); keys.Next(ctx); {
		value, err := server.Admin().Get(ctx, keys.Val()).Bytes()
		if err != nil || len(value) < 10 {
			continue // a list
		}
		if size := int(value[8]); 9+size <= len(value) && string(value[9:9+size]) == user {
			n++
		}
	}
	return n
}
