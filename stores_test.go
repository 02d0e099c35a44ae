package session_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// quiet is for tests that provoke what a manager logs.
var quiet = slog.New(slog.DiscardHandler)

// eachStore runs a test on every store that ships with the library: in memory,
// on a Redis server, and on miniredis, which a machine without one has too.
//
// In a process that [TestRacesOverTopologies] started it is the one store that
// that test names.
func eachStore(t *testing.T, test func(t *testing.T, store session.Store)) {
	if os.Getenv(topologyURL) != "" {
		t.Run("topology", func(t *testing.T) { test(t, topologyStore(t)) })
		return
	}
	t.Run("memory", func(t *testing.T) { test(t, new(session.MemoryStore)) })
	t.Run("miniredis", func(t *testing.T) {
		server := miniredis.RunT(t)
		test(t, redisStore(t, redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, DisableIdentity: true})))
	})
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t, redistest.Config{})
		test(t, redisStore(t, server.Client(&redis.Options{ContextTimeoutEnabled: true})))
	})
}

// redisStore is a store on client, which ends with the test.
func redisStore(t *testing.T, client *redis.Client) session.Store {
	t.Helper()
	t.Cleanup(func() { client.Close() })
	store, err := session.NewRedisStore(client, session.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
