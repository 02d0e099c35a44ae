package linear

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

const (
	clients = 6
	// sessions are few, so that clients meet, and each has a short history.
	sessions = 12
	checking = 60 * time.Second
)

// A recorder lets clients loose on a store and writes down what they saw.
type recorder struct {
	t       *testing.T
	store   session.Store
	ids     []uuid.UUID
	began   time.Time
	mu      sync.Mutex
	history []porcupine.Operation
	unknown int
}

func newRecorder(t *testing.T, store session.Store) *recorder {
	r := &recorder{t: t, store: store, began: time.Now()}
	for range sessions {
		r.ids = append(r.ids, uuid.New())
	}
	return r
}

// run has each client make so many calls, with a pause after each.
func (r *recorder) run(calls int, pause time.Duration) {
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			c := client{r: r, n: n, seen: make(map[uuid.UUID]uint64), doubt: make(map[uuid.UUID]call), rand: rand.New(rand.NewPCG(uint64(n), 1))}
			for range calls {
				c.call()
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
}

// A client knows what it saw last of each session, and what it was not told.
type client struct {
	r     *recorder
	n     int
	rand  *rand.Rand
	seen  map[uuid.UUID]uint64
	doubt map[uuid.UUID]call
}

func (c *client) call() {
	id := c.r.ids[c.rand.IntN(sessions)]
	in := call{id: id, prev: c.seen[id]}
	switch n := c.rand.IntN(20); {
	case n < 7:
		in.kind = load
	case n < 15:
		in.kind, in.next = save, c.rand.Uint64()|1
		if doubt, ok := c.doubt[id]; ok { // as a manager does (C5)
			in = doubt
		}
		delete(c.doubt, id)
	case n < 17:
		in.kind = touch
	case n < 19:
		in.kind = remove
	default:
		in.kind, in.prev = remove, 0
	}
	called := time.Since(c.r.began)
	out := c.r.send(in)
	returned := time.Since(c.r.began)
	switch {
	case errors.Is(out.err, errUnknown):
		if in.kind == save {
			c.doubt[id] = in
		}
		if in.kind == load || in.kind == touch {
			return // says nothing, and changes nothing that a load shows
		}
		returned = math.MaxInt64 // it may happen at any time from now on
	case out.live != 0:
		c.seen[id] = out.live
	case in.kind == save && out.err == nil:
		c.seen[id] = in.next
	case in.kind == remove && out.err == nil, errors.Is(out.err, session.ErrNotFound):
		c.seen[id] = 0
	}
	c.r.note(porcupine.Operation{ClientId: c.n, Input: in, Output: out, Call: int64(called), Return: int64(returned)})
}

func (r *recorder) note(op porcupine.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, op)
	if op.Return == math.MaxInt64 {
		r.unknown++
	}
}

// send makes the call. What a record holds follows from its version, so that a
// record of two writes would be noticed.
func (r *recorder) send(c call) reply {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var rec session.Record
	var err error
	switch c.kind {
	case load:
		rec, err = r.store.Load(ctx, c.id)
	case save:
		rec, err = r.store.Save(ctx, c.id, c.prev, session.Record{Version: c.next, Data: dataOf(c.next)}, time.Hour)
	case touch:
		err = r.store.Touch(ctx, c.id, c.prev, time.Hour)
	case remove:
		err = r.store.Delete(ctx, c.id, c.prev)
	}
	if rec.Version != 0 && !bytes.Equal(rec.Data, dataOf(rec.Version)) {
		r.t.Errorf("version %x holds %x", rec.Version, rec.Data)
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict) {
		err = errUnknown
	}
	return reply{err, rec.Version}
}

func dataOf(version uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, version), 8)
}

func (r *recorder) check() porcupine.CheckResult {
	m := model
	return porcupine.CheckOperationsTimeout(m.ToModel(), r.history, checking)
}

// holds fails the test unless the history could be one client's.
func (r *recorder) holds() {
	r.t.Helper()
	r.t.Logf("%d calls, %d of them with an unknown outcome", len(r.history), r.unknown)
	if got := r.check(); got != porcupine.Ok {
		r.t.Errorf("the history is %s", got)
	}
}

