package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// eachUserStore is eachStore and a Cluster, where a list and its sessions are on
// different servers.
func eachUserStore(t *testing.T, test func(t *testing.T, store session.UserStore)) {
	eachStore(t, func(t *testing.T, store session.Store) { test(t, store.(session.UserStore)) })
	t.Run("cluster", func(t *testing.T) {
		client := redistest.StartCluster(t, redistest.Config{}).Client(&redis.ClusterOptions{ContextTimeoutEnabled: true})
		t.Cleanup(func() { client.Close() })
		store, err := session.NewRedisStore(client, session.RedisConfig{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, store)
	})
}

// A stallUserStore is a stallStore of a store that keeps lists.
type stallUserStore struct {
	*stallStore
	users session.UserStore
}

func newStallUserStore(store session.UserStore) *stallUserStore {
	return &stallUserStore{newStallStore(store), store}
}

func (s *stallUserStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last session.Cut, err error) {
	err = s.around("enlist", 0, func() error {
		listed, last, err = s.users.Enlist(ctx, list, id, ttl, most)
		return err
	})
	return listed, last, err
}

func (s *stallUserStore) List(ctx context.Context, list string) (ids []uuid.UUID, err error) {
	err = s.around("list", 0, func() error { ids, err = s.users.List(ctx, list); return err })
	return ids, err
}

func (s *stallUserStore) CutOff(ctx context.Context, list string, except ...uuid.UUID) (ids []uuid.UUID, this session.Cut, err error) {
	err = s.around("cutoff", 0, func() error { ids, this, err = s.users.CutOff(ctx, list, except...); return err })
	return ids, this, err
}

func (s *stallUserStore) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	return s.around("end", 0, func() error { return s.users.End(ctx, list, ids...) })
}

func (s *stallUserStore) LoadAll(ctx context.Context, ids []uuid.UUID) (records []session.Record, err error) {
	err = s.around("loadall", 0, func() error { records, err = s.users.LoadAll(ctx, ids); return err })
	return records, err
}

func (s *stallUserStore) Versions(ctx context.Context, ids []uuid.UUID) (versions []uint64, err error) {
	err = s.around("versions", 0, func() error { versions, err = s.users.Versions(ctx, ids); return err })
	return versions, err
}

// A userScene is two sites on one store whose calls can be held.
type userScene struct {
	store *stallUserStore
	a, b  *site
}

func eachUserScene(t *testing.T, cfg session.Config, test func(t *testing.T, s userScene)) {
	eachUserStore(t, func(t *testing.T, store session.UserStore) {
		stalled := newStallUserStore(store)
		cfg := cfg
		cfg.Store = stalled
		test(t, userScene{stalled, newSite(t, cfg), newSite(t, cfg)})
	})
}

// sessions are the IDs of a user's sessions, the one seen last first.
func (a *site) sessions(t testing.TB, user string) []uuid.UUID {
	t.Helper()
	found, err := a.manager.Sessions(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]uuid.UUID, len(found))
	for i, s := range found {
		ids[i] = s.ID()
	}
	return ids
}

// login is a new browser with a user's session.
func (a *site) login(t testing.TB, user string) *visitor {
	t.Helper()
	v := a.visitor()
	if got := v.do("login " + user); got.status != http.StatusOK || got.cookie() != "token" {
		t.Fatalf("login: answered %d %q %v", got.status, got.body, got.err)
	}
	return v
}

