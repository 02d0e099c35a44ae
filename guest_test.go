package session_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// newManager makes a manager that tests can provoke in silence.
func newManager(t testing.TB, cfg session.Config) *session.Manager {
	t.Helper()
	if cfg.Store != nil && cfg.Name == "" {
		cfg.Name = "test"
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// A guest is a browser that keeps one cookie, without a network.
type guest struct {
	t       testing.TB
	manager *session.Manager
	cookie  string // name=value
}

// visit sends one request through the manager and keeps the cookie that comes back.
func (v *guest) visit(handle func(s *session.Session)) *httptest.ResponseRecorder {
	return v.request(func(_ http.ResponseWriter, r *http.Request) { handle(v.manager.FromContext(r.Context())) })
}

func (v *guest) request(handle http.HandlerFunc) *httptest.ResponseRecorder {
	v.t.Helper()
	r := httptest.NewRequest("POST", "/", nil)
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	w := httptest.NewRecorder()
	v.manager.Handler(handle).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		v.cookie = c.Name + "=" + c.Value
		if c.MaxAge < 0 {
			v.cookie = ""
		}
	}
	return w
}

// tab is the same browser with the cookie that it has now. What one of the two
// gets later, the other does not: the request of a tab was sent before.
func (v *guest) tab() *guest {
	c := *v
	return &c
}

// newStalled is a guest of a manager whose store can be held and made to fail.
func newStalled(t testing.TB, cfg session.Config) (v *guest, store *stallStore, records *session.MemoryStore) {
	t.Helper()
	records = new(session.MemoryStore)
	store = newStallStore(records)
	cfg.Store = store
	return &guest{t: t, manager: newManager(t, cfg)}, store, records
}

// A spyStore counts calls, and keeps what it was given.
type spyStore struct {
	session.Store
	mu                          sync.Mutex
	loads, saves, touches, dels int
	seen                        []string
	inSave                      func(context.Context) error // an error is the answer
	during                      func(call string)           // save, touch or delete
}

func (s *spyStore) note(n *int, what ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	s.seen = append(s.seen, what...)
}

func (s *spyStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	s.note(&s.loads, id.String())
	return s.Store.Load(ctx, id)
}

func (s *spyStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.note(&s.saves, id.String(), next.Owner, string(next.Data))
	s.tell("save")
	if s.inSave != nil {
		if err := s.inSave(ctx); err != nil {
			return session.Record{}, err
		}
	}
	return s.Store.Save(ctx, id, prev, next, ttl)
}

func (s *spyStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	s.note(&s.touches, id.String())
	s.tell("touch")
	return s.Store.Touch(ctx, id, version, ttl)
}

func (s *spyStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	s.note(&s.dels, id.String())
	s.tell("delete")
	return s.Store.Delete(ctx, id, version)
}

func (s *spyStore) tell(call string) {
	if s.during != nil {
		s.during(call)
	}
}

func (s *spyStore) calls() int { return s.loads + s.saves + s.touches + s.dels }

func body(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
