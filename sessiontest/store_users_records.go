package sessiontest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func testEnd(t *storeTest) {
	ids := newIDs(6)
	recs := make([]session.Record, len(ids))
	for i, id := range ids {
		recs[i] = record("ann", id.String())
		t.save(id, 0, recs[i], long)
	}
	t.enlist(aList, ids...)
	t.enlist("another", ids...)
	// Versions that were never seen by whoever enlisted, and an end as well.
	first := recs[1].Version
	recs[1] = record("", "saved again")
	t.save(ids[1], first, recs[1], 2*long)
	t.touch(ids[2], recs[2].Version, 3*long)

	t.end(aList, ids[1], ids[4])
	recs[1], recs[4] = session.Record{}, session.Record{}
	t.reads(ids, recs)
	t.lists(aList, ids[0], ids[2], ids[3], ids[5])
	t.sameIDs("List", without(t.list("another"), ids[1], ids[4]), []uuid.UUID{ids[0], ids[2], ids[3], ids[5]})

	t.end(aList, ids[2])
	recs[2] = session.Record{}
	t.reads(ids, recs)
	t.lists(aList, ids[0], ids[3], ids[5])
}

func testEndMissing(t *storeTest) {
	other := t.create(record("ann", "value"), long)
	t.enlist(aList, other)
	unlisted := t.create(record("ann", "value"), long)
	noRecord, deleted, ended := uuid.New(), uuid.New(), t.create(record("ann", "value"), long)
	t.save(deleted, 0, record("ann", "value"), long)
	expired, end := t.createBriefly(record("ann", "value"))
	t.enlist(aList, noRecord, deleted, ended, expired)
	t.delete(deleted, 0)
	t.wait(end)

	t.end(aList, ended, uuid.New(), ended)
	all := []uuid.UUID{unlisted, noRecord, deleted, ended, expired}
	for range 2 {
		t.end(aList, all...)
		for _, id := range all {
			t.gone(id)
			t.end(aList, id)
			t.end("a list that never was", id)
		}
		t.lists(aList, other)
	}
	if t.versions(other)[0] == 0 {
		t.Fatalf("End deleted a record that it was not given")
	}
}

func testEndOrder(t *storeTest) {
	for range 5 {
		ids := newIDs(10)
		for _, id := range ids {
			t.save(id, 0, record("ann", "value"), long)
		}
		t.enlist(aList, ids...)
		var ended atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			defer ended.Store(true)
			for _, some := range [][]uuid.UUID{ids[:1], ids[1:]} {
				if err := t.users.End(t.Context(), aList, some...); err != nil {
					t.Errorf("End: %v", err)
				}
			}
		})
		for over := false; !over; time.Sleep(time.Microsecond) {
			over = ended.Load()
			left, err := t.users.List(t.Context(), aList)
			if err != nil {
				t.Errorf("List: %v", err)
				break
			}
			for _, id := range without(ids, left...) { // these have to be gone by now
				if rec, err := t.store.Load(t.Context(), id); err == nil {
					t.Errorf("an ID is off the list and has a record: %v", show(rec))
					over = true
				}
			}
		}
		wg.Wait()
	}
}

func testEndedForGood(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	t.enlist(aList, id)
	t.end(aList, id)
	t.missing(id, rec.Version)
	t.missing(id, version())
	t.lists(aList)

	// The ID may be used again, and the former writer's version is stale.
	next := record("bob", "other")
	t.save(id, 0, next, long)
	t.conflicts(id, rec.Version, record("ann", "back again"), next)
	t.end(aList, id) // not listed, deleted all the same
	t.missing(id, next.Version)
}

func testLoadAll(t *storeTest) {
	large := bytes.Repeat([]byte("value"), 50<<10)
	var ids []uuid.UUID
	var want []session.Record
	add := func(rec session.Record) {
		ids, want = append(ids, t.create(rec, long)), append(want, rec)
		ids, want = append(ids, uuid.New()), append(want, session.Record{})
	}
	begin := time.Now()
	for i, owner := range append(anyText(), "") {
		add(record(owner, strings.Repeat("v", i)))
	}
	for _, data := range [][]byte{nil, {0}, {0xff}, large, []byte("\r\n$-1\r\n"), []byte("null"), []byte("\xff\xfe")} {
		add(session.Record{Version: version(), Data: data})
	}
	// In an order that is nobody's, and several more than once.
	for i := range ids {
		if j := (i * 7) % len(ids); i%3 == 0 {
			ids, want = append(ids, ids[j], ids[j]), append(want, want[j], want[j])
		}
	}
	ended := t.create(record("ann", "value"), long)
	t.end(aList, ended)
	ids, want = append(ids, ended), append(want, session.Record{})

	asked := slices.Clone(ids)
	for range 2 {
		for _, got := range t.reads(ids, want) {
			if got.Version != 0 {
				t.left(got.TTL, long, begin)
			}
		}
		t.sameIDs("LoadAll and Versions, of the IDs that they were given,", ids, asked)
		slices.Reverse(ids)
		slices.Reverse(asked)
		slices.Reverse(want)
	}
}

