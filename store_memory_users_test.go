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
	"weak"

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

// memoryListModel is what a list must look like from outside.
type memoryListModel struct {
	ids  []uuid.UUID
	ends map[uuid.UUID]time.Time
	cuts []memoryListModelCut
}

type memoryListModelCut struct {
	at     time.Time
	except []uuid.UUID
}

func (m *memoryListModel) live() []uuid.UUID {
	m.ids = slices.DeleteFunc(m.ids, func(id uuid.UUID) bool { return !time.Now().Before(m.ends[id]) })
	return m.ids
}

func (m *memoryListModel) enlist(id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, since time.Duration) {
	m.remove(id)
	m.ids, m.ends[id] = append(m.live(), id), time.Now().Add(ttl)
	if most > 0 && len(m.ids) > most {
		listed = m.ids
	}
	since = -1
	for _, c := range m.cuts {
		if age := time.Since(c.at); age < time.Hour && !slices.Contains(c.except, id) {
			since = age
		}
	}
	return listed, since
}

func (m *memoryListModel) remove(ids ...uuid.UUID) {
	m.ids = slices.DeleteFunc(m.ids, func(id uuid.UUID) bool { return slices.Contains(ids, id) })
}

// Lists grow, shrink and change their form while sweeps run; records live on.
func TestMemoryStoreListsAgainstModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { walkMemoryLists(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func walkMemoryLists(t *testing.T, rnd *rand.Rand) {
	s := new(MemoryStore)
	models := make(map[string]*memoryListModel)
	for step := range 4000 {
		list := fmt.Sprint(rnd.IntN(3))
		m := models[list]
		if m == nil {
			m = &memoryListModel{ends: make(map[uuid.UUID]time.Time)}
			models[list] = m
		}
		ids := 3 * memoryFew
		if step/500%2 == 1 {
			ids = 3
		}
		id := memoryID(rnd.IntN(ids))
		switch op := rnd.IntN(100); {
		case op < 60:
			_, _ = s.Save(t.Context(), id, 0, Record{Version: 1, Owner: "ann"}, 12*time.Hour)
			ttl, most := time.Duration(1+rnd.IntN(300))*time.Second, rnd.IntN(50)-10
			listed, last, err := s.Enlist(t.Context(), list, id, ttl, most)
			since := memoryAgo(last)
			wantListed, wantSince := m.enlist(id, ttl, most)
			if err != nil || !slices.Equal(listed, wantListed) || since != wantSince && (since >= 0 || wantSince >= 0) {
				t.Fatalf("step %d: Enlist with most %d gave %v, %v, %v; the model says %v, %v", step, most, listed, since, err, wantListed, wantSince)
			}
		case op < 65:
			except := memoryIDs(rnd.IntN(3), rnd.IntN(3))[:rnd.IntN(3)]
			if ids := cutMemoryList(t, s, list, except...); !slices.Equal(ids, m.live()) {
				t.Fatalf("step %d: CutOff returned %v, the model has %v", step, ids, m.ids)
			}
			m.cuts = append(m.cuts, memoryListModelCut{time.Now(), except})
		case op < 75:
			if err := s.End(t.Context(), list, id); err != nil {
				t.Fatal(err)
			}
			m.remove(id)
			for _, other := range models { // whose entry is dead, and swept at some time
				other.remove(id)
			}
			_ = s.End(t.Context(), "0", id)
			_ = s.End(t.Context(), "1", id)
			_ = s.End(t.Context(), "2", id)
		case op < 95:
			expectMemoryList(t, s, list, m.live())
		default:
			time.Sleep(time.Duration(rnd.IntN(100_000)) * time.Millisecond)
			synctest.Wait()
		}
	}
	time.Sleep(13 * time.Hour)
	synctest.Wait()
	checkMemoryEmpty(t, s)
	checkNoMemoryLists(t, s)
}

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

// With more lists than one sweep looks at, every one has its turn. No look at
// them holds a lock for more than a step.
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
		for sweeps, n := 0, s.listCount(); n > 0; sweeps++ {
			if sweeps > 2+users/memoryListLooks {
				t.Fatalf("%d lists left after %d sweeps", n, sweeps)
			}
			time.Sleep(memorySweepEvery)
			synctest.Wait()
			was := n
			if n = s.listCount(); was-n > memoryListLooks+2*users/len(s.lists) {
				t.Errorf("one sweep dropped %d lists", was-n)
			}
		}
		time.Sleep(memorySweepEvery)
		synctest.Wait()
		checkMemoryEmpty(t, s)
		checkNoMemoryLists(t, s)
	})
}

