package handover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A move is a record that was taken out of memory, or is about to be, and of
// which it is not known yet that the shared store has it.
type move struct {
	id   uuid.UUID
	turn chan struct{} // full while somebody sends, who alone may touch what follows

	place   uint64 // the version of the placeholder
	rec     session.Record
	end     time.Time // of rec
	settled bool      // nothing is sent any more: what the shared store holds is the truth
	moved   bool      // it got the record
}

// newMove is one whose turn the caller has.
func newMove(id uuid.UUID, place uint64) *move {
	m := &move{id: id, place: place, turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	return m
}

func (m *move) carries(rec session.Record) {
	m.rec, m.end = rec, time.Now().Add(rec.TTL)
}

// send saves the record over its placeholder, which may be done any number of
// times. An error means that the outcome is unknown.
func (m *move) send(ctx context.Context, shared session.Store) error {
	if m.settled {
		return nil
	}
	ttl := wholeMillis(time.Until(m.end))
	if ttl <= 0 {
		m.settled = true
		return nil
	}
	there, err := shared.Save(ctx, m.id, m.place, m.rec, ttl)
	if errors.Is(err, session.ErrConflict) && there.Version == 0 {
		if there, err = shared.Load(ctx, m.id); err == nil {
			err = session.ErrConflict
		}
	}
	switch {
	case err == nil:
		m.settled, m.moved = true, true
	case errors.Is(err, session.ErrConflict):
		// An earlier send took effect, and perhaps somebody built on it. Or it was
		// logged out, and a stalled placeholder came after.
		m.settled, m.moved = true, !isPlaceholder(there)
	case errors.Is(err, session.ErrNotFound):
		m.settled = true // logged out at another server: it stays so
	default:
		return fmt.Errorf("session: handover: it is not known whether this session has reached the shared store; try again: %w", err)
	}
	return nil
}

// drop is an unconditional Delete. It need not know whether the record has
// arrived: without the placeholder it cannot any more.
func (m *move) drop(ctx context.Context, shared session.Store) error {
	if err := shared.Delete(ctx, m.id, 0); err != nil {
		return err
	}
	m.settled = true
	return nil
}

// settle waits for m's turn and does its send or its drop.
func (s *Store) settle(ctx context.Context, m *move, do func(context.Context, session.Store) error) error {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("session: handover: this session is being handed over to the shared store, which has not answered; try again: %w", context.Cause(ctx))
	}
	was := m.settled
	err := do(ctx, s.shared)
	if m.settled && !was {
		s.ended(m)
	}
	<-m.turn
	return err
}

// ended forgets a move that was settled just now. Its turn is held, so those who
// wait for it find that out.
func (srv *server) ended(m *move) {
	if m.moved {
		srv.moved.Add(1)
	} else {
		srv.gone.Add(1)
	}
	srv.moves.remove(m.id)
}

// moves are those that have not ended: as many as Drain has workers, at most.
type moves struct {
	n    atomic.Int32 // as a rule 0, and then nobody needs the lock
	mu   sync.Mutex
	byID map[uuid.UUID]*move
}

func (t *moves) find(id uuid.UUID) *move {
	if t.n.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// add comes before the record is taken out of memory: see [Store.Load].
func (t *moves) add(m *move) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[m.id] != nil {
		return false
	}
	t.byID[m.id] = m
	t.n.Store(int32(len(t.byID)))
	return true
}

func (t *moves) remove(id uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
	t.n.Store(int32(len(t.byID)))
}

func (t *moves) all() []*move {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*move, 0, len(t.byID))
	for _, m := range t.byID {
		all = append(all, m)
	}
	return all
}
