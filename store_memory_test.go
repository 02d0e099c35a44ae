package session

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/uuid"
)

// memoryID is in shard 7, so that a test can look at one shard.
func memoryID(n int) uuid.UUID {
	return uuid.UUID{0: byte(n >> 16), 1: byte(n >> 8), 2: byte(n), 15: 7}
}

func memoryFill(t *testing.T, s *MemoryStore, n int, ttl time.Duration) {
	t.Helper()
	for i := range n {
		if _, err := s.Save(t.Context(), memoryID(i), 0, Record{Version: 1}, ttl); err != nil {
			t.Fatal(err)
		}
	}
}

// checkMemory proves the invariants that the sweep relies on.
func checkMemory(t *testing.T, s *MemoryStore) {
	t.Helper()
	for i := range s.shards {
		checkMemoryShard(t, &s.shards[i])
	}
}

func checkMemoryShard(t *testing.T, sh *memoryShard) {
	t.Helper()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	checkMemoryTable(t, &sh.live)
	checkMemoryTable(t, &sh.old)
	for id := range sh.old.byID {
		if sh.live.byID[id] != nil {
			t.Fatalf("%v is in both tables", id)
		}
	}
}

func checkMemoryTable(t *testing.T, mt *memoryTable) {
	t.Helper()
	if len(mt.byID) != len(mt.byEnd) || len(mt.byEnd) > mt.peak {
		t.Fatalf("%d entries by ID, %d by end, peak %d", len(mt.byID), len(mt.byEnd), mt.peak)
	}
	for _, e := range mt.byEnd[len(mt.byEnd):cap(mt.byEnd)] {
		if e != nil {
			t.Fatalf("the heap's array keeps %v, which left it", e.id)
		}
	}
	for pos, e := range mt.byEnd {
		if e.pos != pos || mt.byID[e.id] != e {
			t.Fatalf("entry %v at %d believes that it is at %d", e.id, pos, e.pos)
		}
		if e.filed > e.end {
			t.Fatalf("entry %v is filed %v after its end", e.id, time.Duration(e.filed-e.end))
		}
		if up := mt.byEnd[max(pos-1, 0)/2]; up.filed > e.filed {
			t.Fatalf("entry %v is filed before the one above it, %v", e.id, up.id)
		}
	}
}

func TestMemoryStoreE1EndsAtItsVeryEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, id := new(MemoryStore), memoryID(1)
		if _, err := s.Save(t.Context(), id, 0, Record{Version: 1}, time.Second+999*time.Microsecond); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second - 1)
		if rec, err := s.Load(t.Context(), id); err != nil || rec.TTL != 1 {
			t.Fatalf("one nanosecond before the end: %v, %v left", err, rec.TTL)
		}
		time.Sleep(time.Nanosecond)
		if _, err := s.Load(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Fatalf("at the end, rounded down to a millisecond (E2): %v", err)
		}
	})
}

func TestMemoryStoreE2RefusesWithAWayOut(t *testing.T) {
	s, id := new(MemoryStore), memoryID(1)
	_, err := s.Save(t.Context(), id, 0, Record{Version: 1}, time.Millisecond-1)
	if err == nil || !strings.Contains(err.Error(), "resolution; give 1ms or more") {
		t.Errorf("a ttl below 1 ms: %v", err)
	}
	if _, err := s.Save(t.Context(), id, 0, Record{}, time.Hour); !errors.Is(err, errVersionZero) {
		t.Errorf("version 0: %v", err)
	}
	if s.Len() != 0 {
		t.Error("a refused save stored a record")
	}
}

func TestMemoryStoreE1LongestTTLDoesNotWrap(t *testing.T) {
	s, id := new(MemoryStore), memoryID(1)
	if _, err := s.Save(t.Context(), id, 0, Record{Version: 1}, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), id); err != nil {
		t.Errorf("a ttl of 292 years ended in the past: %v", err)
	}
}

func TestMemoryStoreKeepsAndHandsOutTheSameBytes(t *testing.T) {
	s, id := new(MemoryStore), memoryID(1)
	given := append(make([]byte, 0, 64), "value"...)
	if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Data: given}, time.Hour); err != nil {
		t.Fatal(err)
	}
	rec, err := s.Load(t.Context(), id)
	if err != nil || &rec.Data[0] != &given[0] {
		t.Errorf("the data was copied (%v)", err)
	}
	if cap(rec.Data) != len(rec.Data) {
		t.Error("the data has room behind it, where two readers' appends would meet")
	}
}

