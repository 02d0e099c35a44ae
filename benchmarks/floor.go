package benchmarks

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Floors are what no session library can be cheaper than.
var Floors = []Peer{
	{Lib: "floor-bare", Store: "memory", Open: openBare}, // the handler alone
	{Lib: "floor-map", Store: "memory", Open: openMap},   // net/http's cookie, a map, a typed pointer
	{Lib: "floor-gin", Store: "memory", Open: openGinFloor},
	{Lib: "floor-echo", Store: "memory", Open: openEchoFloor},
	{Lib: "floor-fiber", Store: "memory", Open: openFiberFloor},
	{Lib: "floor-get", Store: "redis", Open: openRedisFloor(false)},   // the handler with one GET
	{Lib: "floor-getset", Store: "redis", Open: openRedisFloor(true)}, // and one SET of 400 bytes
}

func openBare(Env) (*App, error) { return &App{HTTP: new(routes), Close: func() {}}, nil }

// visitor is a session as somebody would write it who needs none of what a
// library does: no expiry, no other process, no new kind of value.
type visitor struct {
	mu     sync.Mutex
	email  string
	note   string
	member bool
	visits int
	seen   time.Time
}

func openMap(Env) (*App, error) {
	var mu sync.RWMutex
	visitors := make(map[string]*visitor)
	find := func(r *http.Request) *visitor {
		c, err := r.Cookie(cookieName)
		must(err)
		mu.RLock()
		defer mu.RUnlock()
		v := visitors[c.Value]
		mustTrue(v != nil)
		return v
	}
	return &App{Close: func() {}, HTTP: &routes{
		read: func(_ http.ResponseWriter, r *http.Request) { mustTrue(find(r).email == email) },
		write: func(_ http.ResponseWriter, r *http.Request) {
			v := find(r)
			v.mu.Lock()
			v.visits++
			v.mu.Unlock()
		},
		login: func(w http.ResponseWriter, _ *http.Request) {
			token := rand.Text()
			mu.Lock()
			visitors[token] = &visitor{email: email, note: note, member: true, visits: 1, seen: seen}
			mu.Unlock()
			http.SetCookie(w, &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, Secure: true})
		},
	}}, nil
}

// openRedisFloor has its key by its own name: a library has to find it from a
// cookie. The client is the one that ours and scs use.
func openRedisFloor(set bool) func(Env) (*App, error) {
	return func(env Env) (*App, error) {
		client := newRedisClient(env)
		value := make([]byte, 400)
		next := func(w http.ResponseWriter, r *http.Request) {
			got, err := client.Get(r.Context(), "floor").Bytes()
			must(err)
			mustTrue(len(got) == len(value))
			if set {
				must(client.Set(r.Context(), "floor", value, idleTimeout).Err())
			}
		}
		app := &App{Close: func() { _ = client.Close() }, HTTP: &routes{read: next, write: next, login: next}}
		return app, seedFloor(client, value)
	}
}

func seedFloor(client *redis.Client, value []byte) error {
	return client.Set(redisContext, "floor", value, idleTimeout).Err()
}
