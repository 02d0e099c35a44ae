package session

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// memoryModel is what MemoryStore must look like from outside: a map and the
// rules.
type memoryModel map[uuid.UUID]memoryModelRecord

type memoryModelRecord struct {
	Record
	end time.Time
}

func (m memoryModel) find(id uuid.UUID) (memoryModelRecord, bool) {
	rec, ok := m[id]
	return rec, ok && time.Now().Before(rec.end)
}

func (m memoryModel) save(id uuid.UUID, prev uint64, next Record, ttl time.Duration) error {
	switch rec, ok := m.find(id); {
	case !ok && prev != 0:
		return ErrNotFound
	case ok && rec.Version != prev:
		return ErrConflict
	}
	m[id] = memoryModelRecord{next, time.Now().Add(ttl)}
	return nil
}

func (m memoryModel) touch(id uuid.UUID, version uint64, ttl time.Duration) error {
	switch rec, ok := m.find(id); {
	case !ok:
		return ErrNotFound
	case rec.Version != version:
		return ErrConflict
	default:
		m[id] = memoryModelRecord{rec.Record, time.Now().Add(ttl)}
		return nil
	}
}

func (m memoryModel) delete(id uuid.UUID, version uint64) error {
	if rec, ok := m.find(id); ok && version != 0 && version != rec.Version {
		return ErrConflict
	}
	delete(m, id)
	return nil
}

func TestMemoryStoreAgainstModel(t *testing.T) {
	for seed := range uint64(4) {
		for _, most := range []int{0, 1000} { // a cap that is never reached keeps places in another order
			t.Run(fmt.Sprintf("seed=%d,cap=%d", seed, most), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					walkMemory(t, &MemoryStore{MaxSessions: most}, rand.New(rand.NewPCG(seed, 1)))
				})
			})
		}
	}
}

// walkMemory keeps to one shard and few versions, so that tables fill, empty
// and are replaced, and stale and fresh versions both occur.
func walkMemory(t *testing.T, s *MemoryStore, rnd *rand.Rand) {
	m, ctx := memoryModel{}, t.Context()
	for step := range 6000 {
		ids := 400
		if step/1000%2 == 1 {
			ids = 20
		}
		id, version := memoryID(rnd.IntN(ids)), 1+rnd.Uint64N(2)
		ttl := time.Duration(1+rnd.IntN(120_000)) * time.Millisecond
		var got, want error
		switch op := rnd.IntN(100); {
		case op < 40:
			prev := rnd.Uint64N(3)
			next := Record{Version: version, Owner: memoryOwner(rnd), Data: fmt.Append(nil, step)}
			_, got = s.Save(ctx, id, prev, next, ttl)
			want = m.save(id, prev, next, ttl)
		case op < 70:
			got, want = s.Touch(ctx, id, version, ttl), m.touch(id, version, ttl)
		case op < 80:
			version = rnd.Uint64N(3)
			got, want = s.Delete(ctx, id, version), m.delete(id, version)
		case op < 97:
			compareMemory(t, s, m, id)
		default:
			time.Sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
			synctest.Wait()
		}
		if got != want {
			t.Fatalf("step %d: %v, the model says %v", step, got, want)
		}
		if step%100 == 0 {
			checkMemory(t, s)
			if s.MaxSessions > 0 {
				checkMemoryRoom(t, s)
			}
		}
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	checkMemoryEmpty(t, s)
}

func compareMemory(t *testing.T, s *MemoryStore, m memoryModel, id uuid.UUID) {
	t.Helper()
	got, err := s.Load(t.Context(), id)
	want, ok := m.find(id)
	if !ok {
		if !errors.Is(err, ErrNotFound) {
			t.Fatalf("Load of %v: %v, the model has no such record", id, err)
		}
		return
	}
	if err != nil || got.Version != want.Version || got.Owner != want.Owner ||
		!bytes.Equal(got.Data, want.Data) || got.TTL != time.Until(want.end) {
		t.Fatalf("Load of %v: %+v, %v; the model says %+v", id, got, err, want)
	}
}
