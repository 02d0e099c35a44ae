// Package sessiontest helps to test handlers that use sessions, and stores that
// keep them.
package sessiontest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// Options say what a store is like. The zero value is a store in this process
// that takes the time from package time and resolves one millisecond.
type Options struct {
	// RealTime is for a store whose clock is not this process's, such as a
	// server's. Its subtests run in parallel and wait for real ends. Without it
	// each subtest runs in a bubble of [synctest], where a day passes at once.
	RealTime bool

	// Resolution is the step of the store's clock: a ttl is rounded down to it,
	// and a record may outlive its end by as much. 0: one millisecond, which is
	// what the library's own stores have.
	Resolution time.Duration

	// MinTTL is the shortest ttl that the store takes. 0: the Resolution.
	MinTTL time.Duration
}

// TestStore proves that a store keeps the contract of [session.Store]: one
// subtest for each rule, with the rule's number in its name and the rule itself
// in the failure. A store that passes gives a [session.Manager] everything that
// it promises.
//
// If what open gives is a [session.UserStore], the subtests of UserStore prove
// that part of the contract too. Otherwise they are skipped as one, because a
// store may do without. A method that is misspelt makes it do without: have the
// compiler look.
//
//	var _ session.UserStore = (*MyStore)(nil)
//
// It calls open for a fresh, empty store at the start of each subtest, inside
// its bubble if it has one; open releases what it took in t.Cleanup. (A defer in
// the calling test would run too early: with RealTime the subtests outlast it.)
// An in-process store that has a method Len() int, the number of records in
// memory, is also shown to give back those that expired (E6).
//
//	func TestMyStore(t *testing.T) {
//		sessiontest.TestStore(t, func(t *testing.T) session.Store {
//			return new(MyStore)
//		}, sessiontest.Options{})
//	}
func TestStore(t *testing.T, open func(t *testing.T) session.Store, opts Options) {
	if opts.Resolution == 0 {
		opts.Resolution = time.Millisecond
	}
	if opts.MinTTL == 0 {
		opts.MinTTL = opts.Resolution
	}
	runCases(t, storeCases(), open, opts)
	t.Run("UserStore", func(t *testing.T) {
		if opts.RealTime {
			t.Parallel()
		}
		if !keepsLists(t, open, opts) {
			t.Skip("this store is no session.UserStore, which is no fault: Manager.Sessions, Manager.RevokeUser and Config.MaxPerUser need one, the rest does not")
		}
		runCases(t, userCases(), open, opts)
	})
}

func runCases(t *testing.T, cases []storeCase, open func(t *testing.T) session.Store, opts Options) {
	for _, c := range cases {
		run := func(t *testing.T) {
			st := &storeTest{T: t, store: open(t), opts: opts, why: c.why}
			st.users, _ = st.store.(session.UserStore)
			c.run(st)
		}
		t.Run(c.name, func(t *testing.T) {
			if opts.RealTime {
				t.Parallel()
				run(t)
				return
			}
			synctest.Test(t, func(t *testing.T) {
				// A bubble's clock starts on a whole second, which would hide
				// a store that rounds the end instead of the ttl.
				time.Sleep(opts.Resolution / 3)
				run(t)
			})
		})
	}
}

// keepsLists opens a store to see what it is, where any other would be opened.
func keepsLists(t *testing.T, open func(t *testing.T) session.Store, opts Options) (ok bool) {
	look := func(t *testing.T) { _, ok = open(t).(session.UserStore) }
	if opts.RealTime {
		look(t)
	} else {
		synctest.Test(t, look)
	}
	return ok
}

type storeCase struct {
	name string // the rule's number, if it has one, and what to look for
	why  string // the rule, for whoever reads the failure
	run  func(*storeTest)
}

// A storeTest is one subtest: its store, and the words for what it expects.
type storeTest struct {
	*testing.T
	store session.Store
	users session.UserStore // store again, or nil if it keeps no lists
	opts  Options
	why   string
}

// Errorf adds the rule to the message, as Fatalf does.
func (t *storeTest) Errorf(format string, args ...any) {
	t.T.Helper()
	t.T.Errorf("%s\n\tThe rule: %s", fmt.Sprintf(format, args...), t.why)
}

func (t *storeTest) Fatalf(format string, args ...any) {
	t.T.Helper()
	t.T.Fatalf("%s\n\tThe rule: %s", fmt.Sprintf(format, args...), t.why)
}

// long is a ttl that no subtest lives to see run out, except in virtual time.
const long = time.Hour

// unit is a ttl whose end a subtest waits for: a multiple of the resolution,
// and not of a second, so that a store which rounds to seconds is seen.
func (t *storeTest) unit() time.Duration {
	least := 1503 * t.opts.Resolution
	if t.opts.RealTime {
		least = max(80*time.Millisecond, 4*t.opts.Resolution)
	}
	least = max(least, 2*t.opts.MinTTL)
	return (least + t.opts.Resolution - 1).Truncate(t.opts.Resolution)
}

// version returns what a writer chooses for a write.
func version() uint64 {
	for {
		if v := rand.Uint64(); v != 0 {
			return v
		}
	}
}

func record(owner, data string) session.Record {
	return session.Record{Version: version(), Owner: owner, Data: []byte(data)}
}

func (t *storeTest) create(rec session.Record, ttl time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.New()
	t.save(id, 0, rec, ttl)
	return id
}

// save is a save that must succeed.
func (t *storeTest) save(id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) {
	t.Helper()
	live, err := t.store.Save(t.Context(), id, prev, next, ttl)
	if err != nil {
		t.Fatalf("Save over version %d: %v", prev, err)
	}
	if !isZero(live) {
		t.Fatalf("a Save that succeeded returned a record: %v", show(live))
	}
}

