package session_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// readiness is the word for what Ready returned.
func readiness(err error) string {
	switch {
	case err == nil:
		return "ready"
	case errors.Is(err, session.ErrDegraded):
		return "degraded"
	}
	return "down"
}

func wantReadiness(t testing.TB, when string, m *session.Manager, want string) {
	t.Helper()
	if err := m.Ready(t.Context()); readiness(err) != want {
		t.Errorf("%s: %s, want %s: %v", when, readiness(err), want, err)
	}
}

func TestReadyTellsReadsAndWritesApart(t *testing.T) {
	failing := func(ops ...string) func(context.Context, string, uuid.UUID) error {
		rule := away(ops...)
		return func(_ context.Context, op string, _ uuid.UUID) error { return rule(op, 0) }
	}
	for name, c := range map[string]struct {
		mood func(context.Context, string, uuid.UUID) error
		want string
		op   string // that the error names
	}{
		"well":              {nil, "ready", ""},
		"slow":              {slow(moodyTimeout / 10), "ready", ""},
		"no saves":          {failing("save"), "degraded", "save"},
		"no deletes":        {failing("delete"), "degraded", "delete"},
		"no writes":         {refusingWrites, "degraded", "save"},
		"no loads":          {failing("load"), "down", "load"},
		"nothing":           {refusing, "down", "load"},
		"black hole":        {blackHole, "down", "load"},
		"too slow to write": {slow(moodyTimeout * 6 / 10), "degraded", "save"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newMoodyScene(t)
				s.store.feel(c.mood)
				begun := time.Now()
				err := s.manager.Ready(t.Context())
				if readiness(err) != c.want {
					t.Errorf("%s, want %s: %v", readiness(err), c.want, err)
				}
				if e, _ := errors.AsType[*session.Error](err); e != nil && e.Op != c.op || e == nil && c.op != "" {
					t.Errorf("the error does not name %q: %v", c.op, err)
				}
				if took := time.Since(begun); took > moodyTimeout {
					t.Errorf("after %v", took)
				}
				if n := s.store.Store.(*session.MemoryStore).Len(); n != 0 && c.want == "ready" {
					t.Errorf("%d records were left behind", n)
				}
			})
		})
	}
	wantReadiness(t, "in memory", newManager(t, session.Config{}), "ready")
}

// While the store is away Ready says so at once and asks nothing. Once it is back
// it is degraded until its failures are ten seconds old.
func TestReadyFollowsTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		s.opened(t)
		s.store.feel(blackHole)
		time.Sleep(moodyTimeout)
		before, _ := s.store.called("load")
		begun := time.Now()
		wantReadiness(t, "away", s.manager, "down")
		if after, _ := s.store.called("load"); after != before || time.Since(begun) > 0 {
			t.Errorf("%d loads, %v", after-before, time.Since(begun))
		}
		s.store.feel(refusing)
		time.Sleep(2 * time.Second)
		s.store.feel(nil)
		time.Sleep(time.Second)
		wantReadiness(t, "back", s.manager, "degraded")
		time.Sleep(8 * time.Second)
		wantReadiness(t, "back for nine seconds", s.manager, "degraded")
		time.Sleep(2 * time.Second)
		wantReadiness(t, "back for ten seconds", s.manager, "ready")
		if err := s.manager.Close(t.Context()); err != nil {
			t.Error(err)
		}
		wantReadiness(t, "closed", s.manager, "down")
	})
}

func TestReadyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMoodyScene(t)
		s.store.feel(slow(moodyTimeout / 10))
		ctx, cancel := context.WithTimeout(t.Context(), moodyTimeout/100)
		defer cancel()
		if err := s.manager.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || readiness(err) != "down" {
			t.Errorf("%v", err)
		}
	})
}

// What a Redis does that serves reads only, or nobody.
func TestReadyOnRedis(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(*redistest.Server, *redis.Client) error
		undo    func(*redistest.Server, *redis.Client) error
		want    string
		timeout time.Duration // StoreTimeout
	}{
		"OOM":        {configSet("maxmemory", "1"), configSet("maxmemory", "0"), "degraded", time.Minute},
		"NOREPLICAS": {configSet("min-replicas-to-write", "1"), configSet("min-replicas-to-write", "0"), "degraded", time.Minute},
		"READONLY": {
			func(s *redistest.Server, c *redis.Client) error {
				return c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err()
			},
			func(s *redistest.Server, c *redis.Client) error { return c.ReplicaOf(t.Context(), "no", "one").Err() },
			"degraded", time.Minute,
		},
		"paused": {
			func(s *redistest.Server, _ *redis.Client) error { s.Pause(); return nil },
			func(s *redistest.Server, _ *redis.Client) error { s.Resume(); return nil },
			"down", 4 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Config{})
			admin := server.Admin()
			m := newManager(t, session.Config{Store: redisStore(t, server.Client(&redis.Options{})), StoreTimeout: c.timeout})
			wantReadiness(t, "before", m, "ready")
			if err := c.do(server, admin); err != nil {
				t.Fatal(err)
			}
			wantReadiness(t, name, m, c.want)
			if err := c.undo(server, admin); err != nil {
				t.Fatal(err)
			}
			untilServed(t, m)
		})
	}
}

func configSet(name, value string) func(*redistest.Server, *redis.Client) error {
	return func(_ *redistest.Server, c *redis.Client) error {
		return c.ConfigSet(context.Background(), name, value).Err()
	}
}

// A store in memory that is full of visitors has room for one more, whose place is
// another's. A probe must not take it.
func TestReadyEvictsNobody(t *testing.T) {
	store := &session.MemoryStore{MaxSessions: 3}
	m := newManager(t, session.Config{Store: store})
	for range 3 {
		(&guest{t: t, manager: m}).visit(countOneUp)
	}
	for range 10 {
		wantReadiness(t, "full of visitors", m, "ready")
	}
	if n := store.Len(); n != 3 {
		t.Errorf("%d sessions of 3 are left", n)
	}
	for range 3 {
		(&guest{t: t, manager: m}).visit(loginAs("alice"))
	}
	wantReadiness(t, "full of users", m, "degraded")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Ready(ctx); readiness(err) != "down" {
		t.Errorf("asked by nobody: %v", err)
	}
}

// Sessions that have ended make room, though the sweep has not been there yet.
func TestReadyOfAStoreFullOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{Store: &session.MemoryStore{MaxSessions: 3}, IdleTimeout: 61 * time.Second})
		for range 3 {
			(&guest{t: t, manager: m}).visit(loginAs("alice"))
		}
		time.Sleep(68 * time.Second) // the sweep comes each ten
		wantReadiness(t, "full of sessions that have ended", m, "ready")
	})
}