func testVersionsOf(t *storeTest) {
	var ids []uuid.UUID
	var want []uint64
	for i, v := range oddVersions() {
		rec := record("ann", strings.Repeat("v", 100*i))
		rec.Version = v
		ids, want = append(ids, t.create(rec, long), uuid.New()), append(want, v, 0)
	}
	n := len(ids)
	for i := range n {
		j := (i * 5) % n
		ids, want = append(ids, ids[j], ids[j]), append(want, want[j], want[j])
	}
	if got := t.versions(ids...); !slices.Equal(got, want) {
		t.Fatalf("Versions gave %d, want %d", got, want)
	}
	// One at a time: a record that the store reads only in part is another code
	// path for what is short.
	for i, id := range ids[:n] {
		if got := t.versions(id)[0]; got != want[i] {
			t.Fatalf("Versions gave %d, want %d", got, want[i])
		}
	}
}

func testEndedReads(t *storeTest) {
	rec, lasting := record("ann", "value"), record("ann", "lasting")
	brief, end := t.createBriefly(rec)
	ids := []uuid.UUID{brief, t.create(lasting, long), brief}
	for _, before := range []time.Duration{t.unit() / 2, t.unit() / 8, 1} {
		time.Sleep(time.Until(end.from.Add(-before)))
		recs, versions := t.loadAll(ids...), t.versions(ids...)
		if early := time.Until(end.from); early > 0 && (isZero(recs[0]) || versions[0] == 0) {
			t.Fatalf("the record was gone %v before its end", early)
		}
	}
	t.wait(end)
	for range 2 {
		t.reads(ids, []session.Record{{}, lasting, {}})
		time.Sleep(t.unit())
	}
}

func testReadsDoNotLag(t *storeTest) {
	id := uuid.New()
	sees := func(rec session.Record) session.Record {
		t.Helper()
		return t.reads([]uuid.UUID{id}, []session.Record{rec})[0]
	}
	for i := range 20 {
		rec, next := record("", "anonymous"), record("ann", "logged in")
		sees(session.Record{})
		t.save(id, 0, rec, long)
		sees(rec)
		t.save(id, rec.Version, next, long)
		sees(next)
		t.touch(id, next.Version, 3*long)
		if left := sees(next).TTL; left <= 2*long {
			t.Fatalf("after a Touch for %v there is %v left", 3*long, left)
		}
		if i%2 == 0 {
			t.delete(id, next.Version)
		} else {
			t.end(aList, id)
		}
		sees(session.Record{})
	}
}

func testManyIDs(t *storeTest) {
	const n = 1500
	ids, recs := newIDs(n), make([]session.Record, n)
	for i, id := range ids {
		recs[i] = record("ann", id.String())
		t.save(id, 0, recs[i], 2*long)
		t.enlist(aList, id)
	}
	t.lists(aList, ids...)
	t.reads(append(newIDs(n), ids...), append(make([]session.Record, n), recs...))
	got, this, err := t.users.CutOff(t.Context(), aList, ids[:n-1]...)
	if err != nil {
		t.Fatalf("CutOff: %v", err)
	}
	t.sameIDs("CutOff", got, ids)
	t.untold(aList, ids[n-2])
	listed, last, err := t.users.Enlist(t.Context(), aList, ids[n-1], long, n-1)
	if err != nil || last.ID != this.ID {
		t.Fatalf("Enlist: %v, last is %+v, want that of %+v", err, last, this)
	}
	t.sameIDs("Enlist", listed, ids) // the last two were enlisted again, in this order

	t.end(aList, ids[:n-1]...)
	t.lists(aList, ids[n-1])
	clear(recs[:n-1])
	t.reads(ids, recs)
}

