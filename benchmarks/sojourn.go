package benchmarks

import (
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
)

var (
	keyEmail  = session.NewKey[string]("email")
	keyNote   = session.NewKey[string]("note")
	keyMember = session.NewKey[bool]("member")
	keyVisits = session.NewKey[int]("visits")
	keySeen   = session.NewKey[time.Time]("seen")
)

func openSojournMemory(Env) (*App, error) {
	return OpenSojourn(new(session.MemoryStore), idleTimeout, func() {})
}

func openSojournRedis(env Env) (*App, error) {
	client := newRedisClient(env)
	store, err := session.NewRedisStore(client, session.RedisConfig{})
	if err != nil {
		return nil, err
	}
	return OpenSojourn(store, idleTimeout, func() { _ = client.Close() })
}

// newRedisClient is the client of everything that uses go-redis, the floors
// included.
func newRedisClient(env Env) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: env.Redis, ContextTimeoutEnabled: true})
}

// OpenSojourn returns our application on a store that is there.
func OpenSojourn(store session.Store, idle time.Duration, closeStore func()) (*App, error) {
	m, err := session.New(session.Config{Store: store, Name: "bench", IdleTimeout: idle})
	if err != nil {
		return nil, err
	}
	return &App{HTTP: m.Handler(sojournRoutes()), Close: closeStore}, nil
}

func sojournRoutes() *routes {
	return &routes{
		visit: func(_ http.ResponseWriter, r *http.Request) {
			keyVisits.Set(session.FromContext(r.Context()), 1)
		},
		read: func(_ http.ResponseWriter, r *http.Request) {
			mustTrue(keyEmail.Get(session.FromContext(r.Context())) == email)
		},
		write: func(_ http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			keyVisits.Set(s, keyVisits.Get(s)+1)
		},
		login: func(_ http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			must(s.Login("42"))
			keyEmail.Set(s, email)
			keyNote.Set(s, note)
			keyMember.Set(s, true)
			keyVisits.Set(s, 1)
			keySeen.Set(s, seen)
		},
		renew: func(_ http.ResponseWriter, r *http.Request) {
			must(session.FromContext(r.Context()).Renew())
		},
		logout: func(_ http.ResponseWriter, r *http.Request) {
			session.FromContext(r.Context()).Destroy()
		},
		dump: func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			_, _ = w.Write([]byte(dump(keyEmail.Get(s), keyNote.Get(s), keyMember.Get(s), keyVisits.Get(s), keySeen.Get(s))))
		},
	}
}
