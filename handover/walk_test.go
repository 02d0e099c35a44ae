package handover_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

// Visitors of a server that leaves do all there is to do, in random order, while
// Drains begin, fail and end, and calls are refused, lost and stalled. Each visitor
// knows what may be true of the session: it is compared with what any server says.
// What was logged out stays so, what was saved is there, and at the end every
// session is in the shared store.
func TestRandomWalkThroughDrains(t *testing.T) {
	walks := 300
	if testing.Short() {
		walks = 30
	}
	for range walks {
		seed := rand.Uint64()
		bubble(t, func(t *testing.T) { newWalk(t, seed).run() })
		if t.Failed() {
			t.Fatalf("in the walk of seed %d", seed)
		}
	}
}

// A walk is one server that leaves, one that stays, and the faults between them and
// their shared store.
type walk struct {
	t       *testing.T
	kept    *session.MemoryStore // what the shared store holds
	drained *faulty              // as Drain sees it
	asked   *faulty              // as requests see it
	leaves  session.Store
	stays   session.Store
	drain   func(context.Context) (handover.Report, error)

	mu     sync.Mutex
	random *rand.Rand
	ill    int // of 100 calls, so many go wrong
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{t: t, kept: new(session.MemoryStore), random: rand.New(rand.NewPCG(seed, 0))}
	w.ill = w.n(60)
	w.drained, w.asked = &faulty{Store: w.kept, judge: w.judge}, &faulty{Store: w.kept, judge: w.judge}
	s := handover.New(new(session.MemoryStore), w.drained)
	w.drain = s.Drain
	w.leaves = s.WithGuard(func(session.Store) session.Store { return w.asked })
	w.stays = serving(w.asked)
	return w
}

func (w *walk) n(below int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(below)
}

// visitorVersions are what visitors choose; those of placeholders are above.
const visitorVersions = 1 << 20

// judge takes its time, so that everything meets everything. Only the saves of a
// move are stalled: those of visitors would be the Manager's to cope with.
func (w *walk) judge(op string, _ uuid.UUID, prev uint64) fate {
	time.Sleep(time.Duration(w.n(3000)) * time.Microsecond)
	if w.n(100) >= w.ill {
		return happens
	}
	if op == "save" && (prev == 0 || prev > visitorVersions) && w.n(2) == 0 {
		return stalled
	}
	return []fate{refused, lost}[w.n(2)]
}

func (w *walk) run() {
	var visitors sync.WaitGroup
	all := make([]*walker, 24)
	for i := range all {
		all[i] = &walker{walk: w, id: uuid.New(), may: map[uint64]bool{0: true}, name: fmt.Sprint("visitor ", i)}
		all[i].begin()
		visitors.Go(all[i].run)
	}
	time.Sleep(time.Duration(w.n(30)) * time.Millisecond)
	for range w.n(4) {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(w.n(40))*time.Millisecond)
		_, _ = w.drain(ctx)
		cancel()
		w.release()
	}
	visitors.Wait()
	w.drained.decide(nil)
	w.asked.decide(nil)
	if r, err := w.drain(w.t.Context()); err != nil || r.Left != 0 {
		w.t.Errorf("%+v, %v", r, err)
	}
	for range 2 {
		for _, v := range all {
			v.shared = true
			v.look(w.leaves, "the server that left")
			v.look(w.stays, "the one that stays")
		}
		w.release()
	}
}

func (w *walk) release() {
	w.drained.release()
	w.asked.release()
}

// A walker is one visitor and the truth about its session.
type walker struct {
	*walk
	name   string
	id     uuid.UUID
	last   uint64
	may    map[uint64]bool // the versions that may be there, 0 for none
	shared bool            // it was seen in the shared store
	blind  bool            // a server that could not see it tried to end it
}

func (v *walker) is(versions ...uint64) {
	v.may = make(map[uint64]bool)
	for _, n := range versions {
		v.may[n] = true
	}
}

func (v *walker) begin() {
	v.last++
	save(v.t, v.leaves, v.id, 0, session.Record{Version: v.last, Owner: []string{"", "ann"}[v.n(2)]}, long)
	v.is(v.last)
}

func (v *walker) run() {
	for range 30 {
		time.Sleep(time.Duration(v.n(4000)) * time.Microsecond)
		switch v.n(12) {
		case 0, 1, 2:
			v.look(v.leaves, "the server that leaves")
		case 3, 4:
			v.look(v.stays, "the one that stays")
		case 5, 6, 7, 8:
			v.save()
		case 9:
			v.touch()
		case 10:
			if v.n(4) == 0 {
				v.logout()
			}
		case 11:
			if v.n(10) == 0 {
				v.logoutElsewhere()
			} else {
				v.release()
			}
		}
	}
}

func (v *walker) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.t.Context(), time.Duration(1+v.n(50))*time.Millisecond)
}

// look compares what a server says with what may be.
func (v *walker) look(s session.Store, who string) {
	ctx, cancel := v.context()
	defer cancel()
	rec, err := s.Load(ctx, v.id)
	switch {
	case err != nil && !errors.Is(err, session.ErrNotFound):
		return
	case err != nil && (v.blind || s == v.stays && !v.shared):
		if v.blind && s != v.stays {
			v.is(0)
		}
		return
	case !v.may[rec.Version]:
		v.t.Errorf("%s: %s says version %d, and it may be %v", v.name, who, rec.Version, v.may)
	}
	v.is(rec.Version)
	v.shared = v.shared || s == v.stays
}

// known is the version that is there, if that is known.
func (v *walker) known() uint64 {
	if len(v.may) > 1 {
		v.look(v.leaves, "the server that leaves")
	}
	for n := range v.may {
		if len(v.may) == 1 {
			return n
		}
	}
	return 0
}

func (v *walker) save() {
	prev := v.known()
	if prev == 0 {
		return
	}
	v.last++
	ctx, cancel := v.context()
	defer cancel()
	_, err := v.leaves.Save(ctx, v.id, prev, session.Record{Version: v.last}, long)
	switch {
	case err == nil:
		v.is(v.last)
	case errors.Is(err, session.ErrConflict), errors.Is(err, session.ErrNotFound) && !v.blind:
		v.t.Errorf("%s: a save over version %d, which is there: %v", v.name, prev, err)
	case errors.Is(err, session.ErrNotFound):
		v.is(0)
	default:
		v.is(prev, v.last)
	}
}

func (v *walker) touch() {
	n := v.known()
	if n == 0 {
		return
	}
	ctx, cancel := v.context()
	defer cancel()
	err := v.leaves.Touch(ctx, v.id, n, long)
	if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) && !v.blind {
		v.t.Errorf("%s: a touch of version %d, which is there: %v", v.name, n, err)
	}
}

func (v *walker) logout() {
	ctx, cancel := v.context()
	defer cancel()
	if err := v.leaves.Delete(ctx, v.id, 0); err != nil {
		v.may[0] = true
		return
	}
	v.is(0)
}

// logoutElsewhere is a deletion by a server that cannot look into the memory of the
// one that leaves. It ends the session for sure if that is in the shared store.
func (v *walker) logoutElsewhere() {
	ctx, cancel := v.context()
	defer cancel()
	err := v.stays.Delete(ctx, v.id, 0)
	switch {
	case err != nil:
		v.may[0] = true
	case v.shared:
		v.is(0)
	}
	v.blind = v.blind || !v.shared
}