func revokeUser(t testing.TB, m *session.Manager, user string, except ...uuid.UUID) {
	t.Helper()
	if err := m.RevokeUser(t.Context(), user, except...); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsShowsWhatADevicesPageNeeds(t *testing.T) {
	eachUserStore(t, func(t *testing.T, store session.UserStore) {
		m := newManager(t, session.Config{Store: store})
		device := session.NewKey[string]("device")
		began := time.Now().Truncate(time.Millisecond)
		var own *session.Session
		for _, name := range []string{"phone", "laptop"} {
			v := &guest{t: t, manager: m}
			v.visit(func(s *session.Session) {
				if err := s.Login("alice"); err != nil {
					t.Fatal(err)
				}
				device.Set(s, name)
				own = s
			})
		}
		(&guest{t: t, manager: m}).visit(func(s *session.Session) { _ = s.Login("bob") })
		(&guest{t: t, manager: m}).visit(func(s *session.Session) { device.Set(s, "nobody's") })

		found, err := m.Sessions(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range found {
			names = append(names, device.Get(s))
			for what, at := range map[string]time.Time{"Created": s.Created(), "LastSeen": s.LastSeen(), "AuthenticatedAt": s.AuthenticatedAt()} {
				if at.Before(began.Add(-time.Millisecond)) || at.After(time.Now().Add(time.Millisecond)) {
					t.Errorf("%s is %v, between %v and now was expected", what, at, began)
				}
			}
			if in := time.Until(s.Expires()); in < 29*time.Minute || in > 30*time.Minute {
				t.Errorf("it expires in %v, want what is left of the idle timeout", in)
			}
			if s.User() != "alice" || s.ID() == uuid.Nil || s.IsNew() {
				t.Errorf("session %v of %q, new: %v", s.ID(), s.User(), s.IsNew())
			}
			device.Set(s, "changed") // logged and refused
			if err := s.Save(t.Context()); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("Save of a listed session: %v", err)
			}
			if err := s.Login("mallory"); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("Login of a listed session: %v", err)
			}
			if device.Get(s) == "changed" {
				t.Error("a listed session took a change")
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, []string{"laptop", "phone"}) {
			t.Errorf("the devices are %q", names)
		}
		if !slices.ContainsFunc(found, func(s *session.Session) bool { return s.ID() == own.ID() }) {
			t.Error("the session of the last request is not among them")
		}
	})
}

// LastSeen is told by what is left of the idle timeout.
func TestLastSeenIsWithinATenthOfTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		v := &guest{t: t, manager: m}
		v.visit(func(s *session.Session) { _ = s.Login("alice") })
		seen := time.Now()
		for range 100 {
			time.Sleep(7 * time.Minute)
			v.visit(func(*session.Session) {})
			last := time.Now()
			time.Sleep(2 * time.Minute)
			found, err := m.Sessions(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 { // after the twelve hours of its life
				if time.Since(seen) < 11*time.Hour+50*time.Minute {
					t.Errorf("it ended after %v", time.Since(seen))
				}
				return
			}
			at := found[0].LastSeen()
			latest := time.Since(seen) > 11*time.Hour+30*time.Minute // where it may be earlier
			if off := last.Sub(at); off < 0 || off > 3*time.Minute && !latest || off > 30*time.Minute {
				t.Errorf("after %v: last seen %v before the last request", time.Since(seen), off)
			}
		}
	})
}

func TestSessionsAreThoseOfOneUserAndOneApplication(t *testing.T) {
	eachUserStore(t, func(t *testing.T, store session.UserStore) {
		shop := newSite(t, session.Config{Store: store, Name: "shop"})
		admin := newSite(t, session.Config{Store: store, Name: "admin"})
		inShop, inAdmin := shop.login(t, "alice"), admin.login(t, "alice")
		if ids := shop.sessions(t, "alice"); len(ids) != 1 || ids[0] != idOf(t, inShop.now()) {
			t.Errorf("T3: the shop lists %v", ids)
		}
		if err := shop.manager.Revoke(t.Context(), "bob", idOf(t, inShop.now())); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("T74: bob revoked a session of alice's: %v", err)
		}
		revokeUser(t, shop.manager, "bob")
		want(t, "T74", inShop.do(), http.StatusOK, "alice")
		revokeUser(t, shop.manager, "alice")
		want(t, "T91", inShop.do(), http.StatusOK, "nobody")
		want(t, "T3", inAdmin.do(), http.StatusOK, "alice")
	})
}