func testNoIDs(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	t.enlist(aList, id)
	for _, none := range [][]uuid.UUID{nil, {}} {
		t.loadAll(none...)
		t.versions(none...)
		t.end(aList, none...)
		t.end("a list that never was", none...)
	}
	t.lists(aList, id)
	t.has(id, rec)
}

func testUsersHandedOut(t *storeTest) {
	rec := record("ann", "the first value")
	given := bytes.Clone(rec.Data)
	ids := append([]uuid.UUID{t.create(rec, long)}, t.sessions(3)...)
	t.enlist(aList, ids...)
	order := slices.Clone(ids)

	loaded := append(t.loadAll(ids[0], ids[0]), t.loadAll(ids[0])...)
	lists := [][]uuid.UUID{t.list(aList)}
	except := []uuid.UUID{ids[2]}
	cutOff, _, err := t.users.CutOff(t.Context(), aList, except...)
	if err != nil {
		t.Fatalf("CutOff: %v", err)
	}
	listed, _, err := t.users.Enlist(t.Context(), aList, ids[3], long, 1)
	if err != nil {
		t.Fatalf("Enlist: %v", err)
	}
	lists = append(lists, cutOff, listed)

	// Others on the list and in the store, where a buffer that is used again
	// would go.
	except[0] = uuid.New()
	t.untold(aList, ids[2])
	t.end(aList, order[1])
	t.enlist(aList, append(newIDs(3), order[0], order[3])...)
	next := record("bob", "another value..")
	t.save(order[0], rec.Version, next, long)
	t.loadAll(order[0], t.create(record("bob", "one more value."), long), order[0])
	t.end(aList, order...)
	t.enlist(aList, newIDs(4)...)

	for _, got := range lists {
		t.sameIDs("an earlier call, looked at later,", got, order)
	}
	for _, got := range loaded {
		t.same("an earlier LoadAll, looked at later,", got, session.Record{Version: rec.Version, Owner: "ann", Data: given})
	}
}

func testUsersCancelled(t *storeTest) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-long))
	defer stop()
	for _, ctx := range []context.Context{cancelled, late} {
		t.readsEnded(ctx)
		t.listEnded(ctx)
	}
}

// readsEnded: an answer is right, or there is none.
func (t *storeTest) readsEnded(ctx context.Context) {
	t.Helper()
	rec := record("ann", "value")
	id := t.create(rec, long)
	t.enlist("read", id)
	var recs []session.Record
	var versions []uint64
	var ids []uuid.UUID
	if t.returns("LoadAll", func() (err error) { recs, err = t.users.LoadAll(ctx, []uuid.UUID{id}); return err }) == nil {
		if len(recs) != 1 {
			t.Fatalf("LoadAll gave %d records for one", len(recs))
		}
		t.same("LoadAll", recs[0], rec)
	}
	if t.returns("Versions", func() (err error) { versions, err = t.users.Versions(ctx, []uuid.UUID{id}); return err }) == nil {
		if !slices.Equal(versions, []uint64{rec.Version}) {
			t.Fatalf("Versions gave %d, want %d", versions, rec.Version)
		}
	}
	if t.returns("List", func() (err error) { ids, err = t.users.List(ctx, "read"); return err }) == nil {
		t.sameIDs("List", ids, []uuid.UUID{id})
	}
	t.end("read", id)
}

// listEnded: a change took effect as a whole, or not, and success means that it
// did.
func (t *storeTest) listEnded(ctx context.Context) {
	t.Helper()
	rec := record("ann", "value")
	id, next := t.create(rec, long), t.sessions(1)[0]
	list := "ended " + id.String()
	t.enlist(list, id)
	err := t.returns("Enlist", func() error { _, _, err := t.users.Enlist(ctx, list, next, long, 0); return err })
	want := []uuid.UUID{id}
	if err == nil || len(t.list(list)) != 1 {
		want = append(want, next)
	}
	t.lists(list, want...)

	var ids []uuid.UUID
	var this session.Cut
	if t.returns("CutOff", func() (err error) { ids, this, err = t.users.CutOff(ctx, list); return err }) == nil {
		t.sameIDs("CutOff", ids, want)
		t.told(list, next, cut{id: this.ID, returned: time.Now()}) // whenever it was
	}
	t.has(id, rec)

	err = t.returns("End", func() error { return t.users.End(ctx, list, id) })
	if err == nil || !slices.Contains(t.list(list), id) {
		t.gone(id)
		t.sameIDs("List", without(t.list(list), next), nil)
	}
	t.end(list, id)
	t.missing(id, rec.Version)
}
