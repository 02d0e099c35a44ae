package session

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// A loop over a store that nobody writes to sees every live record once, and no
// other.
func TestMemoryStoreAllSeesWhatIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10 * memorySweepStep
		s := new(MemoryStore)
		memoryFill(t, s, n, time.Hour)
		for i := range n {
			id := memoryID(n + i)
			id[15] = byte(i) // over all shards
			if _, err := s.Save(t.Context(), id, 0, Record{Version: 2, Owner: "ann", Data: []byte("x")}, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		count := func(ttl time.Duration) (seen map[uuid.UUID]Record) {
			seen = make(map[uuid.UUID]Record)
			for id, rec := range s.All() {
				if _, twice := seen[id]; twice || rec.Version == 1 && rec.TTL != ttl {
					t.Errorf("%v: twice %v, %+v", id, twice, rec)
				}
				seen[id] = rec
			}
			return seen
		}
		if got := len(count(time.Hour)); got != 2*n {
			t.Errorf("%d of %d seen", got, 2*n)
		}
		time.Sleep(time.Second)
		if got := len(count(time.Hour - time.Second)); got != n {
			t.Errorf("E1: %d seen of %d that live", got, n)
		}
		for range s.All() {
			break // leaves no lock held
		}
		if s.Len() == 0 {
			t.Error("the loop dropped records")
		}
	})
}

// What a loop takes while it runs makes it miss nothing.
func TestMemoryStoreAllMissesNothingThatIsNotWritten(t *testing.T) {
	const n = 20 * memorySweepStep
	for _, s := range []*MemoryStore{{}, {MaxSessions: 2 * n}} {
		memoryFill(t, s, n, time.Hour)
		taken := make(map[uuid.UUID]bool)
		for id := range s.All() {
			if _, err := s.Take(t.Context(), id, 0); err != nil && !taken[id] {
				t.Fatal(err)
			}
			taken[id] = true
		}
		if len(taken) != n || s.Len() != 0 {
			t.Errorf("MaxSessions %d: %d of %d taken, %d left", s.MaxSessions, len(taken), n, s.Len())
		}
		checkMemoryRoom(t, s)
	}
}

// Of several who take a record one gets it, as it is; whoever comes late is told.
func TestMemoryStoreTakeGivesARecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, id, ctx := new(MemoryStore), memoryID(1), t.Context()
		if _, err := s.Save(ctx, id, 0, Record{Version: 7, Owner: "ann", Data: []byte("x")}, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Take(ctx, id, 8); !errors.Is(err, ErrConflict) {
			t.Errorf("C1: taken as another version: %v", err)
		}
		time.Sleep(time.Second)
		var got []Record
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				rec, err := s.Take(ctx, id, 7)
				if err != nil {
					if !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, rec)
			})
		}
		wg.Wait()
		if len(got) != 1 || got[0].Version != 7 || got[0].Owner != "ann" || string(got[0].Data) != "x" || got[0].TTL != 59*time.Second {
			t.Errorf("taken: %+v", got)
		}
		if _, err := s.Load(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		memoryFill(t, s, 1, time.Second)
		time.Sleep(time.Second)
		if rec, err := s.Take(ctx, memoryID(0), 0); !errors.Is(err, ErrNotFound) || rec.Version != 0 {
			t.Errorf("E1: an expired record was given: %+v, %v", rec, err)
		}
	})
}
