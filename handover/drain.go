package handover

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	// drainWorkers is how many records are on their way at a time, and so how many
	// sessions at most are answered 503 if the shared store goes away meanwhile.
	drainWorkers = 16
	// drainPatience bounds one call to the shared store.
	drainPatience = time.Second
	drainPauses   = 6 // after failures: 10 ms, and up to 2^6 times as much
)

// A Report says how far a Drain has come. It counts from the first Drain on. The
// zero value is that of a server that is not leaving, and has no sessions.
type Report struct {
	Moved int           // sessions that the shared store has
	Gone  int           // ended before their turn, or on the way: logged out or expired
	Left  int           // in this server's memory or on their way; those that expired in the last fifteen seconds may count, until all others were moved
	Took  time.Duration // from the first Drain to the end, or until now
}

// Progress may be called at any time. It costs a look at each of 64 shards.
func (s *Store) Progress() Report {
	r := Report{
		Moved: int(s.moved.Load()),
		Gone:  int(s.gone.Load()),
		Left:  s.local.Len() + int(s.moves.n.Load()),
		Took:  time.Duration(s.took.Load()),
	}
	if s.empty.Load() {
		r.Left = 0
	}
	if begun := s.begun.Load(); begun != 0 && r.Took == 0 {
		r.Took = time.Since(time.Unix(0, begun))
	}
	return r
}

// Drain hands this server's sessions to the shared store, those with a user
// first, while requests go on being served. From then on new sessions are created
// in the shared store. There is no way back: a server that begins to leave leaves.
//
// It returns when everything was handed over, or with an error when ctx ended,
// or up to a second later: what was sent by then is waited for. The Report says
// how many are left. They are served as before, except for those, 16 at most, of
// which it is not known whether the shared store got them. Call Drain again to go
// on; a server that stops instead takes them with it. Several calls at a time
// wait for each other.
//
// A call to the shared store that fails is made again, after pauses of less
// than a second, until ctx ends.
func (s *Store) Drain(ctx context.Context) (Report, error) {
	d := &drain{server: s.server}
	select {
	case s.draining <- struct{}{}:
		defer func() { <-s.draining }()
	case <-ctx.Done():
		return d.gaveUp(ctx, s.Progress())
	}
	s.leave()
	for users := true; ; users = false {
		found := d.round(ctx, users)
		switch {
		case found == 0 && !users:
			s.arrived()
			return s.Progress(), nil
		case ctx.Err() != nil:
			return d.gaveUp(ctx, s.Progress())
		}
	}
}

// leave returns when no session is created in memory any more.
func (srv *server) leave() {
	srv.creating.Lock()
	defer srv.creating.Unlock()
	srv.leaving.Store(true)
	srv.begun.CompareAndSwap(0, time.Now().UnixNano())
}

func (srv *server) arrived() {
	srv.took.CompareAndSwap(0, max(1, int64(time.Since(time.Unix(0, srv.begun.Load())))))
	srv.empty.Store(true)
}

// A drain is one call of Drain.
type drain struct {
	*server
	failures atomic.Int32 // in a row
	last     atomic.Pointer[error]
}

func (d *drain) gaveUp(ctx context.Context, r Report) (Report, error) {
	err := fmt.Errorf("session: Drain: %d sessions are left and end with this server; call Drain again with more time: %w", r.Left, context.Cause(ctx))
	if last := d.last.Load(); last != nil {
		err = fmt.Errorf("%w; the shared store failed last with: %w", err, *last)
	}
	return r, err
}

// A load is what a worker takes on: a record in memory, or a move that an earlier
// Drain left.
type load struct {
	id   uuid.UUID
	left *move
}

// round goes through the memory once and returns how many records it found.
func (d *drain) round(ctx context.Context, users bool) (found int) {
	loads := make(chan load)
	var workers sync.WaitGroup
	for range drainWorkers {
		workers.Go(func() {
			for l := range loads {
				d.take(ctx, l)
			}
		})
	}
	defer workers.Wait()
	defer close(loads)
	give := func(l load) bool {
		found++
		select {
		case loads <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for _, m := range d.moves.all() {
		if !give(load{left: m}) {
			return found
		}
	}
	for id, rec := range d.local.All() {
		if users && rec.Owner == "" {
			continue
		}
		if !give(load{id: id}) {
			return found
		}
	}
	return found
}

// take moves one record. If its placeholder cannot be put, it stays in memory and
// a later round comes again: as long as the shared store is away nothing is taken
// from the visitors.
func (d *drain) take(ctx context.Context, l load) {
	if m := l.left; m != nil {
		select {
		case m.turn <- struct{}{}:
			d.carry(ctx, m)
		case <-ctx.Done():
		}
		return
	}
	now, err := d.local.Load(ctx, l.id)
	if err != nil {
		return // ended since it was seen, or seen twice
	}
	call, cancel := context.WithTimeout(ctx, drainPatience)
	place, err := announce(call, d.bare, l.id, now)
	cancel()
	if err != nil {
		_ = d.failed(ctx, err)
		return
	}
	m := newMove(l.id, place)
	if !d.moves.add(m) {
		return // seen twice, and on its way
	}
	rec, err := d.local.Take(context.WithoutCancel(ctx), l.id, 0)
	if err != nil || place == 0 {
		d.forget(ctx, m)
		return
	}
	m.carries(rec)
	d.carry(ctx, m)
}

// forget ends a move whose record ended before it was taken. A placeholder that
// stays because this fails is taken for a session for ten seconds.
func (d *drain) forget(ctx context.Context, m *move) {
	if m.place != 0 {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
		defer cancel()
		_ = d.bare.Delete(call, m.id, m.place)
	}
	m.settled = true
	d.ended(m)
	<-m.turn
}

// carry sends until m is settled or ctx ends. Its turn is the caller's, and given
// away here. Between two sends requests may try, and no further record is taken
// meanwhile. What was sent is waited for even if ctx ends, because a record whose
// arrival is not known is of no use to anybody.
func (d *drain) carry(ctx context.Context, m *move) {
	for {
		was := m.settled
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
		err := m.send(call, d.bare)
		cancel()
		if m.settled && !was {
			d.ended(m)
		}
		<-m.turn
		if err == nil {
			d.failures.Store(0)
			return
		}
		if d.failed(ctx, err) != nil {
			return
		}
		select {
		case m.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// failed pauses, for longer if all fails. Its error is that of ctx.
func (d *drain) failed(ctx context.Context, err error) error {
	d.last.Store(&err)
	n := d.failures.Add(1)
	return sleep(ctx, 10*time.Millisecond<<min(n/drainWorkers, drainPauses))
}
