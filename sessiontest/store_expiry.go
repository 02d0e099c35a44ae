package sessiontest

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func testLifespan(t *storeTest) {
	rec := record("ann", "value")
	id, end := t.createBriefly(rec)
	t.endsWithin(id, rec, end)
}

func testEnded(t *storeTest) {
	rec := record("ann", "value")
	id, end := t.createBriefly(rec)
	t.wait(end)
	t.missing(id, rec.Version)
	time.Sleep(2 * t.unit())
	t.missing(id, rec.Version)
}

func testTTL(t *storeTest) {
	rec := record("ann", "value")
	begin := time.Now()
	id := t.create(rec, long)
	t.left(t.has(id, rec), long, begin)

	time.Sleep(t.unit() / 4)
	t.left(t.has(id, rec), long, begin)
	live, err := t.store.Save(t.Context(), id, version(), record("bob", "other"), 2*long)
	t.is("Save over another version", err, session.ErrConflict)
	if !isZero(live) {
		t.left(live.TTL, long, begin)
	}

	begin = time.Now()
	t.touch(id, rec.Version, 3*long)
	t.left(t.has(id, rec), 3*long, begin)
}

// left expects what can be left of a ttl that counts from a call begun at begin.
func (t *storeTest) left(got, ttl time.Duration, begin time.Time) {
	t.Helper()
	least := ttl - time.Since(begin) - t.opts.Resolution
	if got < least || got > ttl {
		t.Fatalf("TTL is %v, want %v to %v", got, least, ttl)
	}
}

func testRoundedDown(t *storeTest) {
	rec, ttl := record("ann", "value"), t.unit()+t.opts.Resolution-1
	var id uuid.UUID
	end := t.during(t.unit(), func() { id = t.create(rec, ttl) })
	got, err := t.store.Load(t.Context(), id)
	t.inTime(end)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if got.TTL > t.unit() {
		t.Fatalf("of a ttl of %v there is %v left, want %v at most", ttl, got.TTL, t.unit())
	}
	t.endsWithin(id, rec, end)
}

func testNoTTL(t *storeTest) {
	for _, ttl := range []time.Duration{t.opts.MinTTL - 1, t.opts.Resolution - 1, 0, -1, -t.opts.Resolution, -long, -1 << 63} {
		id, rec := uuid.New(), record("ann", "value")
		_, err := t.store.Save(t.Context(), id, 0, rec, ttl)
		t.refused("Save of a new record", ttl, err)
		t.gone(id)

		t.save(id, 0, rec, long)
		_, err = t.store.Save(t.Context(), id, rec.Version, record("bob", "other"), ttl)
		t.refused("Save over a record", ttl, err)
		t.has(id, rec)

		t.refused("Touch", ttl, t.store.Touch(t.Context(), id, rec.Version, ttl))
		if left := t.has(id, rec); left > long {
			t.Fatalf("a refused Touch left the record %v", left)
		}
	}
}

func (t *storeTest) refused(what string, ttl time.Duration, err error) {
	t.Helper()
	if err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) {
		t.Fatalf("%s with a ttl of %v returned %v", what, ttl, err)
	}
}

func testExtremeTTL(t *storeTest) {
	rec, id := record("ann", "value"), uuid.New()
	end := t.during(t.opts.MinTTL, func() { t.save(id, 0, rec, t.opts.MinTTL) })
	t.wait(end)
	t.gone(id)

	// Nobody sleeps for it: a sweep every ten seconds makes 400 days long in
	// virtual time, too.
	const most = 400 * 24 * time.Hour
	begin := time.Now()
	id = t.create(rec, most)
	t.left(t.has(id, rec), most, begin)
}

func testTouchLater(t *storeTest) {
	rec := record("ann", "value")
	id, first := t.createBriefly(rec)
	if err := t.store.Touch(t.Context(), id, rec.Version, long); err != nil {
		t.inTime(first)
		t.Fatalf("Touch: %v", err)
	}
	t.wait(first)
	t.has(id, rec)
	// In virtual time the new end comes, too.
	if !t.opts.RealTime {
		end := t.during(long, func() { t.touch(id, rec.Version, long) })
		t.endsWithin(id, rec, end)
	}
}

func testTouchNearer(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	end := t.during(t.unit(), func() { t.touch(id, rec.Version, t.unit()) })
	t.endsWithin(id, rec, end)
	t.missing(id, rec.Version)
}

func testTouchOnlyEnd(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	for range 3 {
		t.touch(id, rec.Version, 2*long)
		t.has(id, rec)
	}
	next := record("bob", "other")
	t.save(id, rec.Version, next, long)
	t.touch(id, next.Version, 2*long)
	t.has(id, next)
}

func testTouchStale(t *storeTest) {
	rec := record("ann", "value")
	id := t.create(rec, long)
	end := t.during(t.unit(), func() {
		for _, other := range []uint64{version(), rec.Version - 1, rec.Version + 1} {
			if other != 0 {
				t.is("Touch of another version", t.store.Touch(t.Context(), id, other, t.unit()), session.ErrConflict)
			}
		}
	})
	t.wait(end)
	t.has(id, rec) // not shortened

	id, end = t.createBriefly(rec)
	err := t.store.Touch(t.Context(), id, version(), long)
	t.inTime(end)
	t.is("Touch of another version", err, session.ErrConflict)
	t.endsWithin(id, rec, end) // not stretched
}

func testTouchMissing(t *storeTest) {
	id := uuid.New()
	t.is("Touch", t.store.Touch(t.Context(), id, version(), long), session.ErrNotFound)
	t.gone(id)
	rec := record("ann", "value")
	t.save(id, 0, rec, long)
	t.delete(id, rec.Version)
	t.is("Touch of a deleted record", t.store.Touch(t.Context(), id, rec.Version, long), session.ErrNotFound)
	t.gone(id)
}

func testTouchRaces(t *storeTest) {
	for round := range 20 {
		rec, next := record("ann", "value"), record("bob", "other")
		id := t.create(rec, long)
		var touched, saved, deleted error
		race(round,
			func() { touched = t.store.Touch(t.Context(), id, rec.Version, 2*long) },
			func() { _, saved = t.store.Save(t.Context(), id, rec.Version, next, long) })
		if saved != nil || (touched != nil && !errors.Is(touched, session.ErrConflict)) {
			t.Fatalf("Save returned %v, a Touch beside it %v", saved, touched)
		}
		t.has(id, next)

		race(round,
			func() { touched = t.store.Touch(t.Context(), id, next.Version, 2*long) },
			func() { deleted = t.store.Delete(t.Context(), id, 0) })
		if deleted != nil || (touched != nil && !errors.Is(touched, session.ErrNotFound)) {
			t.Fatalf("Delete returned %v, a Touch beside it %v", deleted, touched)
		}
		t.gone(id)
	}
}

func testGivenBack(t *storeTest) {
	counter, ok := t.store.(interface{ Len() int })
	if t.opts.RealTime || !ok {
		t.Skip("only a store in this process that has a method Len() int can be asked")
	}
	for range 100 {
		t.create(record("ann", "value"), t.unit())
		rec := record("ann", "value")
		t.touch(t.create(rec, 100*long), rec.Version, t.unit())
		t.save(t.create(rec, 100*long), rec.Version, record("bob", "other"), t.unit())
	}
	rec := record("ann", "value")
	id := t.create(rec, 100*long)
	time.Sleep(long)
	synctest.Wait()
	if n := counter.Len(); n != 1 {
		t.Fatalf("%d records are in memory an hour after all but one expired", n)
	}
	t.has(id, rec)
}
