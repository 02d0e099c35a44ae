package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

var (
	_ UserStore = (*MemoryStore)(nil)
	_ UserStore = (*openMemory)(nil)
)

// memoryLogin saves a user's record and enlists it, as a Manager does.
func memoryLogin(t *testing.T, s *MemoryStore, list string, id uuid.UUID, ttl, listTTL time.Duration) {
	t.Helper()
	if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Owner: "ann"}, ttl); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Enlist(t.Context(), list, id, listTTL, 0); err != nil {
		t.Fatal(err)
	}
}

func memoryIDs(numbers ...int) []uuid.UUID {
	ids := make([]uuid.UUID, len(numbers))
	for i, n := range numbers {
		ids[i] = memoryID(n)
	}
	return ids
}

func expectMemoryList(t *testing.T, s *MemoryStore, list string, want []uuid.UUID) {
	t.Helper()
	got, err := s.List(t.Context(), list)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("on the list: %v, %v, want %v", got, err, want)
	}
}

// memoryAgo is how long ago a cut was, negative for none.
func memoryAgo(last Cut) time.Duration {
	if last == (Cut{}) {
		return -1
	}
	return last.Ago
}

// expectMemoryCut enlists id and compares how long ago it was cut off.
func expectMemoryCut(t *testing.T, s *MemoryStore, list string, id uuid.UUID, want time.Duration) {
	t.Helper()
	_, last, err := s.Enlist(t.Context(), list, id, time.Hour, 0)
	since := memoryAgo(last)
	if err != nil || since != want && (since >= 0 || want >= 0) {
		t.Errorf("session %v: cut off %v ago (%v), want %v", id, since, err, want)
	}
}

func cutMemoryList(t *testing.T, s *MemoryStore, list string, except ...uuid.UUID) []uuid.UUID {
	t.Helper()
	ids, _, err := s.CutOff(t.Context(), list, except...)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestMemoryStoreEnlistPutsAtTheEnd(t *testing.T) {
	for _, n := range []int{1, 2, 3, memoryFew, memoryFew + 1, 500} {
		t.Run(fmt.Sprintf("n=%d", n), func(t *testing.T) {
			s := new(MemoryStore)
			expectMemoryList(t, s, "ann", nil)
			var want []uuid.UUID
			enlist := func(id uuid.UUID) {
				t.Helper()
				if _, _, err := s.Enlist(t.Context(), "ann", id, time.Hour, 0); err != nil {
					t.Fatal(err)
				}
				want = append(slices.DeleteFunc(want, func(x uuid.UUID) bool { return x == id }), id)
			}
			for i := range n {
				enlist(memoryID(i))
			}
			expectMemoryList(t, s, "ann", want)
			for _, again := range []int{0, n / 2, n - 1, n - 1, 0} {
				enlist(memoryID(again))
				expectMemoryList(t, s, "ann", want)
			}
			expectMemoryList(t, s, "bob", nil)
		})
	}
}

func TestMemoryStoreEnlistReturnsTheListBeyondMost(t *testing.T) {
	s := new(MemoryStore)
	for _, c := range []struct {
		id, most int
		want     []int
	}{
		{0, 1, nil}, {0, 1, nil}, {1, 1, []int{0, 1}}, {2, 0, nil}, {3, 4, nil},
		{0, 3, []int{1, 2, 3, 0}}, {0, 4, nil}, {4, 4, []int{1, 2, 3, 0, 4}}, {5, -1, nil},
	} {
		listed, _, err := s.Enlist(t.Context(), "ann", memoryID(c.id), time.Hour, c.most)
		if want := memoryIDs(c.want...); err != nil || !slices.Equal(listed, want) || (listed == nil) != (c.want == nil) {
			t.Errorf("Enlist of %d with most %d gave %v, %v, want %v", c.id, c.most, listed, err, want)
		}
	}
}

func TestMemoryStoreE1EnlistedForTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		for i, ttl := range []time.Duration{5 * time.Second, 3*time.Second + 999*time.Microsecond, 9 * time.Second} {
			memoryLogin(t, s, "ann", memoryID(i), time.Hour, ttl)
		}
		time.Sleep(3*time.Second - 1)
		expectMemoryList(t, s, "ann", memoryIDs(0, 1, 2))
		time.Sleep(time.Nanosecond)
		expectMemoryList(t, s, "ann", memoryIDs(0, 2))
		listed, _, err := s.Enlist(t.Context(), "ann", memoryID(3), time.Second, 3)
		if err != nil || listed != nil {
			t.Errorf("one that ran out counts: %v (%v)", listed, err)
		}
		listed, _, err = s.Enlist(t.Context(), "ann", memoryID(4), time.Second, 3)
		if err != nil || !slices.Equal(listed, memoryIDs(0, 2, 3, 4)) {
			t.Errorf("beyond most: %v (%v)", listed, err)
		}
		memoryLogin(t, s, "ann", memoryID(5), time.Hour, time.Minute)
		time.Sleep(3 * time.Second) // a longer ttl counts from the second Enlist on
		if _, _, err := s.Enlist(t.Context(), "ann", memoryID(0), time.Minute, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		expectMemoryList(t, s, "ann", memoryIDs(5, 0))
	})
}

