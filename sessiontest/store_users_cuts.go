package sessiontest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A cut is a CutOff that took effect between two instants of this process's
// monotonic clock.
type cut struct {
	id             uint64
	sent, returned time.Time
}

func (t *storeTest) cutOff(list string, except ...uuid.UUID) cut {
	t.Helper()
	sent := time.Now()
	_, this, err := t.users.CutOff(t.Context(), list, except...)
	c := cut{this.ID, sent, time.Now()}
	if err != nil {
		t.Fatalf("CutOff: %v", err)
	}
	if took := c.returned.Sub(sent); this.ID == 0 || this.Ago < 0 || this.Ago > took {
		t.Fatalf("CutOff gave %+v after %v, want an ID that is not 0, and 0 to %[2]v", this, took)
	}
	return c
}

// told enlists an ID and expects to be told of c, and of no other: not longer ago
// than it can have been, and not shorter by more than the resolution.
func (t *storeTest) told(list string, id uuid.UUID, c cut) {
	t.Helper()
	sent := time.Now()
	last := t.last(list, id)
	returned := time.Now()
	least, most := sent.Sub(c.returned)-t.opts.Resolution, returned.Sub(c.sent)
	if last.ID == 0 || last.ID != c.id || last.Ago < max(0, least) || last.Ago > most {
		t.Fatalf("Enlist gave %+v as last, want the ID %d, and %v to %v", last, c.id, max(0, least), most)
	}
}

// untold enlists an ID and expects to be told that there was no CutOff.
func (t *storeTest) untold(list string, id uuid.UUID) {
	t.Helper()
	if last := t.last(list, id); last != (session.Cut{}) {
		t.Fatalf("Enlist gave %+v as last, want the zero Cut: no CutOff of this list is for this ID", last)
	}
}

// last enlists an ID and returns what it is told.
func (t *storeTest) last(list string, id uuid.UUID) session.Cut {
	t.Helper()
	_, last, err := t.users.Enlist(t.Context(), list, id, long, 0)
	if err != nil {
		t.Fatalf("Enlist: %v", err)
	}
	return last
}

func testCutOffList(t *storeTest) {
	ids := newIDs(4)
	recs := make([]uint64, len(ids))
	for i, id := range ids {
		rec := record("ann", "value")
		recs[i] = rec.Version
		t.save(id, 0, rec, long)
	}
	t.enlist(aList, ids...)
	for _, except := range [][]uuid.UUID{nil, {ids[1]}, ids, {uuid.New(), ids[0]}} {
		got, _, err := t.users.CutOff(t.Context(), aList, except...)
		if err != nil {
			t.Fatalf("CutOff: %v", err)
		}
		t.sameIDs("CutOff", got, ids)
		t.lists(aList, ids...)
		if !slices.Equal(t.versions(ids...), recs) {
			t.Fatalf("CutOff changed a record")
		}
	}
}

func testOwnCut(t *storeTest) {
	ids := newIDs(2)
	t.cutOff(aList)
	t.enlist(aList, ids...)
	for _, except := range [][]uuid.UUID{nil, ids[:1], ids, {uuid.New()}} {
		t.cutOff(aList, except...)
		time.Sleep(t.unit() / 4) // which the next one must not take for its own
	}
}

func testCutIDs(t *storeTest) {
	seen := map[uint64]bool{}
	add := func(id uint64) {
		t.Helper()
		if seen[id] {
			t.Fatalf("two CutOffs of one list have the ID %d", id)
		}
		seen[id] = true
	}
	ids := t.sessions(2)
	for i := range 30 {
		time.Sleep(t.opts.Resolution) // those of one instant need not be told apart
		add(t.cutOff(aList, ids[:i%3]...).id)
	}
	t.enlist(aList, ids...)
	t.end(aList, ids...)
	t.list(aList)
	time.Sleep(t.opts.Resolution)
	add(t.cutOff(aList).id)
	if t.opts.RealTime {
		return // hours pass in virtual time only
	}
	for _, later := range []time.Duration{25 * time.Minute, 25 * time.Minute, 25 * time.Minute, 2 * time.Hour, 48 * time.Hour} {
		time.Sleep(later)
		t.list(aList)
		add(t.cutOff(aList).id)
	}
}

// cutTogether makes CutOffs at once and returns their IDs.
func (t *storeTest) cutTogether(list string) []uint64 {
	t.Helper()
	ids := make([]uint64, 20)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			_, this, err := t.users.CutOff(t.Context(), list)
			if err != nil {
				t.Errorf("CutOff: %v", err)
			}
			ids[i] = this.ID
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return ids
}

func testLastCutID(t *storeTest) {
	id, other := uuid.New(), uuid.New()
	if together, last := t.cutTogether(aList), t.last(aList, id); !slices.Contains(together, last.ID) {
		t.Fatalf("after %d CutOffs at once Enlist gave %+v as last, which is none of them", len(together), last)
	}
	for range 3 {
		// In virtual time they are of one instant, so that Ago tells none apart.
		toAll := t.cutOff(aList)
		t.told(aList, id, toAll)
		t.told(aList, other, toAll)
		for range 3 {
			toOthers := t.cutOff(aList, id)
			t.cutOff("another list")
			t.told(aList, id, toAll)
			t.told(aList, other, toOthers)
		}
		time.Sleep(t.unit() / 4)
		t.told(aList, id, toAll)
	}
}

