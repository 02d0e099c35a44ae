package scale

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"
	quasoft "github.com/quasoft/memstore"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/benchmarks"
)

// Stores are those that keep sessions in memory, by name.
var Stores = []struct {
	Name      string
	BytesOnly bool
	Open      func(n int) Store
}{
	{"sojourn", false, openSojourn(func(int) string { return "" })},
	{"sojourn, each of a user of his own", false, openSojourn(strconv.Itoa)},
	{"scs", false, openSCS},
	{"quasoft", true, openQuasoft},
}

// visitors log in through an application made for one time to live. Another one
// takes its place when that changes.
type visitors struct {
	open func(ttl time.Duration) *benchmarks.App
	ttl  time.Duration
	c    *benchmarks.Client
}

func (v *visitors) login(ttl time.Duration) (token string) {
	if v.c == nil || ttl != v.ttl {
		v.ttl, v.c = ttl, v.open(ttl).NewClient()
	}
	v.c.Do(benchmarks.Login, "")
	_, token, _ = strings.Cut(v.c.Cookie(""), "=")
	return token
}

// sojourn is asked by ID, as its manager does; the IDs are seen on their way.
type sojourn struct {
	session.MemoryStore
	visitors
	next int
	ids  []uuid.UUID
}

func openSojourn(user func(i int) string) func(n int) Store {
	return func(n int) Store {
		s := &sojourn{ids: make([]uuid.UUID, n)}
		s.open = func(ttl time.Duration) *benchmarks.App {
			app, err := benchmarks.OpenSojourn(s, ttl, func() string { return user(s.next) }, func() {})
			if err != nil {
				panic(err)
			}
			return app
		}
		return &sojournStore{s}
	}
}

func (s *sojourn) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.ids[s.next] = id
	return s.MemoryStore.Save(ctx, id, prev, next, ttl)
}

// sojournStore keeps the two meanings of Load apart.
type sojournStore struct{ s *sojourn }

func (s *sojournStore) Create(i int, ttl time.Duration) {
	s.s.next = i
	s.s.login(ttl)
}

func (s *sojournStore) Load(i int) bool {
	_, err := s.s.MemoryStore.Load(context.Background(), s.s.ids[i])
	return err == nil
}

func (s *sojournStore) Close() {}

const scsToken = 43 // characters

type scsStore struct {
	visitors
	store  *memstore.MemStore
	tokens []byte // copies, so that the cookies they came in are not kept
	all    string
}

// openSCS sweeps every ten seconds, as ours does, so that a sweep falls into the
// time that is watched; the default is a minute.
func openSCS(n int) Store {
	s := &scsStore{store: memstore.NewWithCleanupInterval(10 * time.Second), tokens: make([]byte, n*scsToken)}
	s.open = func(ttl time.Duration) *benchmarks.App { return benchmarks.OpenSCS(s.store, 0, ttl, func() {}) }
	return s
}

func (s *scsStore) Create(i int, ttl time.Duration) {
	copy(s.tokens[i*scsToken:(i+1)*scsToken], s.login(ttl))
}

func (s *scsStore) Load(i int) bool {
	if s.all == "" {
		s.all, s.tokens = string(s.tokens), nil
	}
	_, found, err := s.store.Find(s.all[i*scsToken : (i+1)*scsToken])
	return found && err == nil
}

func (s *scsStore) Close() { s.store.StopCleanup() }

// quasoftStore has no way to load a session but a whole request.
type quasoftStore struct{ visitors }

func openQuasoft(int) Store {
	store := quasoft.NewMemStore([]byte("0123456789abcdef0123456789abcdef"))
	s := &quasoftStore{}
	app := benchmarks.OpenGorilla(store, func() {})
	s.open = func(time.Duration) *benchmarks.App { return app }
	return s
}

func (s *quasoftStore) Create(_ int, ttl time.Duration) { s.login(ttl) }
func (s *quasoftStore) Load(int) bool                   { return true }
func (s *quasoftStore) Close()                          {}