func TestMemoryStoreListsEndWithTheContext(t *testing.T) {
	s := new(MemoryStore)
	memoryLogin(t, s, "ann", memoryID(0), time.Hour, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Enlist":   func() error { _, _, err := s.Enlist(ctx, "ann", memoryID(1), time.Hour, 0); return err },
		"List":     func() error { _, err := s.List(ctx, "ann"); return err },
		"CutOff":   func() error { _, _, err := s.CutOff(ctx, "ann"); return err },
		"End":      func() error { return s.End(ctx, "ann", memoryID(0)) },
		"LoadAll":  func() error { _, err := s.LoadAll(ctx, memoryIDs(0)); return err },
		"Versions": func() error { _, err := s.Versions(ctx, memoryIDs(0)); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that is over: %v", name, err)
		}
	}
	if _, _, err := s.Enlist(t.Context(), "ann", memoryID(1), time.Millisecond-1, 0); err == nil {
		t.Error("a ttl that rounds to nothing is no error")
	}
	expectMemoryList(t, s, "ann", memoryIDs(0))
	expectMemoryCut(t, s, "ann", memoryID(0), -1)
	if _, err := s.Load(t.Context(), memoryID(0)); err != nil {
		t.Errorf("End with a context that is over: %v", err)
	}
}

func TestMemoryStoreCutOffsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		expectMemoryCut(t, s, "ann", memoryID(0), -1)
		expectMemoryCut(t, s, "ann", memoryID(1), -1)
		except := memoryIDs(1, 2)
		if ids := cutMemoryList(t, s, "ann", except...); !slices.Equal(ids, memoryIDs(0, 1)) {
			t.Errorf("CutOff returned %v", ids)
		}
		clear(except) // the caller's again
		expectMemoryList(t, s, "ann", memoryIDs(0, 1))
		expectMemoryCut(t, s, "ann", memoryID(0), 0)
		expectMemoryCut(t, s, "ann", memoryID(1), -1)
		expectMemoryCut(t, s, "ann", memoryID(2), -1)
		time.Sleep(10 * time.Minute)
		cutMemoryList(t, s, "ann", memoryID(0))
		time.Sleep(10*time.Minute + 7)
		cutMemoryList(t, s, "ann", memoryID(0), memoryID(1))
		time.Sleep(3 * time.Nanosecond)
		expectMemoryCut(t, s, "ann", memoryID(0), 20*time.Minute+10)
		expectMemoryCut(t, s, "ann", memoryID(1), 10*time.Minute+10)
		expectMemoryCut(t, s, "ann", memoryID(2), 3)
		expectMemoryCut(t, s, "bob", memoryID(2), -1)

		time.Sleep(30 * time.Minute)
		cutMemoryList(t, s, "ann")
		for i := range 3 {
			expectMemoryCut(t, s, "ann", memoryID(i), 0)
		}
	})
}

