package migrate

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A mishap befalls the nth call that a server makes to its two stores: it dies
// there, as far as the stores can tell.
type mishap struct {
	nth, calls int
	fate       fate
	late       func() // the held call
}

// pass lets the calls before it through. After it the server makes no more calls.
func (m *mishap) pass(do func()) error {
	m.calls++
	switch {
	case m.calls < m.nth:
		do()
		return nil
	case m.calls > m.nth:
		return errLost
	case m.fate == replyLost:
		do()
	case m.fate == held:
		m.late = do
	}
	return errLost
}

// frail is a store whose calls may be lost. pass does them, or not, and says
// whether there is an answer.
type frail struct {
	session.UserStore
	pass func(do func()) error
}

func (f frail) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	if lost := f.pass(func() { rec, err = f.UserStore.Load(ctx, id) }); lost != nil {
		return session.Record{}, lost
	}
	return rec, err
}

func (f frail) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (live session.Record, err error) {
	if lost := f.pass(func() { live, err = f.UserStore.Save(ctx, id, prev, next, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return live, err
}

func (f frail) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) (err error) {
	return errors.Join(f.pass(func() { err = f.UserStore.Touch(ctx, id, version, ttl) }), err)
}

func (f frail) Delete(ctx context.Context, id uuid.UUID, version uint64) (err error) {
	return errors.Join(f.pass(func() { err = f.UserStore.Delete(ctx, id, version) }), err)
}

func (f frail) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last session.Cut, err error) {
	lost := f.pass(func() { listed, last, err = f.UserStore.Enlist(ctx, list, id, ttl, most) })
	return listed, last, errors.Join(lost, err)
}

func (f frail) CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this session.Cut, err error) {
	lost := f.pass(func() { listed, this, err = f.UserStore.CutOff(ctx, list, except...) })
	return listed, this, errors.Join(lost, err)
}

func (f frail) End(ctx context.Context, list string, ids ...uuid.UUID) (err error) {
	return errors.Join(f.pass(func() { err = f.UserStore.End(ctx, list, ids...) }), err)
}

func (f frail) LoadAll(ctx context.Context, ids []uuid.UUID) (recs []session.Record, err error) {
	lost := f.pass(func() { recs, err = f.UserStore.LoadAll(ctx, ids) })
	return recs, errors.Join(lost, err)
}

// A scene is a session in two stores, and what a server may do to it.
type scene struct {
	*testing.T
	old, new *session.MemoryStore
	id       uuid.UUID
	live     uint64
}

func newScene(t *testing.T, start string) *scene {
	sc := &scene{t, new(session.MemoryStore), new(session.MemoryStore), uuid.New(), 0}
	sc.live = begin(t, start, sc.old, sc.new, sc.id)
	return sc
}

// version is what a server of that phase says is live.
func (sc *scene) version(phase Phase) uint64 {
	sc.Helper()
	rec, err := sc.in(phase).Load(sc.Context(), sc.id)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		sc.Fatal(err)
	}
	if got := sc.inAll(phase); got != rec.Version {
		sc.Fatalf("%v: Load says version %d, and Versions %d", phase, rec.Version, got)
	}
	return checked(rec)
}

func (sc *scene) inAll(phase Phase) uint64 {
	sc.Helper()
	versions, err := sc.in(phase).Versions(sc.Context(), []uuid.UUID{sc.id})
	if err != nil {
		sc.Fatal(err)
	}
	return versions[0]
}

func (sc *scene) in(phase Phase) session.UserStore { return open(sc.T, sc.old, sc.new, phase) }

var acts = []struct {
	name string
	do   func(session.UserStore, *scene) error
	left func(live uint64) uint64
}{
	{"save", func(s session.UserStore, sc *scene) error {
		_, err := s.Save(sc.Context(), sc.id, sc.live, session.Record{Version: 7, Owner: "ann", Data: []byte("7")}, time.Hour)
		return err
	}, func(uint64) uint64 { return 7 }},
	{"touch", func(s session.UserStore, sc *scene) error {
		return s.Touch(sc.Context(), sc.id, sc.live, 2*time.Hour)
	}, func(live uint64) uint64 { return live }},
	{"delete", func(s session.UserStore, sc *scene) error { return s.Delete(sc.Context(), sc.id, sc.live) },
		func(uint64) uint64 { return 0 }},
	{"delete whatever is there", func(s session.UserStore, sc *scene) error { return s.Delete(sc.Context(), sc.id, 0) },
		func(uint64) uint64 { return 0 }},
	{"end", func(s session.UserStore, sc *scene) error { return s.End(sc.Context(), "list", sc.id) },
		func(uint64) uint64 { return 0 }},
}

