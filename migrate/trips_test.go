package migrate

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// counted is a store that counts the calls of both.
type counted struct {
	session.UserStore
	n *int
}

func (c counted) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	*c.n++
	return c.UserStore.Load(ctx, id)
}

func (c counted) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	*c.n++
	return c.UserStore.Save(ctx, id, prev, next, ttl)
}

func (c counted) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	*c.n++
	return c.UserStore.Touch(ctx, id, version, ttl)
}

func (c counted) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	*c.n++
	return c.UserStore.Delete(ctx, id, version)
}

func (c counted) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	*c.n++
	return c.UserStore.Enlist(ctx, list, id, ttl, most)
}

func (c counted) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	*c.n++
	return c.UserStore.List(ctx, list)
}

func (c counted) CutOff(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	*c.n++
	return c.UserStore.CutOff(ctx, list, except...)
}

func (c counted) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	*c.n++
	return c.UserStore.End(ctx, list, ids...)
}

func (c counted) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	if len(ids) > 0 {
		*c.n++
	}
	return c.UserStore.LoadAll(ctx, ids)
}

// The page's table of costs says what is counted here, row by row.
func TestThePageSaysHowManyRoundTripsEachPhaseCosts(t *testing.T) {
	page, err := os.ReadFile("../docs/moving.md")
	if err != nil {
		t.Fatal(err)
	}
	next := session.Record{Version: 2, Owner: "ann", Data: []byte("2")}
	for _, row := range []struct {
		name string
		do   func(ctx context.Context, s session.UserStore, id uuid.UUID) error
	}{
		{"load a session", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			_, err := s.Load(ctx, id)
			return err
		}},
		{"load one that is gone", func(ctx context.Context, s session.UserStore, _ uuid.UUID) error {
			_, _ = s.Load(ctx, uuid.New())
			return nil
		}},
		{"create one", func(ctx context.Context, s session.UserStore, _ uuid.UUID) error {
			_, err := s.Save(ctx, uuid.New(), 0, next, time.Hour)
			return err
		}},
		{"save a user's", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			_, err := s.Save(ctx, id, 1, next, time.Hour)
			return err
		}},
		{"save an anonymous one", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			_, err := s.Save(ctx, id, 1, session.Record{Version: 2, Data: []byte("2")}, time.Hour)
			return err
		}},
		{"touch a user's", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			return s.Touch(ctx, id, 1, time.Hour)
		}},
		{"log a user out", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			return s.Delete(ctx, id, 0)
		}},
		{"put a login on its list", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			_, _, err := s.Enlist(ctx, "list", id, time.Hour, 0)
			return err
		}},
		{"show a user's sessions", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			ids, err := s.List(ctx, "list")
			if err == nil {
				_, err = s.LoadAll(ctx, append(ids, id))
			}
			return err
		}},
		{"revoke a user", func(ctx context.Context, s session.UserStore, id uuid.UUID) error {
			ids, _, err := s.CutOff(ctx, "list")
			if err == nil {
				_, err = s.LoadAll(ctx, append(ids, id))
			}
			if err == nil {
				err = s.End(ctx, "list", append(ids, id)...)
			}
			return err
		}},
	} {
		line := "| " + row.name
		for _, c := range []struct {
			phase Phase
			start string
		}{{plainOld, "old"}, {WriteOld, "old"}, {WriteOld, "new"}, {WriteNew, "old"}, {WriteNew, "new"}, {NewOnly, "new"}} {
			n := 0
			old, new, id := new(session.MemoryStore), new(session.MemoryStore), uuid.New()
			begin(t, c.start, old, new, id)
			if err := row.do(t.Context(), at(t, counted{old, &n}, counted{new, &n}, c.phase), id); err != nil {
				t.Fatalf("%s in %v: %v", row.name, c.phase, err)
			}
			line += fmt.Sprint(" | ", n)
		}
		if line += " |"; !strings.Contains(string(page), line+"\n") {
			t.Errorf("docs/moving.md has no row\n%s", line)
		}
	}
}
