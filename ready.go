package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrDegraded is what [Manager.Ready] returns, wrapped, while sessions are read
// and something else is wrong with the store.
var ErrDegraded = errors.New("session: the store is degraded")

// Ready tells how the store does, for a readiness probe. It loads, saves and
// deletes a record that is nobody's, in three round trips, and takes no longer
// than StoreTimeout or ctx. A [MemoryStore] is only asked whether it has room, since
// at MaxSessions one record more pushes out a visitor's. One that is wrapped in
// another store cannot be seen, and gets the record.
//
// nil is ready. An error that wraps [ErrDegraded] means that visitors are served
// as long as they only read: the store loads but does not save (a READONLY, an
// OOM, a NOREPLICAS of Redis; MaxSessions users' sessions in memory), or five or
// more calls failed within the last ten
// seconds. Any other error is down: the store does not load either, ctx ended
// before it did, or the manager was closed. While calls are turned away because
// the store is away, the answer comes at once.
//
//	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
//		switch err := sessions.Ready(r.Context()); {
//		case err == nil:
//			io.WriteString(w, "ready\n")
//		case errors.Is(err, session.ErrDegraded):
//			log.Print(err)
//			io.WriteString(w, "degraded\n") // and 200: readers are better served than sent away
//		default:
//			log.Print(err)
//			http.Error(w, "down", http.StatusServiceUnavailable)
//		}
//	})
//
// Mount it outside of [Manager.Handler], so that it does not depend on a session.
func (m *Manager) Ready(ctx context.Context) error {
	if !m.writes.enter() {
		return errManagerClosed
	}
	defer m.writes.leave()
	if m.memory != nil {
		return m.memoryReady(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	id, began := newID(), sinceStart()
	if _, err := m.store.Load(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
		if m.guard.breaker.answeredSince(began) { // one node of a Cluster
			return m.degraded("load", err)
		}
		return &Error{Op: "load", Err: err}
	}
	// The ttl is one that the store is known to take, and short, because Delete
	// may fail.
	rec := Record{Version: newVersion(), Data: []byte("of a readiness probe")}
	if _, err := m.store.Save(ctx, id, 0, rec, min(m.idle, time.Minute)); err != nil {
		return m.degraded("save", err)
	}
	if err := m.store.Delete(ctx, id, rec.Version); err != nil {
		return m.degraded("delete", err)
	}
	if err := m.guard.breaker.trouble(); err != nil {
		return fmt.Errorf("%w: %w", ErrDegraded, err)
	}
	return nil
}

func (m *Manager) memoryReady(ctx context.Context) error {
	if ctx.Err() != nil {
		return &Error{Op: "load", Err: context.Cause(ctx)}
	}
	if !m.memory.hasRoom() {
		return m.degraded("save", errMemoryFull)
	}
	return nil
}

func (m *Manager) degraded(op string, err error) error {
	e := &Error{Op: op, Err: err}
	if m.guard.away() {
		return e // it went away meanwhile
	}
	return fmt.Errorf("%w: it answers, but not to this: %w", ErrDegraded, e)
}
