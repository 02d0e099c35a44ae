package session_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// A moodyStore does as it is told before it does its work: mood may wait, and an
// error of it is the answer. It counts calls, and how many of them run.
type moodyStore struct {
	session.Store
	mood func(ctx context.Context, op string, id uuid.UUID) error

	mu            sync.Mutex
	calls         map[string]int
	running, most int
	saving        int // of those that run
}

func newMoodyStore() *moodyStore {
	return &moodyStore{Store: new(session.MemoryStore), calls: make(map[string]int)}
}

func (s *moodyStore) feel(mood func(ctx context.Context, op string, id uuid.UUID) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood, s.most = mood, 0
}

func (s *moodyStore) around(ctx context.Context, op string, id uuid.UUID, inner func() error) error {
	s.mu.Lock()
	s.calls[op]++
	s.running++
	s.most = max(s.most, s.running)
	if op == "save" {
		s.saving++
	}
	mood := s.mood
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		if op == "save" {
			s.saving--
		}
	}()
	if mood != nil {
		if err := mood(ctx, op, id); err != nil {
			return err
		}
	}
	return inner()
}

// called is how often op was called, and how many calls ran at a time since the
// last mood came.
func (s *moodyStore) called(op string) (n, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op], s.most
}

func (s *moodyStore) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	err = s.around(ctx, "load", id, func() error { rec, err = s.Store.Load(ctx, id); return err })
	return rec, err
}

func (s *moodyStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (live session.Record, err error) {
	err = s.around(ctx, "save", id, func() error { live, err = s.Store.Save(ctx, id, prev, next, ttl); return err })
	return live, err
}

func (s *moodyStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return s.around(ctx, "touch", id, func() error { return s.Store.Touch(ctx, id, version, ttl) })
}

func (s *moodyStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return s.around(ctx, "delete", id, func() error { return s.Store.Delete(ctx, id, version) })
}

// A listsStore keeps no lists, and says which of its methods were called.
type listsStore struct {
	*moodyStore
	asked []string
}

func (s *listsStore) note(call string) { s.asked = append(s.asked, call) }

func (s *listsStore) Enlist(context.Context, string, uuid.UUID, time.Duration, int) ([]uuid.UUID, session.Cut, error) {
	s.note("enlist")
	return nil, session.Cut{}, nil
}

func (s *listsStore) List(context.Context, string) ([]uuid.UUID, error) {
	s.note("list")
	return []uuid.UUID{{1}}, nil
}

func (s *listsStore) CutOff(context.Context, string, ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	s.note("cut_off")
	return []uuid.UUID{{2}}, session.Cut{ID: 1}, nil
}

func (s *listsStore) End(context.Context, string, ...uuid.UUID) error {
	s.note("end")
	return nil
}

func (s *listsStore) LoadAll(_ context.Context, ids []uuid.UUID) ([]session.Record, error) {
	s.note("load_all")
	return make([]session.Record, len(ids)), nil
}

func (s *listsStore) Versions(_ context.Context, ids []uuid.UUID) ([]uint64, error) {
	s.note("versions")
	return make([]uint64, len(ids)), nil
}

// Moods.

func blackHole(ctx context.Context, _ string, _ uuid.UUID) error {
	<-ctx.Done()
	return ctx.Err()
}

func refusing(context.Context, string, uuid.UUID) error { return errAway }

func refusingWrites(_ context.Context, op string, _ uuid.UUID) error {
	if op == "load" {
		return nil
	}
	return errors.New("OOM command not allowed when used memory > 'maxmemory'")
}

func slow(d time.Duration) func(context.Context, string, uuid.UUID) error {
	return func(ctx context.Context, _ string, _ uuid.UUID) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A moodyScene is a manager on a moodyStore, in virtual time.
type moodyScene struct {
	store   *moodyStore
	events  eventLog
	logs    logBuffer
	manager *session.Manager
}

const moodyTimeout = 2 * time.Second // StoreTimeout

func newMoodyScene(t *testing.T) *moodyScene {
	s := &moodyScene{store: newMoodyStore()}
	s.manager = newManager(t, session.Config{
		Store: s.store, StoreTimeout: moodyTimeout, OnEvent: s.events.note,
		Logger: slog.New(slog.NewTextHandler(&s.logs, nil)),
	})
	return s
}

// visitor is logged in, and has counted to one.
func (s *moodyScene) visitor(t *testing.T) *guest {
	v := &guest{t: t, manager: s.manager}
	v.visit(func(s *session.Session) { _ = s.Login("alice"); count.Set(s, 1) })
	if v.cookie == "" {
		t.Fatal("no cookie")
	}
	return v
}

func readCount(s *session.Session)  { _ = count.Get(s) }
func countOneUp(s *session.Session) { count.Update(s, func(n int) int { return n + 1 }) }

// opened waits until the breaker is open.
func (s *moodyScene) opened(t *testing.T) {
	t.Helper()
	v := &guest{t: t, manager: s.manager, cookie: s.visitor(t).cookie}
	s.store.feel(refusing)
	for range 100 {
		if s.events.count(session.EventStoreAway) == 1 {
			return
		}
		v.visit(readCount)
		time.Sleep(moodyTimeout / 100)
	}
	t.Fatal("the breaker did not open")
}
