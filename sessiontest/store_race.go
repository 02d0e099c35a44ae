package sessiontest

import (
	"errors"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func testCreate(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	t.has(id, rec)
	t.conflicts(id, 0, record("bob", "other"), rec)
	t.conflicts(id, 0, record("", ""), rec)
}

func testReplaceVersion(t *storeTest) {
	first, second := record("ann", "first"), record("ann", "second")
	id := t.create(first, long)
	t.conflicts(id, second.Version, record("bob", "other"), first)
	t.save(id, first.Version, second, long)
	t.has(id, second)
	t.conflicts(id, first.Version, record("bob", "other"), second)

	brief := record("ann", "brief")
	id, end := t.createBriefly(brief)
	_, err := t.store.Save(t.Context(), id, first.Version, second, long)
	t.inTime(end)
	t.is("Save over another version", err, session.ErrConflict)
	t.endsWithin(id, brief, end) // not stretched
}

func testReplaceAll(t *storeTest) {
	recs := []session.Record{record("", "anonymous"), record("ann", ""), record("bob", "other"), record("", "x")}
	id := t.create(recs[0], long)
	for i, next := range recs[1:] {
		t.save(id, recs[i].Version, next, 2*long)
		if left := t.has(id, next); left <= long {
			t.Fatalf("a Save for %v left the record %v", 2*long, left)
		}
	}
	last, brief := recs[len(recs)-1], record("ann", "brief")
	end := t.during(t.unit(), func() { t.save(id, last.Version, brief, t.unit()) })
	t.endsWithin(id, brief, end)

	id, end = t.createBriefly(brief)
	if _, err := t.store.Save(t.Context(), id, brief.Version, last, long); err != nil {
		t.inTime(end)
		t.Fatalf("Save: %v", err)
	}
	t.wait(end)
	t.has(id, last)
}

func testSaveMissing(t *storeTest) {
	t.missing(uuid.New(), version())
}

func testDeleted(t *storeTest) {
	for _, conditional := range []bool{true, false} {
		rec := record("ann", "value")
		id := t.create(rec, long)
		var named uint64
		if conditional {
			named = rec.Version
		}
		t.delete(id, named)
		t.missing(id, rec.Version)

		// The ID may be used again, and the former writer's version is stale.
		next := record("bob", "other")
		t.save(id, 0, next, long)
		t.conflicts(id, rec.Version, record("ann", "back again"), next)
		t.is("Touch of the former version", t.store.Touch(t.Context(), id, rec.Version, long), session.ErrConflict)
	}
}

func testCreateAfterEnd(t *storeTest) {
	rec := record("ann", "value")
	id, end := t.createBriefly(rec)
	t.wait(end)
	next := record("", "")
	t.save(id, 0, next, long)
	t.has(id, next)
	t.conflicts(id, rec.Version, record("ann", "back again"), next)
	time.Sleep(2 * t.unit())
	t.has(id, next)
}

func testDelete(t *storeTest) {
	first, second := record("ann", "first"), record("ann", "second")
	id := t.create(first, long)
	t.is("Delete of another version", t.store.Delete(t.Context(), id, version()), session.ErrConflict)
	t.has(id, first)
	t.save(id, first.Version, second, long)
	t.is("Delete of a former version", t.store.Delete(t.Context(), id, first.Version), session.ErrConflict)
	t.has(id, second)
	t.delete(id, second.Version)
	t.gone(id)

	id = t.create(first, long)
	t.delete(id, 0)
	t.gone(id)
}

func testDeleteMissing(t *storeTest) {
	absent, deleted := uuid.New(), t.create(record("ann", "value"), long)
	t.delete(deleted, 0)
	expired, end := t.createBriefly(record("ann", "value"))
	t.wait(end)
	for _, id := range []uuid.UUID{absent, deleted, expired} {
		t.delete(id, version())
		t.delete(id, 0)
		t.gone(id)
	}
}

func testCounter(t *storeTest) {
	const writers, each = 8, 25
	rec := record("", "0")
	id := t.create(rec, long)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if !t.increment(id) {
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := t.store.Load(t.Context(), id)
	if err != nil || string(got.Data) != strconv.Itoa(writers*each) {
		t.Fatalf("%d increments by %d writers ended at %q (%v)", writers*each, writers, got.Data, err)
	}
}

// increment adds one as the manager's Update does: on conflict again, upon what
// is there. It returns false after it reported an error.
func (t *storeTest) increment(id uuid.UUID) bool {
	live, err := t.store.Load(t.Context(), id)
	for err == nil {
		n, notNumber := strconv.Atoi(string(live.Data))
		if notNumber != nil {
			t.Errorf("the counter reads %v", show(live))
			return false
		}
		next := record("", strconv.Itoa(n+1))
		time.Sleep(time.Microsecond) // so that all have read before one writes
		live, err = t.store.Save(t.Context(), id, live.Version, next, long)
		if err == nil {
			return true
		}
		if !errors.Is(err, session.ErrConflict) {
			break
		}
		if live.Version == next.Version {
			t.Errorf("a Save that was sent once conflicts with itself (C5)")
			return false
		}
		if err = nil; isZero(live) {
			live, err = t.store.Load(t.Context(), id)
		}
	}
	t.Errorf("incrementing a live record: %v", err)
	return false
}

func testParallelCreate(t *storeTest) {
	for range 10 {
		id := uuid.New()
		var wins atomic.Int32
		var winner session.Record
		var wg sync.WaitGroup
		for range 8 {
			rec := record("ann", strconv.FormatUint(version(), 10))
			wg.Go(func() {
				_, err := t.store.Save(t.Context(), id, 0, rec, long)
				switch {
				case err == nil && wins.Add(1) == 1:
					winner = rec
				case err != nil && !errors.Is(err, session.ErrConflict):
					t.Errorf("Save: %v", err)
				}
			})
		}
		wg.Wait()
		if n := wins.Load(); n != 1 {
			t.Fatalf("%d of 8 creations of one record succeeded", n)
		}
		t.has(id, winner)
	}
}

// race runs both at once. Which starts first alternates, or on one processor it
// would always be the same.
func race(round int, a, b func()) {
	if round%2 == 0 {
		a, b = b, a
	}
	var wg sync.WaitGroup
	wg.Go(a)
	wg.Go(b)
	wg.Wait()
}

func testSaveOrDelete(t *storeTest) {
	for round := range 20 {
		rec, next := record("ann", "value"), record("ann", "other")
		id := t.create(rec, long)
		var saved, deleted error
		race(round,
			func() { _, saved = t.store.Save(t.Context(), id, rec.Version, next, long) },
			func() { deleted = t.store.Delete(t.Context(), id, rec.Version) })
		switch {
		case saved == nil && errors.Is(deleted, session.ErrConflict):
			t.has(id, next)
		case deleted == nil && errors.Is(saved, session.ErrNotFound):
			t.gone(id)
		default:
			t.Fatalf("Save returned %v, Delete of the same version %v", saved, deleted)
		}
	}
}

func testDeleteWins(t *storeTest) {
	t.beatsWriters(func(id uuid.UUID) error { return t.store.Delete(t.Context(), id, 0) })
}

// beatsWriters expects that remove deletes a record which four writers are busy
// with.
func (t *storeTest) beatsWriters(remove func(id uuid.UUID) error) {
	t.Helper()
	rec := record("ann", "value")
	id := t.create(rec, long)
	var busy, wg sync.WaitGroup
	var deleted atomic.Bool
	for range 4 {
		busy.Add(1)
		wg.Go(func() { t.keepSaving(id, rec.Version, &busy, &deleted) })
	}
	busy.Wait()
	err := remove(id)
	deleted.Store(true)
	wg.Wait()
	if err != nil {
		t.Fatalf("deleting a record that is busy: %v", err)
	}
	t.gone(id)
}

// keepSaving saves upon whatever version it saw last, until well after the
// record was deleted. Without the sleep virtual time would stand still, and a
// store that waits for something inside Delete would never return.
func (t *storeTest) keepSaving(id uuid.UUID, seen uint64, busy *sync.WaitGroup, deleted *atomic.Bool) {
	for before, after := 0, 0; after < 10; before++ {
		time.Sleep(time.Microsecond)
		if before == 10 {
			busy.Done()
		}
		late := deleted.Load()
		if late {
			after++
		}
		next := record("ann", "value")
		live, err := t.store.Save(t.Context(), id, seen, next, long)
		switch {
		case err == nil && late:
			t.Errorf("a Save that began after the record was deleted succeeded")
		case err == nil:
			seen = next.Version
		case errors.Is(err, session.ErrConflict) && !isZero(live):
			seen = live.Version
		case errors.Is(err, session.ErrConflict):
			seen = t.versionThere(id, seen)
		case !errors.Is(err, session.ErrNotFound):
			t.Errorf("Save: %v", err)
		}
	}
}

func (t *storeTest) versionThere(id uuid.UUID, otherwise uint64) uint64 {
	if rec, err := t.store.Load(t.Context(), id); err == nil {
		return rec.Version
	}
	return otherwise
}

func testSentOnce(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	for range 50 {
		next := record("ann", "value")
		live, err := t.store.Save(t.Context(), id, rec.Version, next, long)
		if errors.Is(err, session.ErrConflict) {
			t.Fatalf("a Save that nobody interfered with conflicts with %v; it sent version %d", show(live), next.Version)
		}
		if err != nil {
			t.Fatalf("Save: %v", err)
		}
		rec = next
	}
}

func testSentTwice(t *storeTest) {
	rec, next := record("ann", "value"), record("ann", "other")
	id := t.create(rec, long)
	t.conflicts(id, 0, rec, rec)
	t.save(id, rec.Version, next, long)
	t.conflicts(id, rec.Version, next, next)
	t.conflicts(id, rec.Version, next, next)

	// With another's commit on top it is that one which shows.
	top := record("bob", "on top")
	t.save(id, next.Version, top, long)
	t.conflicts(id, rec.Version, next, top)
}

// oddVersions are those that a store might take for something else.
func oddVersions() []uint64 {
	return []uint64{
		1, 2, 10, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
		1 << 53, 1<<53 + 1, // the same as a float
		1<<63 - 1, 1 << 63, 1<<63 + 1, math.MaxUint64 - 1, math.MaxUint64,
	}
}

func testVersions(t *storeTest) {
	versions := append(oddVersions(), version(), version())
	for i, a := range versions {
		b := versions[(i+1)%len(versions)]
		t.versionPair(a, b)
		t.versionPair(b, a)
	}
	for bit := range 64 {
		a := version()
		for a == 1<<bit { // 0 is no version
			a = version()
		}
		t.versionPair(a, a^1<<bit)
	}
}

func (t *storeTest) versionPair(a, b uint64) {
	t.Helper()
	ctx := t.Context()
	first := session.Record{Version: a, Owner: "ann", Data: []byte("first")}
	second := session.Record{Version: b, Owner: "ann", Data: []byte("second")}
	id := t.create(first, long)
	t.conflicts(id, b, second, first)
	t.is("Touch of another version", t.store.Touch(ctx, id, b, long), session.ErrConflict)
	t.is("Delete of another version", t.store.Delete(ctx, id, b), session.ErrConflict)
	t.has(id, first)

	t.save(id, a, second, long)
	t.is("Touch of the former version", t.store.Touch(ctx, id, a, long), session.ErrConflict)
	t.is("Delete of the former version", t.store.Delete(ctx, id, a), session.ErrConflict)
	t.touch(id, b, long)
	t.has(id, second)
	t.delete(id, b)
	t.gone(id)
}

func testNoLag(t *storeTest) {
	id := uuid.New()
	for range 20 {
		rec, next := record("", "anonymous"), record("ann", "logged in")
		t.save(id, 0, rec, long)
		t.has(id, rec)
		t.save(id, rec.Version, next, long)
		t.has(id, next)
		t.touch(id, next.Version, 3*long)
		if left := t.has(id, next); left <= 2*long {
			t.Fatalf("after a Touch for %v there is %v left", 3*long, left)
		}
		t.delete(id, 0)
		t.gone(id)
	}
}
