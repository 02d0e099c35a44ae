package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func testHandedOut(t *storeTest) {
	rec := record("ann", "the first value")
	given := bytes.Clone(rec.Data)
	id := t.create(rec, long)
	var loaded []session.Record
	for range 3 {
		got, err := t.store.Load(t.Context(), id)
		if err != nil {
			t.Fatalf("Load: %v", err)
		}
		loaded = append(loaded, got)
	}
	live, err := t.store.Save(t.Context(), id, version(), record("bob", "a refused value"), long)
	t.is("Save over another version", err, session.ErrConflict)
	if !isZero(live) {
		loaded = append(loaded, live)
	}

	// Records of the same length, where a buffer that is used again would go.
	prev := rec.Version
	for _, data := range []string{"another value..", "one more value.", strings.Repeat("long", 100)} {
		next := record("bob", data)
		t.save(id, prev, next, long)
		t.touch(id, next.Version, long)
		t.has(id, next)
		t.has(t.create(next, long), next)
		prev = next.Version
	}
	t.delete(id, prev)
	t.save(id, 0, record("bob", "the last value."), long)

	for _, got := range loaded {
		t.same("an earlier Load, looked at later,", got, session.Record{Version: rec.Version, Owner: "ann", Data: given})
	}
	if !bytes.Equal(rec.Data, given) {
		t.Fatalf("the bytes that Save was given now read %q", rec.Data)
	}
}

func testApart(t *storeTest) {
	ids := []uuid.UUID{uuid.New()}
	for bit := range 128 {
		id := ids[0]
		id[bit/8] ^= 1 << (bit % 8)
		ids = append(ids, id)
	}
	recs := make([]session.Record, len(ids))
	for i, id := range ids {
		recs[i] = record("ann", id.String())
		t.save(id, 0, recs[i], long)
	}
	for i, id := range ids {
		if i%2 == 0 {
			t.delete(id, recs[i].Version)
		}
	}
	for i, id := range ids {
		if i%2 == 0 {
			t.gone(id)
			continue
		}
		t.has(id, recs[i])
	}
}

// anyText is what applications call their users.
func anyText() []string {
	return []string{
		"ann", "Zoë", "用户", "👩‍💻", "مستخدم", "e\u0301", "a b", " a ", "a\tb\nc\r\n", "a:b", "a/b%2F*?", "{a}", `"a'\`, "null", "0", "-1",
		strings.Repeat("o", 255), strings.Repeat("o", 256), strings.Repeat("ö", 300),
	}
}

func testOwners(t *storeTest) {
	id, prev := uuid.New(), uint64(0)
	for _, owner := range append(anyText(), "") {
		rec := record(owner, "of "+owner)
		t.save(id, prev, rec, long)
		t.has(id, rec)
		prev = rec.Version
		rec = record(owner, "")
		t.save(id, prev, rec, long)
		t.has(id, rec)
		prev = rec.Version
	}
}

func testData(t *storeTest) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 256<<10)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	id, prev := uuid.New(), uint64(0)
	for _, data := range [][]byte{
		every, nil, {}, {0}, {0xff}, make([]byte, 64), large, []byte("small again"), bytes.Repeat([]byte("a"), len(large)),
		[]byte("null"), []byte("{}"), []byte("0"), []byte("\r\n$-1\r\n"), []byte("\xff\xfe not utf-8 \xc3"), []byte(" spaces "),
	} {
		rec := session.Record{Version: version(), Owner: "ann", Data: data}
		t.save(id, prev, rec, long)
		t.has(id, rec)
		t.touch(id, rec.Version, long)
		t.conflicts(id, version(), record("bob", "other"), rec)
		prev = rec.Version
	}
}

func testCancelled(t *storeTest) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-long))
	defer stop()
	for _, ctx := range []context.Context{cancelled, late} {
		t.ended(ctx)
	}
}

func (t *storeTest) ended(ctx context.Context) {
	t.Helper()
	rec, next := record("ann", "value"), record("ann", "other")
	id := t.create(rec, long)
	var got session.Record
	err := t.returns("Load", func() (err error) { got, err = t.store.Load(ctx, id); return err })
	if err == nil {
		t.same("Load", got, rec)
	}
	if t.returns("Touch", func() error { return t.store.Touch(ctx, id, rec.Version, 3*long) }) == nil {
		if left := t.has(id, rec); left <= 2*long {
			t.Fatalf("a Touch that reported success left the record %v", left)
		}
	}
	t.has(id, rec)

	err = t.returns("Save", func() (err error) { _, err = t.store.Save(ctx, id, rec.Version, next, long); return err })
	there, loadErr := t.store.Load(t.Context(), id)
	if loadErr != nil {
		t.Fatalf("Load after a Save that was cancelled: %v", loadErr)
	}
	if err == nil || there.Version == next.Version {
		t.same("Load after a Save that was cancelled", there, next)
	} else {
		t.same("Load after a Save that was cancelled", there, rec)
	}

	if t.returns("Delete", func() error { return t.store.Delete(ctx, id, there.Version) }) == nil {
		t.gone(id)
	}
	t.delete(id, 0)
	t.missing(id, there.Version)
}

// returns expects that a call whose context is over comes back, and with
// success or an error that claims nothing about the record. Its limit only
// turns a hang into a failure; in a bubble the call is waited for nevertheless,
// because one that is left behind would end the process and not the subtest.
func (t *storeTest) returns(what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) {
			t.Fatalf("%s with a context that is over claims: %v", what, err)
		}
		return err
	case <-time.After(20 * time.Second):
		if !t.opts.RealTime {
			<-done
		}
		t.Fatalf("%s with a context that is over hangs", what)
		return nil
	}
}