func TestMemoryStoreCutOffIsRememberedForAnHour(t *testing.T) {
	for name, except := range map[string][]uuid.UUID{"all": nil, "all but one": memoryIDs(1)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(MemoryStore)
				cutMemoryList(t, s, "ann", except...)
				time.Sleep(time.Hour - 1)
				synctest.Wait() // the sweeps of the hour, with nobody on the list
				expectMemoryCut(t, s, "ann", memoryID(0), time.Hour-1)
				time.Sleep(time.Nanosecond)
				expectMemoryCut(t, s, "ann", memoryID(0), -1)
			})
		})
	}
}

func TestMemoryStoreRemembersTheNewestCutOffs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(MemoryStore)
		cutMemoryList(t, s, "ann")
		for i := range memoryMaxCuts {
			time.Sleep(time.Second)
			cutMemoryList(t, s, "ann", memoryID(i), memoryID(-1))
		}
		expectMemoryCut(t, s, "ann", memoryID(0), 0)
		expectMemoryCut(t, s, "ann", memoryID(memoryMaxCuts-1), time.Second)
		expectMemoryCut(t, s, "ann", memoryID(-1), -1) // the first one is forgotten
		for range 1000 {
			cutMemoryList(t, s, "ann", memoryID(-1))
		}
		l, _ := s.listShard(memoryKeyOf("ann")).lists.get(memoryKeyOf("ann"))
		if n := len(l.many.cuts); n != memoryMaxCuts {
			t.Errorf("%d cut-offs are remembered, want the %d newest", n, memoryMaxCuts)
		}
		expectMemoryCut(t, s, "ann", memoryID(0), 0)
		cutMemoryList(t, s, "ann")
		l, _ = s.listShard(memoryKeyOf("ann")).lists.get(memoryKeyOf("ann"))
		if n := len(l.many.cuts); n != 1 {
			t.Errorf("a CutOff of everything left %d to remember", n)
		}
	})
}

func TestMemoryStoreEndDeletesThenDelists(t *testing.T) {
	for _, n := range []int{1, 2, 300} {
		s := new(MemoryStore)
		var ids, want []uuid.UUID
		for i := range n {
			memoryLogin(t, s, "ann", memoryID(i), time.Hour, time.Hour)
			if i%3 == 0 {
				ids = append(ids, memoryID(i), memoryID(100_000+i)) // one of them unknown
			} else {
				want = append(want, memoryID(i))
			}
		}
		for range 2 { // sent again it does no harm
			if err := s.End(t.Context(), "ann", ids...); err != nil {
				t.Fatal(err)
			}
			expectMemoryList(t, s, "ann", want)
		}
		versions, err := s.Versions(t.Context(), append(memoryIDs(0), want...))
		if err != nil || versions[0] != 0 || len(versions) != len(want)+1 || slices.Contains(versions[1:], 0) {
			t.Errorf("after End of a third of %d: versions %v (%v)", n, versions, err)
		}
		if err := s.End(t.Context(), "ann"); err != nil {
			t.Errorf("End of nothing: %v", err)
		}
		if err := s.End(t.Context(), "nobody", want...); err != nil || s.Len() != 0 {
			t.Errorf("End by another list left %d records (%v)", s.Len(), err)
		}
	}
}

func TestMemoryStoreLoadAllAndVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, data := new(MemoryStore), []byte("data")
		for i := range 3 {
			rec := Record{Version: uint64(i + 1), Owner: "ann", Data: data}
			if _, err := s.Save(t.Context(), memoryID(i), 0, rec, time.Duration(i+1)*time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) // the end of the first
		ids := memoryIDs(2, 0, 7, 1, 2)
		records, err := s.LoadAll(t.Context(), ids)
		if err != nil || len(records) != len(ids) {
			t.Fatalf("LoadAll gave %v, %v", records, err)
		}
		versions, err := s.Versions(t.Context(), ids)
		if want := []uint64{3, 0, 0, 2, 3}; err != nil || !slices.Equal(versions, want) {
			t.Errorf("versions %v (%v), want %v", versions, err, want)
		}
		for i, id := range ids {
			want, err := s.Load(t.Context(), id)
			got := records[i]
			if got.Version != want.Version || got.Owner != want.Owner || got.TTL != want.TTL || len(got.Data) != len(want.Data) {
				t.Errorf("record %d is %+v, Load says %+v, %v", i, got, want, err)
			}
			if err == nil && &got.Data[0] != &data[0] {
				t.Errorf("the data of record %d was copied", i)
			}
		}
		if records, err := s.LoadAll(t.Context(), nil); err != nil || len(records) != 0 {
			t.Errorf("LoadAll of nothing: %v, %v", records, err)
		}
	})
}

// An Enlist comes before a CutOff, and is on the list that it returns, or after
// it, and is told. With an exception likewise.
func TestMemoryStoreEnlistIsListedOrTold(t *testing.T) {
	const sessions = 3 * memoryFew
	listed, told := 0, 0
	for range 200 {
		s := new(MemoryStore)
		spared := memoryID(sessions)
		since := make([]time.Duration, sessions)
		var ids []uuid.UUID
		var begun atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			for after := rand.Int32N(sessions); begun.Load() < after; {
				runtime.Gosched()
			}
			ids, _, _ = s.CutOff(t.Context(), "ann", spared)
		})
		for g := range 4 {
			wg.Go(func() {
				for i := g; i < sessions; i += 4 {
					begun.Add(1)
					_, last, err := s.Enlist(t.Context(), "ann", memoryID(i), time.Hour, 0)
					if err != nil {
						t.Error(err)
					}
					since[i] = memoryAgo(last)
				}
			})
		}
		wg.Wait()
		for i, d := range since {
			if (d >= 0) == slices.Contains(ids, memoryID(i)) {
				t.Fatalf("session %d: on the list that CutOff returned: %v; cut off %v ago", i, d < 0, d)
			}
		}
		listed, told = listed+len(ids), told+sessions-len(ids)
		expectMemoryCut(t, s, "ann", spared, -1)
	}
	if listed == 0 || told == 0 {
		t.Errorf("%d were listed, %d told: the test shows nothing", listed, told)
	}
}

// For the race detector: every method of lists, and the sweep, on the same few.
func TestMemoryStoreListsStress(t *testing.T) {
	s := &MemoryStore{MaxSessions: 20}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 6))
			for range 1500 {
				stressMemoryLists(t, s, rnd)
			}
		})
	}
	wg.Wait()
	checkMemoryRoom(t, s)
}

func stressMemoryLists(t *testing.T, s *MemoryStore, rnd *rand.Rand) {
	ctx, id, list := t.Context(), memoryID(rnd.IntN(30)), fmt.Sprint(rnd.IntN(3))
	ttl := time.Duration(1+rnd.IntN(5)) * time.Millisecond
	switch rnd.IntN(8) {
	case 0, 1:
		_, _ = s.Save(ctx, id, 0, Record{Version: 1, Owner: list[:rnd.IntN(2)]}, ttl)
		_, _, _ = s.Enlist(ctx, list, id, ttl, rnd.IntN(10))
	case 2:
		_, _ = s.List(ctx, list)
	case 3:
		_, _, _ = s.CutOff(ctx, list, id)
	case 4:
		_ = s.End(ctx, list, id, memoryID(rnd.IntN(30)))
	case 5:
		_, _ = s.LoadAll(ctx, []uuid.UUID{id, uuid.Nil})
	case 6:
		_, _ = s.Versions(ctx, []uuid.UUID{id, uuid.Nil})
	default:
		s.sweep()
	}
}
