package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"context"
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
