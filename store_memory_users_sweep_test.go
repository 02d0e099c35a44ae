package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/uuid"
)

// checkNoMemoryLists proves that nothing of any list is left.
func checkNoMemoryLists(t *testing.T, s *MemoryStore) {
	t.Helper()
	for i := range s.lists {
		if m := &s.lists[i].lists; m.now != nil || m.former != nil {
			t.Fatalf("shard %d of the lists keeps a map with %d of them", i, m.len())
		}
	}
}

func TestMemoryStoreE6ListsGoWithoutACall(t *testing.T) {
	for name, c := range map[string]struct {
		users, sessions int
		ttl, listTTL    time.Duration
		deleted         bool
	}{
		"expired records, one a user":  {users: 5000, sessions: 1, ttl: time.Minute, listTTL: 12 * time.Hour},
		"expired records, two a user":  {users: 1000, sessions: 2, ttl: time.Minute, listTTL: 12 * time.Hour},
		"expired records, many a user": {users: 2, sessions: 5000, ttl: time.Minute, listTTL: 12 * time.Hour},
		"deleted records, one a user":  {users: 5000, sessions: 1, ttl: time.Hour, listTTL: 12 * time.Hour, deleted: true},
		"deleted records, many a user": {users: 2, sessions: 5000, ttl: time.Hour, listTTL: 12 * time.Hour, deleted: true},
		"ttl run out, one a user":      {users: 5000, sessions: 1, ttl: 2 * time.Minute, listTTL: time.Minute},
		"ttl run out, many a user":     {users: 2, sessions: 5000, ttl: 2 * time.Minute, listTTL: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(MemoryStore)
				var ids []uuid.UUID
				for u := range c.users {
					for range c.sessions {
						ids = append(ids, uuid.New())
						memoryLogin(t, s, fmt.Sprint("user ", u), ids[len(ids)-1], c.ttl, c.listTTL)
					}
				}
				if c.deleted {
					for _, id := range ids {
						if err := s.Delete(t.Context(), id, 0); err != nil {
							t.Fatal(err)
						}
					}
				}
				if n := s.listCount(); n != c.users {
					t.Fatalf("%d lists of %d users", n, c.users)
				}
				time.Sleep(time.Minute + memorySweepEvery)
				synctest.Wait()
				if n := s.listCount(); n != 0 {
					t.Errorf("%d lists left", n)
				}
				time.Sleep(2*time.Minute + memorySweepEvery)
				synctest.Wait()
				checkMemoryEmpty(t, s)
				checkNoMemoryLists(t, s)
			})
		})
	}
}

func TestMemoryStoreE6SweepLeavesLiveSessionsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		var live []uuid.UUID
		for i := range 1000 {
			ttl := time.Hour
			if i%10 != 0 {
				ttl = time.Minute
			} else {
				live = append(live, memoryID(i))
			}
			memoryLogin(t, s, "ann", memoryID(i), ttl, 12*time.Hour)
			memoryLogin(t, s, fmt.Sprint("user ", i), memoryID(100_000+i), ttl, 12*time.Hour)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		expectMemoryList(t, s, "ann", live)
		for i := range 1000 {
			want := memoryIDs(100_000 + i)
			if i%10 != 0 {
				want = nil
			}
			expectMemoryList(t, s, fmt.Sprint("user ", i), want)
		}
		key := memoryKeyOf("ann")
		l, _ := s.listShard(key).lists.get(key)
		if m := &l.many.byID; m.former != nil || m.peak > 300 {
			t.Errorf("the index of %d entries has room for %d", m.len(), m.peak)
		}
		if n := s.listCount(); n != 101 {
			t.Errorf("%d lists, want those of 101 live users", n)
		}
	})
}

func TestMemoryStoreE6CutOffsGoWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		for i := range 1000 {
			cutMemoryList(t, s, fmt.Sprint("user ", i), memoryID(i))
		}
		time.Sleep(cutMemory - 1)
		synctest.Wait()
		if n := s.listCount(); n != 1000 {
			t.Errorf("%d of 1000 cut-offs are remembered after an hour", n)
		}
		time.Sleep(2 * memorySweepEvery)
		synctest.Wait()
		checkMemoryEmpty(t, s)
		checkNoMemoryLists(t, s)
	})
}

// Of more lists than one sweep looks at, those of users whose sessions expired go
// with the next sweep, because it finds so many. No look at them holds a lock for
// more than a step.
func TestMemoryStoreE6HundredThousandUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users = 100_000
		s := new(MemoryStore)
		for i := range users {
			memoryLogin(t, s, fmt.Sprint("user ", i), uuid.New(), 5*time.Minute, 12*time.Hour)
		}
		for i := range s.lists {
			v := memoryVisit{s: s, sh: &s.lists[i], now: time.Now().UnixNano()}
			v.run()
			if v.looked != v.sh.len() || cap(v.batch) > memorySweepStep {
				t.Fatalf("%d looks at %d lists, up to %d in one lock hold", v.looked, v.sh.len(), cap(v.batch))
			}
		}
		if n := s.listCount(); n != users {
			t.Fatalf("%d lists of %d users with live sessions", n, users)
		}
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		time.Sleep(memorySweepEvery)
		synctest.Wait()
		if n := s.listCount(); n > 0 {
			t.Errorf("%d lists left after a sweep", n)
		}
		time.Sleep(memorySweepEvery)
		synctest.Wait()
		checkMemoryEmpty(t, s)
		checkNoMemoryLists(t, s)
	})
}