// Wherever a server dies, its change was made as a whole or not at all, all its
// neighbours agree on which, and they can go on. What it sent last may arrive after
// that, and brings nothing back.
func TestAServerThatDiesAtAnyCallLosesAndRevivesNothing(t *testing.T) {
	crashes := 0
	for _, start := range []string{"old", "old, hold", "new", "envelope", "new, envelope"} {
		for phase := WriteOld; phase <= WriteNew; phase++ {
			for _, act := range acts {
				for _, f := range []fate{lost, replyLost, held} {
					for nth := 1; ; nth++ {
						sc := newScene(t, start)
						m := &mishap{nth: nth, fate: f}
						err := act.do(open(t, frail{sc.old, m.pass}, frail{sc.new, m.pass}, phase), sc)
						if m.calls < nth {
							break // it makes no more calls
						}
						crashes++
						sc.goOn(fmt.Sprintf("%s by %v from %q, call %d, fate %d", act.name, phase, start, nth, f), act.left(sc.live), err == nil, m)
					}
				}
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

func (sc *scene) goOn(what string, left uint64, confirmed bool, m *mishap) {
	sc.Helper()
	behind, ahead := sc.version(WriteOld), sc.version(WriteNew)
	switch {
	case behind != ahead:
		sc.Fatalf("%s: write-old reads version %d, and write-new %d", what, behind, ahead)
	case confirmed && behind != left:
		sc.Fatalf("%s was confirmed and left version %d, want %d", what, behind, left)
	case behind != left && behind != sc.live:
		sc.Fatalf("%s left version %d, want %d or %d", what, behind, sc.live, left)
	}
	if behind == 0 {
		sc.staysGone(what, m)
		return
	}
	// The next server changes it, and another one logs out.
	next := session.Record{Version: 8, Owner: "ann", Data: []byte("8")}
	if _, err := sc.in(WriteOld+Phase(m.nth%2)).Save(sc.Context(), sc.id, behind, next, time.Hour); err != nil {
		sc.Fatalf("%s: the next Save: %v", what, err)
	}
	if got, too := sc.version(WriteOld), sc.version(WriteNew); got != 8 || too != 8 {
		sc.Fatalf("%s: after the next Save there is version %d and %d", what, got, too)
	}
	if m.late != nil && m.nth%2 == 0 { // else after the logout
		m.late()
		m.late = nil
	}
	if err := sc.in(WriteNew-Phase(m.nth%2)).Delete(sc.Context(), sc.id, 0); err != nil {
		sc.Fatalf("%s: the logout after it: %v", what, err)
	}
	sc.staysGone(what, m)
}

func (sc *scene) staysGone(what string, m *mishap) {
	sc.Helper()
	if m.late != nil {
		m.late()
	}
	for phase := WriteOld; phase.known(); phase++ {
		if got := sc.version(phase); got != 0 {
			sc.Fatalf("%s: version %d was revived for %v", what, got, phase)
		}
		for _, version := range []uint64{1, 7, 8} {
			_, err := sc.in(phase).Save(sc.Context(), sc.id, version, session.Record{Version: 9, Owner: "ann", Data: []byte("9")}, time.Hour)
			if !errors.Is(err, session.ErrNotFound) {
				sc.Fatalf("%s: a late Save over version %d returned %v", what, version, err)
			}
		}
	}
}

// A server whose outcome is not known sends the same Save again (C5), and learns
// from a conflict with its own version that the first one counted.
func TestC5ASaveThatIsSentAgainCountsOnce(t *testing.T) {
	for _, start := range []string{"old", "old, hold", "new", "envelope", "new, envelope"} {
		for phase := WriteOld; phase <= WriteNew; phase++ {
			for _, f := range []fate{lost, replyLost, held} {
				for nth := 1; ; nth++ {
					sc := newScene(t, start)
					m := &mishap{nth: nth, fate: f}
					err := acts[0].do(open(t, frail{sc.old, m.pass}, frail{sc.new, m.pass}, phase), sc)
					if m.calls < nth {
						break
					}
					if err != nil {
						if err = acts[0].do(sc.in(phase), sc); err != nil && !errors.Is(err, session.ErrConflict) {
							t.Fatalf("from %q in %v, call %d: sent again: %v", start, phase, nth, err)
						}
					}
					if m.late != nil {
						m.late()
					}
					if got, too := sc.version(WriteOld), sc.version(WriteNew); got != 7 || too != 7 {
						t.Fatalf("from %q in %v, call %d: version %d and %d, want 7", start, phase, nth, got, too)
					}
				}
			}
		}
	}
}