func TestMemoryStoreAllocations(t *testing.T) {
	s, id, ctx := new(MemoryStore), memoryID(1), t.Context()
	data := make([]byte, 300)
	version := uint64(1)
	if _, err := s.Save(ctx, id, 0, Record{Version: version, Data: data}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"Load", func() error { _, err := s.Load(ctx, id); return err }},
		{"Touch", func() error { return s.Touch(ctx, id, version, time.Hour) }},
		{"Save", func() error {
			version++
			_, err := s.Save(ctx, id, version-1, Record{Version: version, Owner: "ann", Data: data}, time.Hour)
			return err
		}},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := c.call(); err != nil {
				t.Fatal(c.name, err)
			}
		}); n != 0 {
			t.Errorf("%s of a live record allocates %v times", c.name, n)
		}
	}
}

func TestMemoryStoreE6SweepGivesBackWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		memoryFill(t, s, 3000, time.Minute)
		if _, err := s.Save(t.Context(), uuid.New(), 0, Record{Version: 1}, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + memorySweepEvery)
		synctest.Wait()
		if n := s.Len(); n != 1 {
			t.Errorf("%d records in memory, want the live one", n)
		}
		if !s.armed.Load() {
			t.Error("the sweep stopped although there is a record")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		checkMemoryEmpty(t, s)
	})
}

// checkMemoryEmpty proves that nothing of a peak is left: no map, no heap, no
// timer.
func checkMemoryEmpty(t *testing.T, s *MemoryStore) {
	t.Helper()
	for i := range s.shards {
		for _, mt := range []*memoryTable{&s.shards[i].live, &s.shards[i].old} {
			if mt.byID != nil || mt.byEnd != nil || mt.peak != 0 {
				t.Fatalf("shard %d keeps room for %d entries", i, mt.peak)
			}
		}
	}
	if s.armed.Load() {
		t.Error("the sweep of an empty store is still armed")
	}
}

func TestMemoryStoreE6SweepStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		for range 3 {
			memoryFill(t, s, 10, time.Second)
			time.Sleep(time.Minute)
			synctest.Wait()
			checkMemoryEmpty(t, s)
		}
	})
}

// A prototype forgot this and kept 500,000 dead sessions.
func TestMemoryStoreE6CollectsShortenedEnds(t *testing.T) {
	for name, shorten := range map[string]func(*MemoryStore, context.Context, uuid.UUID) error{
		"touch": func(s *MemoryStore, ctx context.Context, id uuid.UUID) error {
			return s.Touch(ctx, id, 1, time.Second)
		},
		"save": func(s *MemoryStore, ctx context.Context, id uuid.UUID) error {
			_, err := s.Save(ctx, id, 1, Record{Version: 2}, time.Second)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(MemoryStore)
				memoryFill(t, s, 500, 24*time.Hour)
				for i := range 500 {
					if err := shorten(s, t.Context(), memoryID(i)); err != nil {
						t.Fatal(err)
					}
				}
				checkMemory(t, s)
				time.Sleep(time.Second + memorySweepEvery)
				synctest.Wait()
				checkMemoryEmpty(t, s)
			})
		})
	}
}

func TestMemoryStoreE6TouchedRecordsSurviveTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		memoryFill(t, s, 200, time.Minute)
		for range 10 {
			time.Sleep(50 * time.Second)
			for i := range 200 {
				if err := s.Touch(t.Context(), memoryID(i), 1, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		checkMemory(t, s)
		if s.Len() != 200 {
			t.Errorf("%d of 200 busy records left", s.Len())
		}
	})
}

func TestMemoryStoreE6OneLockHoldIsBounded(t *testing.T) {
	s := new(MemoryStore)
	memoryFill(t, s, 1000, time.Hour)
	sh := s.shard(memoryID(0))
	later := time.Now().Add(2 * time.Hour).UnixNano()
	for want := 1000 - memorySweepStep; want > 0; want -= memorySweepStep {
		if more := sh.collect(later); !more || sh.len() != want {
			t.Fatalf("a lock hold left %d entries, want %d (more: %v)", sh.len(), want, more)
		}
	}
	if more := sh.collect(later); more || sh.len() != 0 {
		t.Errorf("the last lock hold left %d entries (more: %v)", sh.len(), more)
	}
}

