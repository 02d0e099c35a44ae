package handover_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

// The contract of session.Store, for a server that serves, for one that has left,
// and for what another server handed over; with a shared store in memory and on
// Redis.
func TestStoreKeepsTheContract(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		testStates(t, func(*testing.T) session.Store { return new(session.MemoryStore) }, sessiontest.Options{})
	})
	t.Run("Redis", func(t *testing.T) {
		client := redistest.Start(t, redistest.Config{}).Client(&redis.Options{})
		testStates(t, func(t *testing.T) session.Store {
			shared, err := session.NewRedisStore(client, session.RedisConfig{})
			if err != nil {
				t.Fatal(err)
			}
			return shared
		}, sessiontest.Options{RealTime: true})
	})
}

func testStates(t *testing.T, open func(*testing.T) session.Store, opts sessiontest.Options) {
	states := map[string]func(shared session.Store) session.Store{
		"serving": func(shared session.Store) session.Store { return serving(shared) },
		"left":    func(shared session.Store) session.Store { return left(shared) },
		"handed over, seen from another server": func(shared session.Store) session.Store {
			return &twoServers{stays: serving(shared), leaves: left(shared)}
		},
		"handed over one by one": func(shared session.Store) session.Store {
			return &stepwise{serving(shared)}
		},
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			sessiontest.TestStore(t, func(t *testing.T) session.Store { return state(open(t)) }, opts)
		})
	}
}

func serving(shared session.Store) *handover.Store {
	return handover.New(new(session.MemoryStore), shared)
}

func left(shared session.Store) *handover.Store {
	s := serving(shared)
	if _, err := s.Drain(context.Background()); err != nil {
		panic(err)
	}
	return s
}

// twoServers creates on one that has left and does the rest on one that serves.
type twoServers struct{ stays, leaves session.Store }

func (s *twoServers) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	return s.stays.Load(ctx, id)
}

func (s *twoServers) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if prev == 0 {
		return s.leaves.Save(ctx, id, prev, next, ttl)
	}
	return s.stays.Save(ctx, id, prev, next, ttl)
}

func (s *twoServers) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return s.stays.Touch(ctx, id, version, ttl)
}

func (s *twoServers) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return s.stays.Delete(ctx, id, version)
}

// stepwise hands over before every call but the first creations: what is created
// in memory is in the shared store by the next call. So each case of the suite
// meets records that were moved rather than created there.
type stepwise struct{ *handover.Store }

func (s *stepwise) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	live, err := s.Store.Save(ctx, id, prev, next, ttl)
	if err == nil {
		_, err = s.Drain(ctx)
	}
	return live, err
}

// A record that is moved arrives as it was, with the time that it had left.
func TestMovedRecordIsTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := new(session.MemoryStore)
		s, ctx, id := serving(shared), t.Context(), uuid.New()
		rec := session.Record{Version: 7, Owner: "ann", Data: []byte("x")}
		save(t, s, id, 0, rec, time.Minute)
		time.Sleep(10*time.Second + time.Millisecond/3)
		before, err := s.Load(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		report, err := s.Drain(ctx)
		if err != nil || report.Moved != 1 || report.Gone != 0 || report.Left != 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		after, err := shared.Load(ctx, id)
		if err != nil || after.Version != 7 || after.Owner != "ann" || string(after.Data) != "x" {
			t.Fatalf("arrived: %+v, %v", after, err)
		}
		if late := after.TTL - before.TTL; late < 0 || late > time.Millisecond {
			t.Errorf("E1: it had %v left, and has %v", before.TTL, after.TTL)
		}
	})
}

// New sessions are this server's until it leaves, and the shared store's from
// then on; a record is in one of the two.
func TestSessionsAreCreatedWhereTheyWillStay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		local, shared, ctx := new(session.MemoryStore), new(session.MemoryStore), t.Context()
		s := handover.New(local, shared)
		before, after := uuid.New(), uuid.New()
		save(t, s, before, 0, session.Record{Version: 1}, time.Minute)
		if local.Len() != 1 || shared.Len() != 0 {
			t.Fatalf("in memory %d, shared %d", local.Len(), shared.Len())
		}
		if _, err := s.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		save(t, s, after, 0, session.Record{Version: 2}, time.Minute)
		if local.Len() != 0 || shared.Len() != 2 {
			t.Errorf("in memory %d, shared %d", local.Len(), shared.Len())
		}
		if _, err := s.Save(ctx, before, 0, session.Record{Version: 3}, time.Minute); !errors.Is(err, session.ErrConflict) {
			t.Errorf("C1: created over a record: %v", err)
		}
	})
}

func TestNewRefusesOneStoreForBoth(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a Drain would move each session onto itself")
		}
	}()
	local := new(session.MemoryStore)
	handover.New(local, local)
}

// A server cannot reach into the memory of another, so it offers no RevokeUser,
// even over two stores that do.
func TestStoreKeepsNoLists(t *testing.T) {
	var s session.Store = serving(new(session.MemoryStore))
	if _, ok := s.(session.UserStore); ok {
		t.Error("it is a UserStore")
	}
	m, err := session.New(session.Config{Store: s, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RevokeUser(t.Context(), "ann"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("RevokeUser: %v", err)
	} else {
		t.Log(err)
	}
}
