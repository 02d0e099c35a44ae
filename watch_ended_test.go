package session_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// A loop that asks for Done in each round, while another goroutine of the request
// logs out, hangs up whichever comes first.
func TestDoneAfterTheRequestsOwnLogoutIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.Config{})
		v := &guest{t: t, manager: m}
		v.visit(loginAs("alice"))
		v.visit(func(s *session.Session) {
			s.Destroy()
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
			if !isClosed(s.Done()) {
				t.Error("Done after Destroy was saved is open")
			}
		})
		(&guest{t: t, manager: m}).visit(func(s *session.Session) {
			_ = s.Login("alice")
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
			if isClosed(s.Done()) {
				t.Error("Done of a session that was just stored is closed")
			}
			s.Destroy()
			if err := s.Save(t.Context()); err != nil {
				t.Error(err)
			}
			if !isClosed(s.Done()) {
				t.Error("Done after Destroy was saved is open")
			}
		})
	})
}

// Nil is for who never had a secret.
func TestDoneOfASessionThatCameAndWentInOneRequest(t *testing.T) {
	m := newManager(t, session.Config{})
	(&guest{t: t, manager: m}).visit(func(s *session.Session) {
		countKey.Set(s, 1)
		if s.Done() != nil {
			t.Error("Done of a session that was not saved is not nil")
		}
		if err := s.Save(t.Context()); err != nil {
			t.Error(err)
		}
		s.Destroy()
		if err := s.Save(t.Context()); err != nil {
			t.Error(err)
		}
		if !isClosed(s.Done()) {
			t.Error("Done after Destroy was saved is open")
		}
	})
}

// A farStore is no UserStore, and takes two milliseconds to load a record.
type farStore struct{ session.Store }

func (s farStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	select {
	case <-time.After(2 * time.Millisecond):
		return s.Store.Load(ctx, id)
	case <-ctx.Done():
		return session.Record{}, ctx.Err()
	}
}

// A store that is asked for one record after the other takes longer for many
// streams, not for ever.
func TestDoneOfManyStreamsOnAStoreWithoutLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := farStore{new(session.MemoryStore)}
		m, there := newManager(t, session.Config{Store: store}), newManager(t, session.Config{Store: store})
		var streams []*stream
		var ids []uuid.UUID
		for range 1500 {
			v := &guest{t: t, manager: m}
			v.visit(func(s *session.Session) { countKey.Set(s, 1); ids = append(ids, s.ID()) })
			streams = append(streams, v.open(nil))
		}
		time.Sleep(10 * time.Second)
		if err := there.RevokeAny(t.Context(), ids[700]); err != nil {
			t.Fatal(err)
		}
		streams[700].within("revoked on another server", 10*time.Second)
		streams[701].stays("not revoked", 10*time.Second)
	})
}

// A bulkyStore takes a millisecond for each record of a batch.
type bulkyStore struct{ session.UserStore }

func (s bulkyStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	select {
	case <-time.After(time.Duration(len(ids)) * time.Millisecond):
		return s.UserStore.LoadAll(ctx, ids)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// So many sessions change at once that reading them all takes longer than
// StoreTimeout.
func TestDoneAfterABurstOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := bulkyStore{new(session.MemoryStore)}
		m, there := newManager(t, session.Config{Store: store}), newManager(t, session.Config{Store: store})
		streams := make([]*stream, 3000)
		for i := range streams {
			v := &guest{t: t, manager: m}
			v.visit(countOneUp)
			streams[i] = v.open(nil)
			v.manager = there
			if i == 700 {
				v.visit(func(s *session.Session) { _ = s.Renew() })
			} else {
				v.visit(countOneUp)
			}
		}
		streams[700].within("renewed on another server", 10*time.Second)
		streams[701].stays("changed on another server", 10*time.Second)
	})
}
