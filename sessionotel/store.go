package sessionotel

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

type measuredStore struct {
	store session.Store
	in    *instruments
}

// measured marks a store that is wrapped.
func (s *measuredStore) measured() {}

func (s *measuredStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	c := s.in.begin(ctx, opLoad, id)
	rec, err := s.store.Load(c.ctx, id)
	c.end(err)
	return rec, err
}

func (s *measuredStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	c := s.in.begin(ctx, opSave, id)
	live, err := s.store.Save(c.ctx, id, prev, next, ttl)
	c.end(err)
	return live, err
}

func (s *measuredStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	c := s.in.begin(ctx, opTouch, id)
	err := s.store.Touch(c.ctx, id, version, ttl)
	c.end(err)
	return err
}

func (s *measuredStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	c := s.in.begin(ctx, opDelete, id)
	err := s.store.Delete(c.ctx, id, version)
	c.end(err)
	return err
}

// A measuredUserStore is apart, so that a wrapped store that keeps no lists does
// not claim to.
type measuredUserStore struct {
	measuredStore
	users session.UserStore
}

func (s *measuredUserStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	c := s.in.begin(ctx, opEnlist, id)
	listed, last, err := s.users.Enlist(c.ctx, list, id, ttl, most)
	c.end(err)
	return listed, last, err
}

func (s *measuredUserStore) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	c := s.in.begin(ctx, opList, uuid.Nil)
	ids, err := s.users.List(c.ctx, list)
	c.end(err)
	return ids, err
}

func (s *measuredUserStore) CutOff(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	c := s.in.begin(ctx, opCutOff, uuid.Nil)
	listed, this, err := s.users.CutOff(c.ctx, list, except...)
	c.end(err)
	return listed, this, err
}

func (s *measuredUserStore) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	c := s.in.begin(ctx, opEnd, uuid.Nil)
	err := s.users.End(c.ctx, list, ids...)
	c.end(err)
	return err
}

func (s *measuredUserStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	c := s.in.begin(ctx, opLoadAll, uuid.Nil)
	records, err := s.users.LoadAll(c.ctx, ids)
	c.end(err)
	return records, err
}

func (s *measuredUserStore) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	c := s.in.begin(ctx, opVersions, uuid.Nil)
	versions, err := s.users.Versions(c.ctx, ids)
	c.end(err)
	return versions, err
}
