package benchmarks

import (
	"net/http"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
)

// scs without an idle timeout is its default and its cheapest form. With one,
// every request that finds a session saves it.
func openSCSMemory(idle time.Duration) func(Env) (*App, error) {
	return func(Env) (*App, error) {
		store := memstore.New()
		return OpenSCS(store, idle, lifetime, store.StopCleanup), nil
	}
}

func openSCSRedis(idle time.Duration) func(Env) (*App, error) {
	return func(env Env) (*App, error) {
		client := newRedisClient(env)
		return OpenSCS(goredisstore.New(client), idle, lifetime, func() { _ = client.Close() }), nil
	}
}

// OpenSCS returns the application of scs on a store that is there.
func OpenSCS(store scs.Store, idle, lifetime time.Duration, closeStore func()) *App {
	sm := scs.New()
	sm.Store = store
	sm.IdleTimeout = idle
	sm.Lifetime = lifetime
	sm.Cookie.Name = cookieName
	sm.Cookie.Secure = true
	return &App{HTTP: sm.LoadAndSave(scsRoutes(sm)), Close: closeStore}
}

func scsRoutes(sm *scs.SessionManager) *routes {
	return &routes{
		visit: func(_ http.ResponseWriter, r *http.Request) { sm.Put(r.Context(), "visits", 1) },
		read: func(_ http.ResponseWriter, r *http.Request) {
			mustTrue(sm.GetString(r.Context(), "email") == email)
		},
		write: func(_ http.ResponseWriter, r *http.Request) {
			sm.Put(r.Context(), "visits", sm.GetInt(r.Context(), "visits")+1)
		},
		login: func(_ http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			must(sm.RenewToken(ctx))
			sm.Put(ctx, "email", email)
			sm.Put(ctx, "note", note)
			sm.Put(ctx, "member", true)
			sm.Put(ctx, "visits", 1)
			sm.Put(ctx, "seen", seen)
		},
		renew:  func(_ http.ResponseWriter, r *http.Request) { must(sm.RenewToken(r.Context())) },
		logout: func(_ http.ResponseWriter, r *http.Request) { must(sm.Destroy(r.Context())) },
		dump: func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			_, _ = w.Write([]byte(dump(sm.GetString(ctx, "email"), sm.GetString(ctx, "note"),
				sm.GetBool(ctx, "member"), sm.GetInt(ctx, "visits"), sm.GetTime(ctx, "seen"))))
		},
	}
}