// Like TestMemoryStoreE6SweepDoesNotMissACreation, for what has no record.
func TestMemoryStoreE6SweepDoesNotMissAList(t *testing.T) {
	for range 1000 {
		s := new(MemoryStore)
		s.armed.Store(true)
		var wg sync.WaitGroup
		wg.Go(s.sweep)
		for range rand.IntN(100) {
			runtime.Gosched()
		}
		_, _, err := s.CutOff(t.Context(), "ann")
		wg.Wait()
		if err != nil || !s.armed.Load() {
			t.Fatalf("a store that remembers a cut-off has no timer (%v)", err)
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

// Whoever goes through a list, or a map, and pauses sees all that was there when
// it began and still is, whatever happens to it meanwhile.
func TestMemoryStoreListsChangeUnderAVisit(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		var l memoryList
		n := 2 + rnd.IntN(100)
		for i := range n {
			l.add(memoryListed{memoryID(i), 1}, 0)
		}
		missing := make(map[uuid.UUID]bool)
		for i := range n {
			missing[memoryID(i)] = true
		}
		for e := range l.entries() {
			delete(missing, e.id)
			for range rnd.IntN(4) {
				id := memoryID(rnd.IntN(2 * n))
				l.remove(id) // it may be the one at hand, or a neighbour
				delete(missing, id)
				if rnd.IntN(3) == 0 {
					l.add(memoryListed{id, 1}, 0)
				}
			}
		}
		if len(missing) > 0 {
			t.Fatalf("seed %d: of %d entries %d were not seen", seed, n, len(missing))
		}
	}
}

func TestMemoryMapGivesBackInSteps(t *testing.T) {
	var m memoryMap[int, int]
	want := make(map[int]int)
	for i := range 10_000 {
		m.put(i, i)
	}
	for i := 10; i < 10_000; i++ {
		m.remove(i)
		if i < 1000 {
			m.put(i, -i)
			want[i] = -i
		}
	}
	for i := range 10 {
		want[i] = i
	}
	rnd := rand.New(rand.NewPCG(1, 5))
	pauses, was := 0, len(m.now)
	m.giveBack(func() {
		pauses++
		if moved := was - len(m.former); moved > memorySweepStep {
			t.Fatalf("%d moves without a pause", moved)
		}
		for range 5 {
			k := rnd.IntN(1200)
			m.remove(k)
			delete(want, k)
			if v := rnd.IntN(100); v < 50 {
				m.put(k, v)
				want[k] = v
			}
		}
		compareMemoryMap(t, &m, want)
		was = len(m.former)
	})
	compareMemoryMap(t, &m, want)
	if pauses < 20 || m.former != nil || m.peak > 1200 {
		t.Errorf("%d pauses; a former map: %v; room for %d", pauses, m.former != nil, m.peak)
	}
	for k := range want {
		m.remove(k)
	}
	if m.giveBack(func() {}); m.now != nil || m.peak != 0 {
		t.Error("an empty map keeps its room")
	}
}

func compareMemoryMap(t *testing.T, m *memoryMap[int, int], want map[int]int) {
	t.Helper()
	if m.len() != len(want) {
		t.Fatalf("%d keys, want %d", m.len(), len(want))
	}
	for k := range 1200 {
		got, found := m.get(k)
		if v, ok := want[k]; got != v || found != ok {
			t.Fatalf("key %d is %d (%v), want %d (%v)", k, got, found, v, ok)
		}
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