func (t *storeTest) touch(id uuid.UUID, version uint64, ttl time.Duration) {
	t.Helper()
	if err := t.store.Touch(t.Context(), id, version, ttl); err != nil {
		t.Fatalf("Touch of the live version: %v", err)
	}
}

func (t *storeTest) delete(id uuid.UUID, version uint64) {
	t.Helper()
	if err := t.store.Delete(t.Context(), id, version); err != nil {
		t.Fatalf("Delete of version %d: %v", version, err)
	}
}

// has expects that the live record is want, with time left. It returns how much.
func (t *storeTest) has(id uuid.UUID, want session.Record) time.Duration {
	t.Helper()
	got, err := t.store.Load(t.Context(), id)
	if err != nil {
		t.Fatalf("Load of a live record: %v", err)
	}
	t.same("Load", got, want)
	return got.TTL
}

func (t *storeTest) same(what string, got, want session.Record) {
	t.Helper()
	if got.Version != want.Version || got.Owner != want.Owner || !bytes.Equal(got.Data, want.Data) {
		t.Fatalf("%s gave %v, want %v", what, show(got), show(want))
	}
	if got.TTL <= 0 {
		t.Fatalf("%s gave a record with a TTL of %v: a live record has time left", what, got.TTL)
	}
}

func (t *storeTest) gone(id uuid.UUID) {
	t.Helper()
	rec, err := t.store.Load(t.Context(), id)
	if err == nil {
		t.Fatalf("Load gave %v, want ErrNotFound", show(rec))
	}
	t.is("Load", err, session.ErrNotFound)
}

// is expects one of the two errors that a store tells apart.
func (t *storeTest) is(what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s returned %v, want %v", what, err, want)
	}
}

// conflicts expects a Save to be refused, with the live record or none, and to
// change nothing.
func (t *storeTest) conflicts(id uuid.UUID, prev uint64, next session.Record, there session.Record) {
	t.Helper()
	live, err := t.store.Save(t.Context(), id, prev, next, 2*long)
	t.is(fmt.Sprintf("Save over version %d while version %d is live", prev, there.Version), err, session.ErrConflict)
	if !isZero(live) {
		t.same("Save, on conflict,", live, there)
	}
	t.has(id, there)
}

// missing expects that neither a save nor a touch finds a record, and that they
// leave none behind.
func (t *storeTest) missing(id uuid.UUID, version uint64) {
	t.Helper()
	t.gone(id)
	t.is("Touch", t.store.Touch(t.Context(), id, version, long), session.ErrNotFound)
	live, err := t.store.Save(t.Context(), id, version, record("ann", "back again"), long)
	t.is("Save over a version", err, session.ErrNotFound)
	if !isZero(live) {
		t.Fatalf("Save reported ErrNotFound with a record: %v", show(live))
	}
	t.gone(id)
}

func isZero(rec session.Record) bool {
	return rec.Version == 0 && rec.Owner == "" && len(rec.Data) == 0 && rec.TTL == 0
}

// show keeps large data out of messages.
func show(rec session.Record) string {
	data := fmt.Sprintf("%q", rec.Data)
	if len(data) > 80 {
		data = fmt.Sprintf("%s... (%d bytes)", data[:80], len(rec.Data))
	}
	return fmt.Sprintf("{version %d, owner %q, data %s, ttl %v}", rec.Version, rec.Owner, data, rec.TTL)
}

// A span is the time within which a record ends: not before from, because the
// store acted after the call began; and at until at the latest, because it acted
// before the call returned.
type span struct{ from, until time.Time }

func (t *storeTest) during(ttl time.Duration, call func()) span {
	t.Helper()
	begin := time.Now()
	call()
	return span{begin.Add(ttl), time.Now().Add(ttl + t.opts.Resolution)}
}

// createBriefly creates a record that ends after one unit.
func (t *storeTest) createBriefly(rec session.Record) (uuid.UUID, span) {
	t.Helper()
	var id uuid.UUID
	end := t.during(t.unit(), func() { id = t.create(rec, t.unit()) })
	return id, end
}

// inTime gives up on a subtest that a slow machine made meaningless: one in which
// a record with a short ttl was to be used before its end.
func (t *storeTest) inTime(end span) {
	t.Helper()
	if t.opts.RealTime && !time.Now().Before(end.from) {
		t.Skip("this machine was too slow to use a record before its end")
	}
}

// wait returns when whatever ends within the span has ended.
func (t *storeTest) wait(end span) {
	for time.Now().Before(end.until) {
		time.Sleep(time.Until(end.until))
	}
}

// endsWithin watches a record to its end.
func (t *storeTest) endsWithin(id uuid.UUID, rec session.Record, end span) {
	t.Helper()
	for _, probe := range []time.Time{
		end.from.Add(-t.unit() / 2), end.from.Add(-t.unit() / 8), end.from.Add(-1), end.until,
	} {
		time.Sleep(time.Until(probe))
		begin := time.Now()
		got, err := t.store.Load(t.Context(), id)
		switch {
		case errors.Is(err, session.ErrNotFound):
			if early := time.Until(end.from); early > 0 {
				t.Fatalf("the record was gone %v before its end", early)
			}
			return
		case err != nil:
			t.Fatalf("Load: %v", err)
		case !begin.Before(end.until):
			t.Fatalf("the record was there %v after its end: %v", begin.Sub(end.until), show(got))
		}
		t.same("Load", got, rec)
	}
	t.Fatalf("the record was there at its end")
}
