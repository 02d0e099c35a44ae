package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/disk"
	"github.com/sojourn-go/session/internal/redistest"
)

// A subject is one way to keep sessions, with everybody logged in.
type subject struct {
	name    string
	app     http.Handler
	cookies []string
	syncs   func() int64 // so far; nil where nobody counts them
}

// none counts the syncs of what has no file.
func none() int64 { return 0 }

// newSubject waits for a store much longer than a site should: a disk that stalls
// is to be measured, not given up.
func newSubject(name string, store session.Store, syncs func() int64) (subject, error) {
	sessions, err := session.New(session.Config{Store: store, Name: "compare", StoreTimeout: patience})
	if err != nil {
		return subject{}, err
	}
	app := sessions.Handler(routes())
	cookies, err := logIn(app)
	return subject{name, app, cookies, syncs}, err
}

const patience = time.Minute

var redisModes = []struct {
	name  string
	args  []string
	syncs func() int64
}{
	{"Redis, no persistence", nil, none},
	{"Redis, `appendfsync everysec`", []string{"--appendonly", "yes", "--appendfsync", "everysec"}, nil},
	{"Redis, `appendfsync always`", []string{"--appendonly", "yes", "--appendfsync", "always"}, nil},
}

// openAll starts everything that is compared, and tells the version of Redis. The
// servers wait for work side by side, which costs those that are not asked next to
// nothing.
func openAll(servers testing.TB, dir string) (all []subject, version string, err error) {
	add := func(name string, store session.Store, syncs func() int64) error {
		s, err := newSubject(name, store, syncs)
		all = append(all, s)
		return err
	}
	if err := add("MemoryStore", new(session.MemoryStore), none); err != nil {
		return nil, "", err
	}
	for _, mode := range redisModes {
		server := redistest.Start(servers, redistest.Config{Args: mode.args})
		if version, err = lookAtRedis(server.Admin(), len(mode.args) > 0); err != nil {
			return nil, "", err
		}
		client := server.Client(&redis.Options{ReadTimeout: patience, WriteTimeout: patience})
		store, err := session.NewRedisStore(client, session.RedisConfig{})
		if err != nil {
			return nil, "", err
		}
		if err := add(mode.name, store, mode.syncs); err != nil {
			return nil, "", err
		}
	}
	file, err := disk.Open(filepath.Join(dir, "sessions"))
	if err != nil {
		return nil, "", err
	}
	servers.Cleanup(func() { _ = file.Close() })
	return all, version, add("bbolt", file, file.Syncs)
}

// lookAtRedis returns the server's version. It fails unless the server writes what
// it is told to a file, or does not, as it should.
func lookAtRedis(admin *redis.Client, file bool) (version string, err error) {
	info, err := admin.InfoMap(context.Background(), "server", "persistence").Result()
	if err != nil {
		return "", err
	}
	if got := info["Persistence"]["aof_enabled"] == "1"; got != file {
		return "", fmt.Errorf("compare: the server has a file: %v, want %v", got, file)
	}
	return info["Server"]["redis_version"], nil
}