func TestMemoryStoreE6GivesBackAPeakStepByStep(t *testing.T) {
	s := new(MemoryStore)
	memoryFill(t, s, 1000, time.Hour)
	sh := s.shard(memoryID(0))
	for i := 200; i < 1000; i++ {
		if err := s.Delete(t.Context(), memoryID(i), 1); err != nil {
			t.Fatal(err)
		}
	}
	holds := 0
	for more := true; more; holds++ {
		more = sh.collect(time.Now().UnixNano())
		if moved := len(sh.live.byEnd); moved > (holds+1)*memorySweepStep {
			t.Fatalf("%d lock holds moved %d entries", holds+1, moved)
		}
		checkMemory(t, s)
		for i := range 200 {
			if _, err := s.Load(t.Context(), memoryID(i)); err != nil {
				t.Fatalf("record %d while the table is replaced: %v", i, err)
			}
		}
	}
	if holds != 4 || sh.live.peak != 200 || sh.old.byID != nil || sh.old.byEnd != nil {
		t.Errorf("after %d lock holds: room for %d, %d in the old table", holds, sh.live.peak, len(sh.old.byID))
	}
}

func TestMemoryStoreE6AbandonedIsCollected(t *testing.T) {
	ref := abandonedMemoryStore(t)
	// The timer that is armed now fires in ten seconds. Had it the store in its
	// hands, no number of collections would free it before.
	for range 10 {
		if runtime.GC(); ref.Value() == nil {
			return
		}
	}
	t.Error("an abandoned store is still in memory: its timer holds it")
}

func abandonedMemoryStore(t *testing.T) weak.Pointer[MemoryStore] {
	s := new(MemoryStore)
	memoryFill(t, s, 10, time.Hour)
	if !s.armed.Load() {
		t.Error("a store with records has no timer")
	}
	return weak.Make(s)
}

func TestMemoryStoreE6TimerOfAnAbandonedStoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ref := abandonedMemoryStore(t)
		runtime.GC()
		runtime.GC()
		time.Sleep(time.Hour) // any goroutine that outlived the store fails the bubble
		synctest.Wait()
		if ref.Value() != nil {
			t.Error("the store came back to life")
		}
	})
}

// A record that comes while the sweep is about to stop must not be left without
// one: the sweep saw an empty shard (the first that it counts), the save a timer
// that is armed.
func TestMemoryStoreE6SweepDoesNotMissACreation(t *testing.T) {
	for range 2000 {
		s := new(MemoryStore)
		s.armed.Store(true)
		var begun atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() { begun.Store(true); s.sweep() })
		for wait := rand.IntN(5000); wait > 0; wait-- {
			if !begun.Load() {
				runtime.Gosched()
			}
		}
		_, err := s.Save(t.Context(), uuid.Nil, 0, Record{Version: 1}, time.Hour)
		wg.Wait()
		if err != nil || !s.armed.Load() {
			t.Fatalf("a store with a record has no timer (%v)", err)
		}
	}
}

// For the race detector: every method and the sweep on the same few records.
func TestMemoryStoreStress(t *testing.T) {
	s := new(MemoryStore)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 2))
			for range 2000 {
				stressMemory(t, s, rnd)
			}
		})
	}
	wg.Wait()
	checkMemory(t, s)
}

func stressMemory(t *testing.T, s *MemoryStore, rnd *rand.Rand) {
	ctx, id, version := t.Context(), memoryID(rnd.IntN(30)), 1+rnd.Uint64N(2)
	ttl := time.Duration(1+rnd.IntN(5)) * time.Millisecond
	switch rnd.IntN(6) {
	case 0, 1:
		_, _ = s.Save(ctx, id, rnd.Uint64N(3), Record{Version: version, Data: []byte("data")}, ttl)
	case 2:
		_ = s.Touch(ctx, id, version, ttl)
	case 3:
		_ = s.Delete(ctx, id, rnd.Uint64N(3))
	case 4:
		if rec, err := s.Load(ctx, id); err == nil && string(rec.Data) != "data" {
			t.Errorf("read %q", rec.Data)
		}
	default:
		s.sweep()
	}
}

func BenchmarkMemoryStore(b *testing.B) {
	s, ctx := new(MemoryStore), context.Background()
	ids := make([]uuid.UUID, 1<<16)
	for i := range ids {
		ids[i] = uuid.New()
		if _, err := s.Save(ctx, ids[i], 0, Record{Version: 1, Data: make([]byte, 300)}, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	data := make([]byte, 300)
	for _, c := range []struct {
		name string
		call func(uuid.UUID) error
	}{
		{"Load", func(id uuid.UUID) error { _, err := s.Load(ctx, id); return err }},
		{"Touch", func(id uuid.UUID) error { return s.Touch(ctx, id, 1, time.Hour) }},
		{"Save", func(id uuid.UUID) error {
			_, err := s.Save(ctx, id, 1, Record{Version: 1, Data: data}, time.Hour)
			return err
		}},
	} {
		b.Run("op="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(len(ids)); pb.Next(); i++ {
					if err := c.call(ids[i%len(ids)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
