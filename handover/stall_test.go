package handover_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// A Drain over a network that holds commands back, loses replies and cuts them in
// half, while another server logs out every second visitor as soon as it sees them.
// When what was held reaches Redis at last, nobody is in again who was logged out,
// and everybody else is.
func TestDrainOverABadNetworkRevivesNobody(t *testing.T) {
	const n = 200
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Addr)
	open := func(o *redis.Options) session.Store {
		store, err := session.NewRedisStore(server.Client(o), session.RedisConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	s := serving(open(&redis.Options{Addr: proxy.Addr, ReadTimeout: 50 * time.Millisecond, DialTimeout: time.Second}))
	direct := open(&redis.Options{})
	other := serving(direct)
	ids := fill(t, s, n)

	proxy.Decide(func([]string) redistest.Action {
		switch rand.IntN(12) {
		case 0, 1:
			return redistest.HoldCommand
		case 2:
			return redistest.DropReply
		case 3:
			return redistest.HalfReply
		case 4:
			return redistest.Refuse
		}
		return redistest.Pass
	})
	drained := make(chan error, 1)
	go func() {
		_, err := s.Drain(t.Context())
		drained <- err
	}()
	out := make(map[int]bool)
	await(t, "every second visitor was seen, and logged out", func() bool {
		for i := 0; i < n; i += 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			if _, err := other.Load(ctx, ids[i]); err == nil && !out[i] {
				if err := other.Delete(t.Context(), ids[i], 0); err != nil {
					t.Error(err)
				}
				out[i] = true
			}
			cancel()
		}
		return len(out) == n/2
	})
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	proxy.Decide(nil)
	proxy.Release()
	check := func() {
		for i, id := range ids {
			rec, err := direct.Load(t.Context(), id)
			switch {
			case out[i] && (errors.Is(err, session.ErrNotFound) || err == nil && rec.Version != uint64(i+1)):
				// a placeholder that was held is no session
			case out[i]:
				t.Errorf("session %d was logged out, and is there again: %v", i, err)
			case err != nil || rec.Version != uint64(i+1):
				t.Errorf("session %d: version %d, %v", i, rec.Version, err)
			}
		}
	}
	check()
	time.Sleep(200 * time.Millisecond) // for what was held
	check()
	if r := s.Progress(); r.Left != 0 || r.Moved+r.Gone != n {
		t.Errorf("%+v", r)
	}
}
