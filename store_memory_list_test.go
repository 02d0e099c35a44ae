package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/uuid"
)

// What a session costs is what most visitors cost, whether or not lists are used.
func TestMemoryStoreEntriesStaySmall(t *testing.T) {
	if size := unsafe.Sizeof(memoryEntry{}); size > 88 {
		t.Errorf("an entry takes %d bytes, docs/performance.md says 88", size)
	}
	if size := unsafe.Sizeof(memoryList{}); size > 32 {
		t.Errorf("a list takes %d bytes of a map, it was made to fit in 32", size)
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
	for step := range 3000 {
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
			_, _ = s.Save(t.Context(), id, 0, Record{Version: 1, Owner: "ann"}, 3*time.Hour)
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
			time.Sleep(time.Duration(rnd.IntN(60_000)) * time.Millisecond)
			synctest.Wait()
		}
	}
	time.Sleep(3*time.Hour + memorySweepEvery)
	synctest.Wait()
	checkMemoryEmpty(t, s)
	checkNoMemoryLists(t, s)
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
