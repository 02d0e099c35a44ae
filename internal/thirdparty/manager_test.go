package thirdparty

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

// A bench is a manager on one of the stores, and what it stored.
type bench struct {
	*testing.T
	m     *session.Manager
	store *knownStore
}

// eachStore runs a test in memory and on a Redis server.
func eachStore(t *testing.T, test func(b *bench)) {
	t.Run("memory", func(t *testing.T) { test(newBench(t, new(session.MemoryStore))) })
	t.Run("redis", func(t *testing.T) {
		store, err := session.NewRedisStore(redistest.Start(t, redistest.Config{}).Client(&redis.Options{}), session.RedisConfig{})
		if err != nil {
			t.Fatal(err)
		}
		test(newBench(t, store))
	})
}

func newBench(t *testing.T, store session.Store) *bench {
	t.Helper()
	known := &knownStore{Store: store}
	m, err := session.New(session.Config{Store: known, Name: "thirdparty", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, m, known}
}

// fresh runs a subtest that has stored nothing yet.
func (b *bench) fresh(name string, test func(b *bench)) {
	b.Helper()
	b.Run(name, func(t *testing.T) { test(newBench(t, b.store.Store)) })
}

// A knownStore remembers which records were saved, and fails saves on demand.
type knownStore struct {
	session.Store
	mu   sync.Mutex
	ids  map[uuid.UUID]bool
	away bool
}

func (s *knownStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.mu.Lock()
	if s.ids == nil {
		s.ids = make(map[uuid.UUID]bool)
	}
	s.ids[id] = true
	away := s.away
	s.mu.Unlock()
	if away {
		return session.Record{}, errAway
	}
	return s.Store.Save(ctx, id, prev, next, ttl)
}

func (s *knownStore) setAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = true
}

// live counts the records that were saved and are there.
func (s *knownStore) live() (ids []uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ids {
		if _, err := s.Load(context.Background(), id); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// wantPair checks that the header's cookie and the only record belong together.
func (b *bench) wantPair(h http.Header) *http.Cookie {
	b.Helper()
	for _, c := range (&http.Response{Header: h}).Cookies() {
		live := b.store.live()
		if token, _ := base64.RawURLEncoding.DecodeString(c.Value); len(live) == 1 && len(token) == 48 && uuid.UUID(token[:16]) == live[0] {
			return c
		}
	}
	b.Fatalf("header %v and records %v: want a cookie and its record", h, b.store.live())
	return nil
}

// wantNeither checks that the header has no cookie, and the store no record.
func (b *bench) wantNeither(h http.Header) {
	b.Helper()
	if len(h["Set-Cookie"]) != 0 || len(b.store.live()) != 0 {
		b.Errorf("header %v and records %v: want no cookie and no record", h, b.store.live())
	}
}

// visitor has a stored session with text=before.
func (b *bench) visitor() *http.Cookie {
	b.Helper()
	return sessiontest.Cookie(b.T, b.m, func(s *session.Session) { text.Set(s, "before") })
}

// wantStored checks what the visitor's next request finds.
func (b *bench) wantStored(cookie *http.Cookie, want string) {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookie)
	b.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := text.Get(session.FromContext(r.Context())); got != want {
			b.Errorf("stored %q, want %q", got, want)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}
