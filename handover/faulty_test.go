package handover_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func save(t *testing.T, s session.Store, id uuid.UUID, prev uint64, rec session.Record, ttl time.Duration) {
	t.Helper()
	if _, err := s.Save(t.Context(), id, prev, rec, ttl); err != nil {
		t.Fatalf("Save over version %d: %v", prev, err)
	}
}

// version is the one that s holds, 0 for no record.
func version(t *testing.T, s session.Store, id uuid.UUID) uint64 {
	t.Helper()
	rec, err := s.Load(t.Context(), id)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("Load: %v", err)
	}
	return rec.Version
}

var errLost = errors.New("the answer was lost")

// A fate is what becomes of one call.
type fate int

const (
	happens fate = iota
	refused      // it does not reach the store
	lost         // it reaches the store, and its answer does not come
	stalled      // it waits for whoever releases it, and its caller does not
	silent       // nothing comes until the caller gives up
)

// A faulty store decides by call what becomes of it.
type faulty struct {
	session.Store

	mu    sync.Mutex
	judge func(op string, id uuid.UUID, prev uint64) fate
	late  []func() // calls that were stalled
}

func (s *faulty) decide(judge func(op string, id uuid.UUID, prev uint64) fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge = judge
}

// release lets the stalled calls reach the store, in the order in which they came.
func (s *faulty) release() {
	s.mu.Lock()
	late := s.late
	s.late = nil
	s.mu.Unlock()
	for _, call := range late {
		call()
	}
}

// call returns what do gave only if its answer came.
func (s *faulty) call(ctx context.Context, op string, id uuid.UUID, prev uint64, do func(context.Context) (session.Record, error)) (session.Record, error) {
	s.mu.Lock()
	judge, is := s.judge, happens
	s.mu.Unlock()
	if judge != nil {
		is = judge(op, id, prev)
	}
	switch is {
	case refused:
		return session.Record{}, errLost
	case lost:
		_, _ = do(ctx)
		return session.Record{}, errLost
	case stalled:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.late = append(s.late, func() { _, _ = do(context.Background()) })
		return session.Record{}, errLost
	case silent:
		<-ctx.Done()
		return session.Record{}, ctx.Err()
	}
	return do(ctx)
}

func (s *faulty) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	return s.call(ctx, "load", id, 0, func(ctx context.Context) (session.Record, error) { return s.Store.Load(ctx, id) })
}

func (s *faulty) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	return s.call(ctx, "save", id, prev, func(ctx context.Context) (session.Record, error) {
		return s.Store.Save(ctx, id, prev, next, ttl)
	})
}

func (s *faulty) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	_, err := s.call(ctx, "touch", id, version, func(ctx context.Context) (session.Record, error) {
		return session.Record{}, s.Store.Touch(ctx, id, version, ttl)
	})
	return err
}

func (s *faulty) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	_, err := s.call(ctx, "delete", id, version, func(ctx context.Context) (session.Record, error) {
		return session.Record{}, s.Store.Delete(ctx, id, version)
	})
	return err
}
