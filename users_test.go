package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	eachUserScene(t, session.Config{}, func(t *testing.T, s userScene) {
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
