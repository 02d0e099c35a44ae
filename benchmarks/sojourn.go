package benchmarks

import (
	"net/http"
	"strconv"
	"sync/atomic"
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
	return OpenSojourn(new(session.MemoryStore), idleTimeout, users(), func() {})
}

func openSojournRedis(env Env) (*App, error) {
	client := newRedisClient(env)
	store, err := session.NewRedisStore(client, session.RedisConfig{})
	if err != nil {
		return nil, err
	}
	return OpenSojourn(store, idleTimeout, users(), func() { _ = client.Close() })
}

// newRedisClient is the client of everything that uses go-redis, the floors
// included.
func newRedisClient(env Env) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: env.Redis, ContextTimeoutEnabled: true})
}

// users returns who logs in, one of 4,096 after the other: no user has so many
// sessions that his list weighs. The other libraries know no users.
func users() func() string {
	var names [4096]string
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	var next atomic.Uint32
	return func() string { return names[next.Add(1)%uint32(len(names))] }
}

// OpenSojourn returns our application on a store that is there. Whoever logs in
// is the user that user names; if that is "" the session stays anonymous.
func OpenSojourn(store session.Store, idle time.Duration, user func() string, closeStore func()) (*App, error) {
	m, err := session.New(session.Config{Store: store, Name: "bench", IdleTimeout: idle})
	if err != nil {
		return nil, err
	}
	return &App{HTTP: m.Handler(sojournRoutes(user)), Close: closeStore}, nil
}

func sojournRoutes(user func() string) *routes {
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
			if name := user(); name != "" {
				must(s.Login(name))
			}
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
