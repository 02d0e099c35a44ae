package migrate

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A walk does at random to a few sessions what servers do, by servers of two
// adjacent phases, some of which die in the middle, and lets time pass. A single
// MemoryStore to which the same is done says the same: which version, whose, and
// how long it has left.
type walk struct {
	*testing.T
	rng            *rand.Rand
	old, new, like *session.MemoryStore
	pair           [2]Phase
	ids            []uuid.UUID
	seen           map[uuid.UUID]uint64
	next           uint64
	deaths         int
}

func (w *walk) phase() Phase { return w.pair[w.rng.IntN(2)] }

func (w *walk) record() session.Record {
	w.next++
	return session.Record{Version: w.next, Owner: [...]string{"", "ann"}[w.rng.IntN(2)], Data: []byte{byte(w.next)}}
}

// step does one thing, by a server that dies at its nth call.
func (w *walk) step() {
	id := w.ids[w.rng.IntN(len(w.ids))]
	version, ttl := w.seen[id], time.Duration(1+w.rng.IntN(60_000))*time.Millisecond
	if w.rng.IntN(8) == 0 {
		version = w.rng.Uint64N(w.next + 1)
	}
	m := &mishap{nth: 1 + w.rng.IntN(20), fate: lost + fate(w.rng.IntN(2))}
	s := session.Store(at(w, frail{w.old, m.pass}, frail{w.new, m.pass}, w.phase()))
	var do func(session.Store) error
	switch w.rng.IntN(8) {
	case 0, 1, 2, 3:
		if version == 0 {
			if _, err := w.like.Load(w.Context(), id); !errors.Is(err, session.ErrNotFound) {
				return // an ID is created once
			}
			id = uuid.New()
			w.ids[w.rng.IntN(len(w.ids))] = id
		}
		rec := w.record()
		do = func(s session.Store) error {
			_, err := s.Save(w.Context(), id, version, rec, ttl)
			return err
		}
	case 4, 5:
		do = func(s session.Store) error { return s.Touch(w.Context(), id, version, ttl) }
	case 6:
		do = func(s session.Store) error { return s.Delete(w.Context(), id, version) }
	default:
		time.Sleep(time.Duration(w.rng.IntN(20_000)) * time.Millisecond)
		return
	}
	err := do(s)
	if errors.Is(err, errLost) {
		w.deaths++
		w.settle(id, do)
		return
	}
	if want := do(w.like); !errors.Is(err, want) {
		w.Fatalf("a server says %v, one store %v", err, want)
	}
}

// settle does it to the one store too, if it happened.
func (w *walk) settle(id uuid.UUID, do func(session.Store) error) {
	if same(w.is(w.like, id), w.is(at(w, w.old, w.new, w.phase()), id)) {
		return
	}
	if err := do(w.like); err != nil {
		w.Fatalf("a server that died did what one store refuses: %v", err)
	}
}

func (w *walk) is(s session.Store, id uuid.UUID) session.Record {
	w.Helper()
	rec, err := s.Load(w.Context(), id)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		w.Fatal(err)
	}
	return rec
}

func same(a, b session.Record) bool {
	return a.Version == b.Version && a.Owner == b.Owner && string(a.Data) == string(b.Data) && a.TTL == b.TTL
}

func (w *walk) compare() {
	w.Helper()
	for _, id := range w.ids {
		want := w.is(w.like, id)
		w.seen[id] = want.Version
		for _, phase := range w.pair {
			if got := w.is(at(w, w.old, w.new, phase), id); !same(got, want) {
				w.Fatalf("%v says %+v, one store %+v", phase, got, want)
			}
		}
	}
}

func TestARandomWalkOfTwoPhasesIsThatOfOneStore(t *testing.T) {
	deaths := 0
	for _, pair := range [][2]Phase{{plainOld, WriteOld}, {WriteOld, WriteNew}, {WriteNew, WriteNew}, {NewOnly, plainNew}} {
		for seed := range uint64(30) {
			synctest.Test(t, func(t *testing.T) {
				w := &walk{T: t, rng: rand.New(rand.NewPCG(seed, 7)), old: new(session.MemoryStore), new: new(session.MemoryStore), like: new(session.MemoryStore),
					pair: pair, ids: []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}, seen: make(map[uuid.UUID]uint64)}
				for range 300 {
					w.step()
					w.compare()
				}
				deaths += w.deaths
			})
		}
	}
	if deaths == 0 {
		t.Error("no server died on the way")
	}
	t.Logf("%d servers died on the way", deaths)
}
