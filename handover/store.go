package handover

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A Store keeps sessions in this server's memory until [Store.Drain] hands them
// to a shared store. It is a [session.Store], safe for use by several goroutines.
// Make it with [New].
type Store struct {
	*server
	shared session.Store // behind a Manager's guard, in what WithGuard returned
}

// A server is what all views of one Store have in common.
type server struct {
	local *session.MemoryStore
	bare  session.Store // shared, without a guard
	moves moves

	creating sync.RWMutex // held by who creates in memory; not while it waits
	leaving  atomic.Bool  // new sessions go to the shared store; written with creating held
	empty    atomic.Bool  // everything was handed over

	draining chan struct{} // has room for the one Drain that runs
	begun    atomic.Int64  // the first Drain, nanoseconds since 1970; 0: none
	took     atomic.Int64  // until everything was handed over
	moved    atomic.Int64
	gone     atomic.Int64
}

// New makes a Store of this server's memory and of the store that it shares with
// the servers that stay. Both may hold sessions already, but not the same ones.
// Nothing else may use local; shared is for all servers, under the same
// [session.Config] of the manager, and may be used by servers without a memory of
// their own, too. New panics if shared is local.
func New(local *session.MemoryStore, shared session.Store) *Store {
	if shared == session.Store(local) {
		panic("session: handover: the shared store is this server's own memory; give New a store that the servers that stay can reach")
	}
	srv := &server{local: local, bare: shared, draining: make(chan struct{}, 1)}
	srv.moves.byID = make(map[uuid.UUID]*move)
	return &Store{server: srv, shared: shared}
}

// WithGuard returns the same Store with guard(shared) in the place of the shared
// store. It is what a [session.Manager] calls to put its breaker around the part
// that may be away. Drain goes past the guard.
func (s *Store) WithGuard(guard func(session.Store) session.Store) session.Store {
	return &Store{server: s.server, shared: guard(s.shared)}
}

// Load implements [session.Store].
//
// Memory is asked first, and what it holds needs no look at anything else. That
// it does not hold a record which is on its way is known only after it was taken
// out, and by then the move is noted: so whoever misses it finds the move, or, if
// that has ended, the record in the shared store.
func (s *Store) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	if rec, err = s.local.Load(ctx, id); err == nil {
		return rec, nil
	}
	return s.loadElsewhere(ctx, id, err)
}

func (s *Store) loadElsewhere(ctx context.Context, id uuid.UUID, err error) (session.Record, error) {
	if !errors.Is(err, session.ErrNotFound) {
		return session.Record{}, err
	}
	if err := s.arrival(ctx, id); err != nil {
		return session.Record{}, err
	}
	return loadShared(ctx, s.shared, id)
}

// Save implements [session.Store], but for one thing: with prev 0, before a Drain,
// it does not ask whether the shared store has a record of id. A Manager chooses
// a new ID for each session that it creates, and a round trip to find that nobody
// else chose it would be the only one of a session in memory.
func (s *Store) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (live session.Record, err error) {
	if prev == 0 {
		if live, done, err := s.create(ctx, id, next, ttl); done {
			return live, err
		}
	} else if live, err = s.local.Save(ctx, id, prev, next, ttl); err == nil || !errors.Is(err, session.ErrNotFound) {
		return live, err
	}
	if err := s.arrival(ctx, id); err != nil {
		return session.Record{}, err
	}
	live, err = s.shared.Save(ctx, id, prev, next, ttl)
	if errors.Is(err, session.ErrConflict) && isPlaceholder(live) {
		live = session.Record{} // the manager loads, and Load knows what to make of it
	}
	return live, err
}

// create creates a record in memory, unless this server is leaving.
func (s *Store) create(ctx context.Context, id uuid.UUID, next session.Record, ttl time.Duration) (live session.Record, done bool, err error) {
	s.creating.RLock()
	defer s.creating.RUnlock()
	if !s.leaving.Load() {
		live, err = s.local.Save(ctx, id, 0, next, ttl)
		return live, true, err
	}
	live, err = s.local.Load(ctx, id)
	switch {
	case err == nil:
		return live, true, session.ErrConflict
	case errors.Is(err, session.ErrNotFound):
		return session.Record{}, false, nil
	}
	return session.Record{}, true, err
}

// Touch implements [session.Store].
func (s *Store) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	err := s.local.Touch(ctx, id, version, ttl)
	if err == nil || !errors.Is(err, session.ErrNotFound) {
		return err
	}
	if err := s.arrival(ctx, id); err != nil {
		return err
	}
	return s.shared.Touch(ctx, id, version, ttl)
}

// Delete implements [session.Store].
func (s *Store) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	_, err := s.local.Take(ctx, id, version)
	if err == nil || !errors.Is(err, session.ErrNotFound) {
		return err
	}
	m := s.moves.find(id)
	if m != nil && version == 0 {
		return s.settle(ctx, m, m.drop)
	}
	if m != nil {
		if err := s.settle(ctx, m, m.send); err != nil {
			return err
		}
	}
	return s.shared.Delete(ctx, id, version)
}

// arrival waits until the record of id is not on its way.
func (s *Store) arrival(ctx context.Context, id uuid.UUID) error {
	if m := s.moves.find(id); m != nil {
		return s.settle(ctx, m, m.send)
	}
	return nil
}