func TestRevokeUserEndsAllButTheExcepted(t *testing.T) {
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
		var browsers []*visitor
		for i := range 4 {
			browsers = append(browsers, []*site{s.a, s.b}[i%2].login(t, "alice"))
		}
		again := s.a.visitor()
		want(t, "L1", again.do("set kept x", "login alice"), http.StatusOK, "alice kept=x")
		want(t, "L1", again.do("login alice"), http.StatusOK, "alice kept=x")
		stranger := s.a.login(t, "bob")
		keep := idOf(t, browsers[2].now())
		revokeUser(t, s.b.manager, "alice", keep, uuid.New())
		for i, v := range append(browsers, again) {
			expect := "nobody"
			if i == 2 {
				expect = "alice"
			}
			token := v.now()
			want(t, "T91", v.do(), http.StatusOK, expect)
			want(t, "T91", s.b.old(token).do(), http.StatusOK, expect)
			if expect == "nobody" && stored(t, s.store, token).Version != 0 {
				t.Error("T91: the record is in the store")
			}
		}
		want(t, "T91", stranger.do(), http.StatusOK, "bob")
		if ids := s.a.sessions(t, "alice"); !slices.Equal(ids, []uuid.UUID{keep}) {
			t.Errorf("T92: alice has %v, want %v", ids, keep)
		}
		if n := s.b.events.count(session.EventRevoked); n != 4 {
			t.Errorf("%d events of a revocation, want 4", n)
		}
		if err := s.a.manager.RevokeUser(t.Context(), ""); err == nil {
			t.Error("RevokeUser of nobody is no error")
		}
	})
}

func TestRevokeOthersFromInsideARequest(t *testing.T) {
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
		other, here := s.a.login(t, "alice"), s.b.login(t, "alice")
		want(t, "T91", here.do("others", "set a x"), http.StatusOK, "alice a=x")
		want(t, "T91", here.do(), http.StatusOK, "alice a=x")
		want(t, "T91", other.do(), http.StatusOK, "nobody")
		// With a login that is not saved yet, in every order.
		for _, steps := range [][]string{{"login alice", "others"}, {"others", "login alice"}, {"others", "renew"}, {"login alice", "save", "others"}} {
			other := s.a.login(t, "alice")
			before := here.now()
			got := here.do(steps...)
			want(t, "T91", got, http.StatusOK, "alice")
			wantCookie(t, "L1", got, "token")
			want(t, "T91", here.do(), http.StatusOK, "alice")
			want(t, "T91", other.do(), http.StatusOK, "nobody")
			want(t, "L1", s.a.old(before).do(), http.StatusOK, "nobody")
		}
		newcomer := s.a.visitor()
		want(t, "T91", newcomer.do("login alice", "others"), http.StatusOK, "alice")
		want(t, "T91", newcomer.do(), http.StatusOK, "alice")
		want(t, "T91", here.do(), http.StatusOK, "nobody")
		if ids := s.a.sessions(t, "alice"); len(ids) != 1 {
			t.Errorf("T92: alice has %v", ids)
		}
		if got := s.a.visitor().do("others"); got.status == http.StatusOK {
			t.Error("RevokeOthers without a user is no error")
		}
	})
}