// The lists of live sessions do not use up the looks of all sweeps.
func TestMemoryStoreE6EveryListHasItsTurn(t *testing.T) {
	const live = 3 * memoryListLooks
	s := new(MemoryStore)
	for i := range live {
		memoryLogin(t, s, fmt.Sprint("user ", i), uuid.New(), time.Hour, time.Hour)
		if i%100 == 0 {
			if _, _, err := s.Enlist(t.Context(), fmt.Sprint("dead ", i), uuid.New(), time.Hour, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.collectLists(time.Now().UnixNano())
	if n := s.turn.Load(); n > 32 {
		t.Errorf("a sweep that finds one in a hundred went through %d of %d shards", n, len(s.lists))
	}
	for range live / memoryListLooks {
		s.collectLists(time.Now().UnixNano())
	}
	if n := s.listCount(); n != live {
		t.Errorf("%d lists, %d of them with a live session", n, live)
	}
}

// Like TestMemoryStoreE6SweepDoesNotMissACreation, for what has no record.
func TestMemoryStoreE6SweepDoesNotMissAList(t *testing.T) {
	for name, call := range map[string]func(*MemoryStore) error{
		"Enlist": func(s *MemoryStore) error {
			_, _, err := s.Enlist(t.Context(), "ann", memoryID(0), time.Hour, 0)
			return err
		},
		"CutOff": func(s *MemoryStore) error {
			_, _, err := s.CutOff(t.Context(), "ann")
			return err
		},
	} {
		for range 1000 {
			s := new(MemoryStore)
			s.armed.Store(true)
			var wg sync.WaitGroup
			wg.Go(s.sweep)
			for range rand.IntN(100) {
				runtime.Gosched()
			}
			err := call(s)
			wg.Wait()
			if err != nil || s.listCount() > 0 && !s.armed.Load() {
				t.Fatalf("%s: a store with a list has no timer (%v)", name, err)
			}
		}
	}
}

func TestMemoryStoreE6AbandonedWithListsIsCollected(t *testing.T) {
	ref := abandonedMemoryLists(t)
	for range 10 {
		if runtime.GC(); ref.Value() == nil {
			return
		}
	}
	t.Error("an abandoned store with lists is still in memory")
}

func abandonedMemoryLists(t *testing.T) weak.Pointer[MemoryStore] {
	s := new(MemoryStore)
	memoryLogin(t, s, "ann", memoryID(0), time.Hour, time.Hour)
	cutMemoryList(t, s, "bob")
	if !s.armed.Load() {
		t.Error("a store with lists has no timer")
	}
	return weak.Make(s)
}

// BenchmarkMemoryStoreEnlist logs in users with one session each, and sessions of
// one user who has as many as there are rounds.
func BenchmarkMemoryStoreEnlist(b *testing.B) {
	for _, users := range []int{1_000_000, 1} {
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			s, ctx := new(MemoryStore), context.Background()
			lists := make([]string, users)
			for i := range lists {
				lists[i] = fmt.Sprintf("bench\x00user %d", i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, _, err := s.Enlist(ctx, lists[i%users], uuid.UUID{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16), 3: byte(i >> 24)}, time.Hour, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemoryStoreListSweep reports what a list of one session takes in
// memory, what one look costs, and the longest time that a visit of n lists, all
// of them with a dead session, keeps a shard of them from others.
func BenchmarkMemoryStoreListSweep(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		s, ctx := new(MemoryStore), context.Background()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			if _, _, err := s.Enlist(ctx, fmt.Sprintf("bench\x00user %d", i), uuid.New(), time.Hour, 0); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		holds := make(chan time.Duration)
		stop := make(chan struct{})
		go func() { holds <- longestMemoryListWait(s, stop) }()
		start := time.Now()
		for range memoryListRounds {
			s.collectLists(time.Now().UnixNano())
		}
		took := time.Since(start)
		close(stop)
		b.ReportMetric(float64((<-holds).Microseconds()), "longest-wait-us")
		if left := s.listCount(); left != 0 {
			b.Fatalf("%d of %d lists left", left, n)
		}
		b.ReportMetric(float64(took.Nanoseconds())/n, "ns/look")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/list")
	}
}

func longestMemoryListWait(s *MemoryStore, stop chan struct{}) (longest time.Duration) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return longest
		default:
		}
		start := time.Now()
		s.lists[i%len(s.lists)].len()
		longest = max(longest, time.Since(start))
		time.Sleep(20 * time.Microsecond)
	}
}

// E6: when one ID in sixteen is to go, whoever's it is, one sweep takes them all.
func TestMemoryStoreE6OneInSixteenGoesAtOnce(t *testing.T) {
	s := new(MemoryStore)
	const users = 5 * memoryListLooks
	for u := range users {
		id, name := uuid.New(), fmt.Sprint("user ", u)
		if u%16 != 0 {
			memoryLogin(t, s, name, id, time.Hour, time.Hour)
		} else if _, _, err := s.Enlist(t.Context(), name, id, time.Hour, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.collectLists(time.Now().UnixNano())
	if n, want := s.listCount(), users-users/16; n != want {
		t.Errorf("%d lists are left of %d, of which %d are alive", n, users, want)
	}
}
