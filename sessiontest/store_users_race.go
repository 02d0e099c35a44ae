package sessiontest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func testEnlistBesideCutOff(t *storeTest) {
	const logins = 50
	for round := range 10 {
		list, ids := fmt.Sprint("round ", round), t.sessions(logins)
		last := make([]session.Cut, logins)
		var cutOff []uuid.UUID
		var this session.Cut
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				time.Sleep(time.Duration(i%10) * time.Microsecond) // some before it, some after
				var err error
				if _, last[i], err = t.users.Enlist(t.Context(), list, id, long, 0); err != nil {
					t.Errorf("Enlist: %v", err)
				}
			})
		}
		wg.Go(func() {
			time.Sleep(5 * time.Microsecond)
			var err error
			if cutOff, this, err = t.users.CutOff(t.Context(), list); err != nil {
				t.Errorf("CutOff: %v", err)
			}
		})
		wg.Wait()
		if t.Failed() {
			return
		}
		for i, id := range ids {
			if last[i].ID != this.ID && !slices.Contains(cutOff, id) {
				t.Fatalf("an Enlist beside a CutOff was neither on its list nor told of it")
			}
		}
		if n := len(t.list(list)); n != logins {
			t.Fatalf("of %d Enlists beside a CutOff %d are listed", logins, n)
		}
	}
}

func testParallelEnlist(t *storeTest) {
	const logins, most = 20, 3
	for round := range 5 {
		list, ids := fmt.Sprint("round ", round), t.sessions(logins)
		listed := make([][]uuid.UUID, logins)
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				var err error
				if listed[i], _, err = t.users.Enlist(t.Context(), list, id, long, most); err != nil {
					t.Errorf("Enlist: %v", err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		order := t.list(list)
		if len(order) != logins || len(without(ids, order...)) != 0 {
			t.Fatalf("of %d parallel Enlists %d are listed", logins, len(order))
		}
		t.sawAll(ids, listed, order, most)
	}
}

// sawAll expects that each saw itself and nobody twice, in the order of the
// list; that most of them saw no list at most; and that one saw all.
func (t *storeTest) sawAll(ids []uuid.UUID, listed [][]uuid.UUID, order []uuid.UUID, most int) {
	t.Helper()
	none, all := 0, false
	for i, saw := range listed {
		if len(saw) == 0 {
			none++
			continue
		}
		if !slices.Contains(saw, ids[i]) {
			t.Fatalf("an Enlist was told a list without itself")
		}
		t.sameIDs("Enlist", saw, without(order, without(order, saw...)...))
		all = all || len(saw) == len(order)
	}
	if none > most || !all {
		t.Fatalf("of %d parallel Enlists with most %d, %d were told no list; that one was told all is %v", len(ids), most, none, all)
	}
}

func testEnlistBesideEnd(t *storeTest) {
	for round := range 10 {
		list, old, fresh := fmt.Sprint("round ", round), t.sessions(5), t.sessions(5)
		t.enlist(list, old...)
		var wg sync.WaitGroup
		for i := range old {
			wg.Go(func() {
				if err := t.users.End(t.Context(), list, old[i]); err != nil {
					t.Errorf("End: %v", err)
				}
			})
			wg.Go(func() {
				if _, _, err := t.users.Enlist(t.Context(), list, fresh[i], long, 0); err != nil {
					t.Errorf("Enlist: %v", err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		got := t.list(list)
		if len(got) != len(fresh) || len(without(got, fresh...)) != 0 {
			t.Fatalf("%d IDs were ended while %d others were enlisted: listed are %d of the ended and %d of the others",
				len(old), len(fresh), len(without(got, fresh...)), len(without(got, old...)))
		}
		t.reads(old, make([]session.Record, len(old)))
	}
}

func testEndBeatsWriters(t *storeTest) {
	t.beatsWriters(func(id uuid.UUID) error {
		_, _, err := t.users.Enlist(t.Context(), aList, id, long, 0)
		return errors.Join(err, t.users.End(t.Context(), aList, id))
	})
	t.lists(aList)

	for round := range 20 {
		rec := record("ann", "value")
		id := t.create(rec, long)
		t.enlist(aList, id)
		race(round,
			func() { _ = t.store.Touch(t.Context(), id, rec.Version, 2*long) },
			func() {
				if err := t.users.End(t.Context(), aList, id); err != nil {
					t.Errorf("End: %v", err)
				}
			})
		t.missing(id, rec.Version)
		t.lists(aList)
	}
}