func TestMemoryStoreIsLinearizable(t *testing.T) {
	r := newRecorder(t, new(session.MemoryStore))
	r.run(1000, 0)
	r.holds()
}

func TestRedisStoreIsLinearizable(t *testing.T) {
	r := newRecorder(t, redisAt(t, redistest.Start(t, redistest.Config{}).Addr))
	r.run(500, 0)
	r.holds()
}

func redisAt(t *testing.T, addr string) session.Store {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true, DialerRetries: 1,
		ReadTimeout: 300 * time.Millisecond, DialTimeout: 300 * time.Millisecond,
	})
	t.Cleanup(func() { _ = c.Close() })
	s, err := session.NewRedisStore(c, session.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Connections are reset before, within and after one command in thirty.
func TestRedisStoreIsLinearizableThroughResets(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Addr)
	store := redisAt(t, proxy.Addr)
	phases := []redistest.Action{redistest.Refuse, redistest.HalfCommand, redistest.DropReply, redistest.HalfReply, redistest.Delay(400 * time.Millisecond)}
	n := 0
	proxy.Decide(func([]string) redistest.Action {
		if n++; n%30 != 0 {
			return redistest.Pass
		}
		return phases[n/30%len(phases)]
	})
	r := newRecorder(t, store)
	r.run(200, 0)
	if r.unknown == 0 {
		t.Error("no outcome was unknown")
	}
	r.holds()
}

// The server is killed and started again while clients write. It appends each
// write to a file before it answers, so it keeps what it confirmed.
func TestRedisStoreIsLinearizableThroughRestarts(t *testing.T) {
	server := redistest.Start(t, redistest.Config{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	r := newRecorder(t, redisAt(t, server.Addr))
	var wg sync.WaitGroup
	done := make(chan struct{})
	restarts := 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(150 * time.Millisecond):
				server.Stop()
				server.Start()
				restarts++
			}
		}
	})
	r.run(200, 3*time.Millisecond)
	close(done)
	wg.Wait()
	t.Logf("%d restarts", restarts)
	if restarts == 0 || r.unknown == 0 {
		t.Errorf("%d restarts, %d unknown outcomes", restarts, r.unknown)
	}
	r.holds()
}

// A store that breaks the contract now and then is caught: the checker, and the
// clients, see enough.
func TestBrokenStoresAreCaught(t *testing.T) {
	for name, broken := range map[string]session.Store{
		"a save of what was deleted brings it back": &upserting{Store: new(session.MemoryStore)},
		"a save is confirmed and dropped":           &dropping{Store: new(session.MemoryStore)},
		"a load is a moment old":                    &stale{Store: new(session.MemoryStore)},
		"a deletion is confirmed and not done":      &keeping{Store: new(session.MemoryStore)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder(t, broken)
			r.run(1000, 0)
			if got := r.check(); got != porcupine.Illegal {
				t.Errorf("the history is %s", got)
			}
		})
	}
}

type upserting struct{ session.Store }

func (s *upserting) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	live, err := s.Store.Save(ctx, id, prev, next, ttl)
	if errors.Is(err, session.ErrNotFound) {
		return s.Store.Save(ctx, id, 0, next, ttl)
	}
	return live, err
}

type dropping struct{ session.Store }

func (s *dropping) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if next.Version%64 == 1 {
		if rec, err := s.Load(ctx, id); err == nil && rec.Version == prev {
			return session.Record{}, nil
		}
	}
	return s.Store.Save(ctx, id, prev, next, ttl)
}

type stale struct {
	session.Store
	cache sync.Map
}

func (s *stale) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	if rec, ok := s.cache.Load(id); ok && rand.IntN(20) == 0 {
		return rec.(session.Record), nil
	}
	rec, err := s.Store.Load(ctx, id)
	if err == nil {
		s.cache.Store(id, rec)
	}
	return rec, err
}

type keeping struct{ session.Store }

func (s *keeping) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if rec, err := s.Load(ctx, id); err == nil && rec.Version%64 == 1 && (version == 0 || version == rec.Version) {
		return nil
	}
	return s.Store.Delete(ctx, id, version)
}
