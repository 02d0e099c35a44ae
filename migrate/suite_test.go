package migrate

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

// open is New of a configuration that has no fault.
func open(t testing.TB, old, new session.Store, phase Phase) session.UserStore {
	t.Helper()
	s, err := New(Config{Old: old, New: new, Phase: phase, Name: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return s.(session.UserStore)
}

// A place is where a suite's records are when it begins with them.
type place int

const (
	wherePhaseMakes place = iota
	inOldStore
	inNewStore
	inEnvelopes // whose mover crashed
	places
)

func (p place) String() string {
	return [...]string{"made by the phase", "in the old store", "in the new store", "in envelopes"}[p]
}

// A stage is a phase whose records were made by somebody else before.
type stage struct {
	session.UserStore
	old, new session.Store
	at       place
	ahead    session.UserStore // in NewOnly's place
	behind   session.UserStore // in WriteOld's

	enlisting sync.Mutex
}

// Enlist comes one after the other: of logins that come at once, the order of the
// primary's list changes to that of the other one when the primary drops those of
// whom it has no record (see union), as here of all.
func (s *stage) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	s.enlisting.Lock()
	defer s.enlisting.Unlock()
	return s.UserStore.Enlist(ctx, list, id, ttl, most)
}

func newStage(t testing.TB, old, new session.Store, phase Phase, at place) session.UserStore {
	phased := open(t, old, new, phase)
	if at == wherePhaseMakes {
		return phased
	}
	return &stage{UserStore: phased, old: old, new: new, at: at, ahead: open(t, old, new, WriteNew), behind: open(t, old, new, WriteOld)}
}

func (s *stage) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if prev != 0 {
		return s.UserStore.Save(ctx, id, prev, next, ttl)
	}
	switch s.at {
	case inOldStore:
		return s.behind.Save(ctx, id, 0, next, ttl)
	case inNewStore:
		return s.ahead.Save(ctx, id, 0, next, ttl)
	}
	m := s.ahead.(*userMover).mover
	v, err := m.look(ctx, id)
	if err != nil {
		return session.Record{}, err
	}
	if v.rec.Version != 0 {
		return v.rec, session.ErrConflict
	}
	if next.Version == 0 {
		return session.Record{}, fmt.Errorf("version 0")
	}
	m.discard(ctx, id, v.envelope)
	hold, err := m.hold(ctx, id, next.Owner, ttl)
	if err != nil {
		return session.Record{}, err
	}
	_, err = s.old.Save(ctx, id, 0, seal(next, hold), ttl)
	return session.Record{}, err
}

// stages runs f for each phase over each place that it may find records in.
func stages(t *testing.T, f func(t *testing.T, phase Phase, at place)) {
	for phase := WriteOld; phase.known(); phase++ {
		for at := range places {
			if phase == NewOnly && (at == inOldStore || at == inEnvelopes) {
				continue // a deploy too early: the phase knows of neither
			}
			t.Run(fmt.Sprintf("%v, records %v", phase, at), func(t *testing.T) { f(t, phase, at) })
		}
	}
}

func TestEveryPhaseIsAStore(t *testing.T) {
	stages(t, func(t *testing.T, phase Phase, at place) {
		sessiontest.TestStore(t, func(t *testing.T) session.Store {
			return newStage(t, new(session.MemoryStore), new(session.MemoryStore), phase, at)
		}, sessiontest.Options{})
	})
}

// redisStores returns a function for stores that share a server and no key.
func redisStores(t *testing.T) func(t testing.TB) session.Store {
	client := redistest.Start(t, redistest.Config{}).Client(&redis.Options{ContextTimeoutEnabled: true, PoolSize: 40})
	return func(t testing.TB) session.Store {
		s, err := session.NewRedisStore(client, session.RedisConfig{Prefix: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestEveryPhaseIsAStoreFromMemoryToRedis(t *testing.T) {
	overRedis(t, func(testing.TB) session.Store { return new(session.MemoryStore) }, redisStores(t))
}

func TestEveryPhaseIsAStoreFromRedisToRedis(t *testing.T) {
	inRedis := redisStores(t)
	overRedis(t, inRedis, inRedis)
}

// overRedis leaves out what only differs from a stage over two memories in who
// makes the first record.
func overRedis(t *testing.T, old, new func(testing.TB) session.Store) {
	stages(t, func(t *testing.T, phase Phase, at place) {
		if at == inNewStore || phase == WriteOld && at == inOldStore {
			t.Skip("as from memory to memory")
		}
		t.Parallel()
		sessiontest.TestStore(t, func(t *testing.T) session.Store {
			return newStage(t, old(t), new(t), phase, at)
		}, sessiontest.Options{RealTime: true})
	})
}

// A store need not say what it found instead of the record that it looked for.
type reticent struct{ session.UserStore }

func (s reticent) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	_, err := s.UserStore.Save(ctx, id, prev, next, ttl)
	return session.Record{}, err
}

func TestEveryPhaseIsAStoreOverStoresThatDoNotTellTheLiveRecord(t *testing.T) {
	stages(t, func(t *testing.T, phase Phase, at place) {
		if at == wherePhaseMakes && phase != NewOnly || at == inNewStore {
			t.Skip("nobody is overtaken there as in an envelope")
		}
		sessiontest.TestStore(t, func(t *testing.T) session.Store {
			return newStage(t, reticent{new(session.MemoryStore)}, reticent{new(session.MemoryStore)}, phase, at)
		}, sessiontest.Options{})
	})
}