// A page that sets a new password may revoke everything, and then log in.
func TestOwnLoginComesAfterOwnRevocation(t *testing.T) {
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
		thief, owner := s.a.login(t, "alice"), s.b.visitor()
		want(t, "RevokeUser", owner.do("revoke alice", "login alice"), http.StatusOK, "alice")
		want(t, "RevokeUser", owner.do(), http.StatusOK, "alice")
		want(t, "RevokeUser", thief.do(), http.StatusOK, "nobody")
	})
}

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
		time.Sleep(30 * time.Millisecond) // some have committed now, and some have not
		revokeUser(t, here.manager, "alice", idOf(t, excepted.now()))
		for _, token := range tokens {
			want(t, fmt.Sprintf("T09, round %d", round), here.old(token).do(), http.StatusOK, "nobody")
		}
		for _, done := range under {
			if got := <-done; got.err != nil || got.status >= 500 {
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
	case <-time.After(20 * time.Second):
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

// A list whose sessions ended by themselves heals when it is read, in so many
// round trips.
func TestSessionsHealsItsListInAFewRoundTrips(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, ContextTimeoutEnabled: true, DisableIdentity: true})
	store := redisStore(t, client)
	m := newManager(t, session.Config{Store: store, StoreTimeout: time.Minute}) // a slow machine is no store that is away, which would be asked
	for i := range 1000 {
		v := &guest{t: t, manager: m}
		var id uuid.UUID
		v.visit(func(s *session.Session) { _ = s.Login("alice"); id = s.ID() })
		if i < 990 {
			if err := store.Delete(t.Context(), id, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, trips := range []int{1 + 2 + 3, 1 + 1} {
		proxy.Reset()
		found, err := m.Sessions(t.Context(), "alice")
		if err != nil || len(found) != 10 {
			t.Fatalf("%d sessions, %v", len(found), err)
		}
		if n := proxy.RoundTrips(); n != trips {
			t.Errorf("T92: %d round trips, want %d: %q", n, trips, proxy.Commands())
		}
	}
	if ids, _ := store.(session.UserStore).List(t.Context(), "test\x00alice"); len(ids) != 10 {
		t.Errorf("%d are on the list", len(ids))
	}
}

// What a store does wrong between the steps of a login never lies (T95).
func TestLoginWhoseListIsAwayIsNoLogin(t *testing.T) {
	eachUserScene(t, session.Config{StoreTimeout: 300 * time.Millisecond}, func(t *testing.T, s userScene) {
		v := s.a.visitor()
		want(t, "R1", v.do("set kept x"), http.StatusOK, "nobody kept=x")
		s.store.failing(away("enlist"))
		got := v.do("login alice")
		want(t, "T95", got, http.StatusServiceUnavailable, "")
		wantCookie(t, "T95", got, "none")
		s.store.failing(nil)
		want(t, "RevokeUser", v.do("login alice"), http.StatusOK, "alice")

		lost := 0
		s.store.losing(func(call string, _ uint64) error {
			if lost++; lost%2 == 1 {
				return errAway
			}
			return nil
		})
		w := s.a.visitor()
		want(t, "C5", w.do("login bob"), http.StatusOK, "bob")
		s.store.losing(nil)
		want(t, "C5", w.do(), http.StatusOK, "bob")
		if ids := s.a.sessions(t, "bob"); len(ids) != 1 {
			t.Errorf("C5: bob has %v", ids)
		}
	})
}

func TestUsersNeedAUserStore(t *testing.T) {
	plain := struct{ session.Store }{new(session.MemoryStore)}
	m := newManager(t, session.Config{Store: plain})
	_, err := m.Sessions(t.Context(), "alice")
	for _, err := range []error{err, m.RevokeUser(t.Context(), "alice")} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "session.UserStore") {
			t.Errorf("on a store without lists: %v", err)
		}
	}
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { _ = s.Login("alice") })
	v.visit(func(s *session.Session) {
		if s.User() != "alice" {
			t.Error("a store without lists takes no logins")
		}
	})
	for _, cfg := range []session.Config{
		{Store: plain, Name: "x", MaxPerUser: 3},
		{MaxPerUser: -1},
		{RefuseLogins: true},
	} {
		if _, err := session.New(cfg); err == nil || !strings.Contains(err.Error(), "MaxPerUser") {
			t.Errorf("New(%+v): %v", cfg, err)
		}
	}
}

func TestRequireRecentLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		reached := 0
		inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached++ })
		elsewhere := http.RedirectHandler("/login", http.StatusSeeOther)
		v := &guest{t: t, manager: m}
		ask := func(otherwise http.Handler) int {
			return v.request(session.RequireRecentLogin(5*time.Minute, otherwise)(inner).ServeHTTP).Code
		}
		if code := ask(nil); code != http.StatusForbidden {
			t.Errorf("ASVS 7.5.1: a stranger is answered %d", code)
		}
		v.visit(func(s *session.Session) { _ = s.Login("alice") })
		time.Sleep(5*time.Minute - time.Millisecond)
		if code := ask(nil); code != http.StatusOK || reached != 1 {
			t.Errorf("ASVS 7.5.1: %d within five minutes", code)
		}
		time.Sleep(time.Millisecond)
		if code := ask(elsewhere); code != http.StatusSeeOther {
			t.Errorf("ASVS 7.5.1: %d after five minutes", code)
		}
		v.visit(func(s *session.Session) { _ = s.Renew() })
		if code := ask(nil); code != http.StatusForbidden || reached != 1 {
			t.Errorf("ASVS 7.5.3: a Renew is answered %d, as if it were a login", code)
		}
		v.visit(func(s *session.Session) { _ = s.Login("alice") })
		if code := ask(elsewhere); code != http.StatusOK || reached != 2 {
			t.Errorf("ASVS 7.5.1: %d after the next login", code)
		}
	})
	for _, d := range []time.Duration{0, -time.Second} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("RequireRecentLogin(%v) makes a handler", d)
				}
			}()
			session.RequireRecentLogin(d, nil)
		}()
	}
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "wrap the handler") {
			t.Errorf("without a manager: %s", text)
		}
	}()
	session.RequireRecentLogin(time.Minute, nil)(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}
