package session

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// A guard is what a manager asks in place of a store that may be away. Every call
// passes here, so that it can be turned away (breaker) and measured
// (EventStoreCall). A MemoryStore has none.
type guard struct {
	m       *Manager
	given   Store // as the user of the library knows it
	store   Store // given, or the part of it that may be away
	breaker breaker
}

// A partlyAway store answers by itself for some sessions and asks another store
// for the rest, as that of package handover does. WithGuard returns the same
// store, over the same sessions, with guard(other) in the other's place, and
// calls guard once. Around the whole, the other's being away would turn away
// sessions that are at hand, and their answers would tell the breaker that the
// other is back.
type partlyAway interface {
	WithGuard(guard func(other Store) Store) Store
}

// A userGuard guards a UserStore. A guard alone is none, as its store is none.
type userGuard struct {
	*guard
	users UserStore
}

func (m *Manager) setGuard() {
	g := &guard{m: m, given: m.store, store: m.store}
	g.breaker.m, g.breaker.ask = m, g.probe
	m.guard = g
	if part, ok := m.store.(partlyAway); ok {
		m.store = part.WithGuard(func(other Store) Store {
			g.store = other
			return g
		})
		return
	}
	m.store = g
	if users, ok := g.store.(UserStore); ok {
		m.store = &userGuard{guard: g, users: users}
	}
}

// configured is the store as the user of the library knows it.
func (m *Manager) configured() Store {
	if m.guard != nil {
		return m.guard.given
	}
	return m.store
}

// away reports whether calls are turned away now. It is false for no guard.
func (g *guard) away() bool { return g != nil && g.breaker.away.Load() != nil }

func (g *guard) call(ctx context.Context, op string, send func() error) error {
	if err := g.breaker.begin(); err != nil {
		return err
	}
	return g.send(ctx, op, send)
}

// send reads the clock only if somebody wants to know.
func (g *guard) send(ctx context.Context, op string, send func() error) error {
	if g.m.onEvent == nil {
		err := send()
		g.breaker.end(ctx, err)
		return err
	}
	sent := time.Now()
	err := send()
	took := time.Since(sent)
	g.breaker.end(ctx, err)
	g.m.event(ctx, Event{Kind: EventStoreCall, Op: op, Duration: took, Attempt: attemptOf(ctx), Err: err})
	return err
}

// probe asks for what is not there, past the breaker.
func (g *guard) probe(ctx context.Context) error {
	err := g.send(ctx, "probe", func() error {
		_, err := g.store.Load(ctx, newID())
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (g *guard) Load(ctx context.Context, id uuid.UUID) (rec Record, err error) {
	err = g.call(ctx, "load", func() error {
		rec, err = g.store.Load(ctx, id)
		return err
	})
	return rec, err
}

func (g *guard) Save(ctx context.Context, id uuid.UUID, prev uint64, next Record, ttl time.Duration) (live Record, err error) {
	err = g.call(ctx, "save", func() error {
		live, err = g.store.Save(ctx, id, prev, next, ttl)
		return err
	})
	return live, err
}

func (g *guard) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return g.call(ctx, "touch", func() error { return g.store.Touch(ctx, id, version, ttl) })
}

func (g *guard) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return g.call(ctx, "delete", func() error { return g.store.Delete(ctx, id, version) })
}

func (g *userGuard) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last Cut, err error) {
	err = g.call(ctx, "enlist", func() error {
		listed, last, err = g.users.Enlist(ctx, list, id, ttl, most)
		return err
	})
	return listed, last, err
}

func (g *userGuard) List(ctx context.Context, list string) (ids []uuid.UUID, err error) {
	err = g.call(ctx, "list", func() error {
		ids, err = g.users.List(ctx, list)
		return err
	})
	return ids, err
}

func (g *userGuard) CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this Cut, err error) {
	err = g.call(ctx, "cut_off", func() error {
		listed, this, err = g.users.CutOff(ctx, list, except...)
		return err
	})
	return listed, this, err
}

func (g *userGuard) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	return g.call(ctx, "end", func() error { return g.users.End(ctx, list, ids...) })
}

func (g *userGuard) LoadAll(ctx context.Context, ids []uuid.UUID) (records []Record, err error) {
	err = g.call(ctx, "load_all", func() error {
		records, err = g.users.LoadAll(ctx, ids)
		return err
	})
	return records, err
}

func (g *userGuard) Versions(ctx context.Context, ids []uuid.UUID) (versions []uint64, err error) {
	err = g.call(ctx, "versions", func() error {
		versions, err = g.users.Versions(ctx, ids)
		return err
	})
	return versions, err
}
