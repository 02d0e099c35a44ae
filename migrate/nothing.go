package migrate

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// nothing is the old store of NewOnly: always empty, and asked by nobody else, so
// that it need not mind a context. What writes to it finds no record to replace.
type nothing struct{}

var _ session.UserStore = nothing{}

func (nothing) Load(context.Context, uuid.UUID) (session.Record, error) {
	return session.Record{}, session.ErrNotFound
}

func (nothing) Save(context.Context, uuid.UUID, uint64, session.Record, time.Duration) (session.Record, error) {
	return session.Record{}, session.ErrNotFound
}

func (nothing) Touch(context.Context, uuid.UUID, uint64, time.Duration) error {
	return session.ErrNotFound
}

func (nothing) Delete(context.Context, uuid.UUID, uint64) error { return nil }

func (nothing) Enlist(context.Context, string, uuid.UUID, time.Duration, int) ([]uuid.UUID, session.Cut, error) {
	return nil, session.Cut{}, nil
}

func (nothing) List(context.Context, string) ([]uuid.UUID, error) { return nil, nil }

func (nothing) CutOff(context.Context, string, ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	return nil, session.Cut{}, nil
}

func (nothing) End(context.Context, string, ...uuid.UUID) error { return nil }

func (nothing) LoadAll(_ context.Context, ids []uuid.UUID) ([]session.Record, error) {
	return make([]session.Record, len(ids)), nil
}

func (nothing) Versions(_ context.Context, ids []uuid.UUID) ([]uint64, error) {
	return make([]uint64, len(ids)), nil
}
