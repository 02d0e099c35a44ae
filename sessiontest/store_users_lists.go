package sessiontest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

func testListOrder(t *storeTest) {
	ids := t.sessions(20)
	for i, id := range ids {
		t.enlist(aList, id)
		t.lists(aList, ids[:i+1]...)
	}
	// IDs that are in order themselves, with a minute between them.
	for i := range ids {
		ids[i] = uuid.UUID{0: byte(len(ids) - i), 15: 1}
		t.save(ids[i], 0, record("ann", "value"), 2*long)
		t.enlistFor("by hand", ids[i], long+time.Duration(i%3)*time.Minute)
		if !t.opts.RealTime {
			time.Sleep(time.Minute)
		}
	}
	t.lists("by hand", ids...)
}

func testEnlistAgain(t *storeTest) {
	ids := t.sessions(3)
	t.enlist(aList, ids...)
	t.enlist(aList, ids[2])
	t.lists(aList, ids...)
	t.enlist(aList, ids[0])
	t.lists(aList, ids[1], ids[2], ids[0])
	t.enlist(aList, ids[2], ids[2], ids[1])
	t.lists(aList, ids[0], ids[2], ids[1])
}

func testEnlistNoRecord(t *storeTest) {
	live, absent, deleted := t.sessions(3), newIDs(2), t.sessions(1)[0]
	t.enlist(aList, live[0], absent[0], live[1], deleted)
	t.delete(deleted, 0)
	t.enlist(aList, absent[1], live[2], deleted)
	for _, id := range append(absent, deleted) {
		t.gone(id)
	}
	t.sameIDs("List", without(t.list(aList), append(absent, deleted)...), live)
}

func testListedForTTL(t *storeTest) {
	id, others := t.sessions(1)[0], newIDs(2)
	unit, ttl := t.unit(), 3*t.unit()
	ends := map[string]span{}
	for list, neighbours := range map[string][2]time.Duration{
		"alone":                 {},
		"a shorter one before":  {unit, 0},
		"a shorter one after":   {0, unit},
		"a longer one before":   {long, 0},
		"a longer one after":    {0, long},
		"shorter ones about it": {unit, unit},
	} {
		if neighbours[0] != 0 {
			t.enlistFor(list, others[0], neighbours[0])
		}
		ends[list] = t.enlistFor(list, id, ttl)
		if neighbours[1] != 0 {
			t.enlistFor(list, others[1], neighbours[1])
		}
	}
	t.enlistFor("twice, first for less", id, unit)
	ends["twice, first for less"] = t.enlistFor("twice, first for less", id, ttl)

	// Those that are kept for less are taken off by whatever comes next.
	time.Sleep(unit + t.opts.Resolution)
	for list := range ends {
		if list != "alone" {
			t.enlistFor(list, uuid.New(), unit)
		}
	}
	for _, before := range []time.Duration{unit, unit / 2, unit / 8, 1} {
		for list, end := range ends {
			time.Sleep(time.Until(end.from.Add(-before)))
			ids := t.list(list)
			if early := time.Until(end.from); early > 0 && !slices.Contains(ids, id) {
				t.Fatalf("%s: an ID was off the list %v before its ttl of %v had run out", list, early, ttl)
			}
		}
	}
}

func testKeptStay(t *storeTest) {
	ids := t.sessions(301) // the first and the last of them are kept for less
	var brief []uuid.UUID
	var end span
	for i, id := range ids {
		if i%3 != 0 {
			t.enlist(aList, id)
			continue
		}
		brief = append(brief, id)
		end = t.enlistFor(aList, id, t.unit())
	}
	kept := without(ids, brief...)
	for range 2 {
		t.sameIDs("List", without(t.list(aList), brief...), kept)
		t.wait(end)
		ids := t.sessions(2)
		t.enlist(aList, ids...)
		kept = append(kept, ids...)
	}
	t.sameIDs("List", without(t.list(aList), brief...), kept)
}

func testTakenOff(t *storeTest) {
	if t.opts.RealTime {
		t.Skip("a day passes in virtual time only")
	}
	const day = 24 * time.Hour
	ids := newIDs(48)
	for _, id := range ids { // which have records for longer than they are listed
		t.save(id, 0, record("ann", "value"), 2*day)
		t.enlistFor(aList, id, t.unit())
		time.Sleep(day / 48)
		t.list(aList)
	}
	if listed := t.list(aList); slices.Contains(listed, ids[0]) {
		t.Fatalf("of %d IDs that were to be listed for %v each, with half an hour between them, %d are listed", len(ids), t.unit(), len(listed))
	}
}

func testOverMost(t *storeTest) {
	ids := t.sessions(6)
	for i, id := range ids[:5] {
		var want []uuid.UUID
		if i >= 3 {
			want = ids[:i+1]
		}
		t.over(id, 3, want...)
	}
	t.lists(aList, ids[:5]...) // over the limit, and nobody was taken off

	t.over(ids[0], 3, ids[1], ids[2], ids[3], ids[4], ids[0])
	t.over(ids[0], 4, ids[1], ids[2], ids[3], ids[4], ids[0])
	t.over(ids[0], 5) // it is one of them, not one more
	t.over(ids[0], 0)
	t.over(ids[5], 0)
	t.over(ids[5], 1, ids[1], ids[2], ids[3], ids[4], ids[0], ids[5])
	t.end(aList, ids[1], ids[2], ids[3])
	t.over(ids[5], 3)
	t.over(ids[5], 2, ids[4], ids[0], ids[5])
}

// over enlists one ID and expects to be told the list want, or nothing.
func (t *storeTest) over(id uuid.UUID, most int, want ...uuid.UUID) {
	t.Helper()
	listed, _, err := t.users.Enlist(t.Context(), aList, id, long, most)
	if err != nil {
		t.Fatalf("Enlist: %v", err)
	}
	t.sameIDs(fmt.Sprintf("Enlist with most %d", most), listed, want)
}

func testNoList(t *storeTest) {
	t.lists(aList)
	cutOff, _, err := t.users.CutOff(t.Context(), aList)
	if err != nil || len(cutOff) != 0 {
		t.Fatalf("CutOff of a list that never was gave %d IDs (%v)", len(cutOff), err)
	}
	t.lists(aList)

	for _, id := range t.sessions(2) {
		t.enlist("emptied", id)
		t.lists("emptied", id)
		t.end("emptied", id)
		t.lists("emptied")
	}
}

func testListsApart(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	names := append(anyText(), "ANN", "annn", "an", "ann ", "ann\x00", "a", id.String(), string(id[:]), strings.Repeat("o", 257))
	shared, lists := t.sessions(1)[0], map[string][]uuid.UUID{}
	for i, name := range names {
		lists[name] = append(t.sessions(1+i%3), shared)
		t.enlist(name, lists[name]...)
	}
	for name, ids := range lists {
		t.lists(name, ids...)
	}
	for half := range 2 {
		for i, name := range names {
			if i%2 == half {
				t.end(name, without(lists[name], shared)...)
				lists[name] = []uuid.UUID{shared}
			}
		}
		for name, ids := range lists {
			t.lists(name, ids...)
		}
	}
	t.has(id, rec)
	t.delete(id, rec.Version)
	t.lists(id.String(), shared)
}