func testLastCut(t *storeTest) {
	ids := newIDs(2)
	t.untold(aList, ids[0])
	t.untold(aList, ids[1])
	t.untold(aList, ids[0])
	for range 2 {
		c := t.cutOff(aList)
		t.told(aList, ids[0], c)
		for range 3 {
			time.Sleep(t.unit() / 2)
			t.told(aList, ids[0], c)
			t.told(aList, ids[1], c)
			t.told(aList, uuid.New(), c)
		}
	}
}

func testLastCutRounded(t *storeTest) {
	// Halves of a step, so that rounding both ends of the time, or the time to
	// the nearest step, says too much in one round or the next.
	step := t.opts.Resolution
	for range 6 {
		for _, later := range []time.Duration{step / 2, step - step/8, step, 2*step - step/8} {
			c := t.cutOff(aList)
			time.Sleep(later)
			t.told(aList, uuid.New(), c)
			time.Sleep(step / 2)
		}
	}
}

func testExcept(t *storeTest) {
	listed, absent, others := uuid.New(), uuid.New(), newIDs(2)
	t.enlist(aList, listed, others[0])
	c := t.cutOff(aList, listed, absent)
	for range 2 { // sent again it says the same
		t.untold(aList, listed)
		t.untold(aList, absent)
		t.told(aList, others[0], c)
		t.told(aList, others[1], c)
		time.Sleep(t.unit() / 4)
		c = t.cutOff(aList, listed, absent)
	}

	toAll := t.cutOff(aList)
	t.told(aList, listed, toAll)
	t.told(aList, absent, toAll)
	t.told(aList, others[0], toAll)
	for range 2 {
		time.Sleep(t.unit() / 4)
		c = t.cutOff(aList, listed, absent)
		t.told(aList, listed, toAll)
		t.told(aList, absent, toAll)
		t.told(aList, others[0], c)
		t.told(aList, others[1], c)
	}
	time.Sleep(t.unit() / 4)
	last := t.cutOff(aList, others...)
	t.told(aList, listed, last)
	t.told(aList, absent, last)
	t.told(aList, others[0], c)
	t.told(aList, others[1], c)
}

func testManyCuts(t *storeTest) {
	ids := newIDs(4)
	newest := map[uuid.UUID]cut{}
	check := func() {
		t.Helper()
		for _, id := range ids {
			if c, ok := newest[id]; ok {
				t.told(aList, id, c)
			} else {
				t.untold(aList, id)
			}
		}
	}
	apply := func(except ...uuid.UUID) {
		t.Helper()
		c := t.cutOff(aList, except...)
		for _, id := range without(ids, except...) {
			newest[id] = c
		}
	}

	for _, id := range ids {
		apply(without(ids, id)...)
		check()
	}
	for range 12 {
		time.Sleep(3 * t.opts.Resolution) // so that one cannot be taken for the other
		var except []uuid.UUID
		for _, id := range ids {
			if rand.IntN(3) != 0 {
				except = append(except, id)
			}
		}
		apply(except...)
		check()
	}
	// One device that signs out everywhere else, again and again.
	for range 40 {
		apply(ids[0])
	}
	check()
}

func testCutForAnHour(t *storeTest) {
	if t.opts.RealTime {
		t.Skip("an hour passes in virtual time only")
	}
	ids := newIDs(2)
	toAll := map[string]cut{}
	begin := time.Now()
	for _, list := range []string{"in use", "not in use"} {
		toAll[list] = t.cutOff(list)
	}
	excepted := t.cutOff("excepted", ids[0])
	for minute := range 60 {
		time.Sleep(time.Until(begin.Add(time.Duration(minute) * time.Minute)))
		t.told("in use", ids[0], toAll["in use"])
		t.told("in use", ids[1], t.cutOff("in use", ids[0]))
		t.list("in use")
	}
	time.Sleep(time.Until(begin.Add(time.Hour - 1)))
	t.told("in use", ids[0], toAll["in use"])
	t.told("not in use", ids[0], toAll["not in use"])
	t.told("excepted", ids[1], excepted)
	t.untold("excepted", ids[0])

	// Whoever was excepted stays so, whatever is forgotten then.
	for range 10 {
		time.Sleep(10 * time.Minute)
		t.untold("excepted", ids[0])
	}
}

func testCutOutlastsList(t *storeTest) {
	brief, ended := uuid.New(), newIDs(3)
	never := t.cutOff("that never was")
	t.enlistFor("enlisted, then cut off", brief, t.unit())
	after := t.cutOff("enlisted, then cut off")
	before := t.cutOff("cut off, then enlisted")
	end := t.enlistFor("cut off, then enlisted", brief, t.unit())
	t.enlist("ended", ended...)
	allEnded := t.cutOff("ended")
	t.end("ended", ended...)

	t.wait(end)
	time.Sleep(t.unit())
	for list, c := range map[string]cut{
		"that never was": never, "cut off, then enlisted": before, "enlisted, then cut off": after, "ended": allEnded,
	} {
		t.list(list)
		t.told(list, uuid.New(), c)
	}
}

func testCutOneList(t *storeTest) {
	names := append(anyText(), "ANN", "annn", "an")
	ids, cuts := newIDs(2), map[string]cut{}
	for i, name := range names {
		t.enlist(name, ids...)
		if i%2 == 0 {
			cuts[name] = t.cutOff(name, ids[1])
		}
	}
	for _, name := range names {
		t.untold(name, ids[1])
		if c, ok := cuts[name]; ok {
			t.told(name, ids[0], c)
		} else {
			t.untold(name, ids[0])
		}
	}
}
