package thirdparty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// A subject is a session library as the rows of the comparison see it.
type subject struct {
	cookie  string
	wrap    func(http.Handler) http.Handler
	set     func(ctx context.Context, text string)
	get     func(ctx context.Context) string
	login   func(ctx context.Context) error
	records func() int
	away    *atomic.Bool // the store fails every save
}

var (
	text    = session.NewKey[string]("text").SurvivesLogin()
	errAway = errors.New("the store is away")
)

// sojourn is this library.
func sojourn(t *testing.T) *subject {
	t.Helper()
	store := &fallibleStore{Store: new(session.MemoryStore)}
	m, err := session.New(session.Config{Store: store, Name: "thirdparty", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &subject{
		cookie:  "__Host-sid",
		wrap:    m.Handler,
		set:     func(ctx context.Context, v string) { text.Set(session.FromContext(ctx), v) },
		get:     func(ctx context.Context) string { return text.Get(session.FromContext(ctx)) },
		login:   func(ctx context.Context) error { return session.FromContext(ctx).Login("alice") },
		records: store.Store.(*session.MemoryStore).Len,
		away:    &store.away,
	}
}

type fallibleStore struct {
	session.Store
	away atomic.Bool
}

func (s *fallibleStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if s.away.Load() {
		return session.Record{}, errAway
	}
	return s.Store.Save(ctx, id, prev, next, ttl)
}

// edwards is github.com/alexedwards/scs, used as its README says.
func edwards(t *testing.T) *subject {
	t.Helper()
	store := &fallibleSCSStore{MemStore: memstore.NewWithCleanupInterval(0)}
	m := scs.New()
	m.Store = store
	m.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, _ error) { // the default, without its log line
		http.Error(w, http.StatusText(500), 500)
	}
	return &subject{
		cookie: "session",
		wrap:   m.LoadAndSave,
		set:    func(ctx context.Context, v string) { m.Put(ctx, "text", v) },
		get:    func(ctx context.Context) string { return m.GetString(ctx, "text") },
		login:  m.RenewToken,
		records: func() int {
			all, err := store.All()
			if err != nil {
				t.Error(err)
			}
			return len(all)
		},
		away: &store.away,
	}
}

type fallibleSCSStore struct {
	*memstore.MemStore
	away atomic.Bool
}

func (s *fallibleSCSStore) Commit(token string, b []byte, expiry time.Time) error {
	if s.away.Load() {
		return errAway
	}
	return s.MemStore.Commit(token, b, expiry)
}

// serve runs h over TLS until the test ends.
func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics, and statuses that are written twice
	server.StartTLS()
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(server.Close)
	return server
}

// An answer is what a visitor gets, nil if the connection broke.
type answer struct {
	*http.Response
	body string
}

func get(t *testing.T, server *httptest.Server, cookie *http.Cookie) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return &answer{resp, string(body)}
}

// ask puts one request to a handler behind the library.
func (s *subject) ask(t *testing.T, cookie *http.Cookie, h http.HandlerFunc) *answer {
	t.Helper()
	server := serve(t, s.wrap(h))
	defer server.Close() // which waits for the handler
	return get(t, server, cookie)
}

// granted are the library's cookies in an answer.
func (s *subject) granted(a *answer) (cookies []*http.Cookie) {
	if a == nil {
		return nil
	}
	for _, c := range a.Cookies() {
		if c.Name == s.cookie {
			cookies = append(cookies, c)
		}
	}
	return cookies
}

// visitor has a stored session with text=before.
func (s *subject) visitor(t *testing.T) *http.Cookie {
	t.Helper()
	a := s.ask(t, nil, func(_ http.ResponseWriter, r *http.Request) { s.set(r.Context(), "before") })
	if c := s.granted(a); len(c) == 1 {
		return c[0]
	}
	t.Fatalf("no cookie for a visitor: %+v", a)
	return nil
}

// left is what the visitor's next request finds.
func (s *subject) left(t *testing.T, cookie *http.Cookie) (found string) {
	t.Helper()
	s.ask(t, cookie, func(_ http.ResponseWriter, r *http.Request) { found = s.get(r.Context()) })
	if found == "" {
		return "session gone"
	}
	return "stored " + found
}

// pair tells of a new visitor's cookie and record.
func (s *subject) pair(a *answer) string {
	return fmt.Sprintf("%d cookie, %d record", len(s.granted(a)), s.records())
}
