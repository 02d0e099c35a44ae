package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session/internal/redistest"
)

// host stands in for the test that redistest expects, because the servers that
// it starts are right for a program too. What needs cleaning up is, by close.
type host struct {
	testing.TB
	cleanups []func()
	dir      string
}

func newHost() *host {
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		log.Fatal(err)
	}
	return &host{dir: dir}
}

func (h *host) Helper()                    {}
func (h *host) Failed() bool               { return false }
func (h *host) Cleanup(f func())           { h.cleanups = append(h.cleanups, f) }
func (h *host) Logf(f string, args ...any) { log.Printf(f, args...) }
func (h *host) Skip(args ...any)           { h.Fatal(args...) }

func (h *host) Fatal(args ...any) {
	h.close()
	log.Fatal(args...)
}

func (h *host) Fatalf(f string, args ...any) { h.Fatal(fmt.Sprintf(f, args...)) }

func (h *host) close() {
	for len(h.cleanups) > 0 {
		last := len(h.cleanups) - 1
		f := h.cleanups[last]
		h.cleanups = h.cleanups[:last]
		f()
	}
	_ = os.RemoveAll(h.dir)
}

// redisServer is a server with what is asked of it here.
type redisServer struct {
	*redistest.Server
	admin *redis.Client
}

func (h *host) startRedis() *redisServer {
	s := redistest.Start(h, redistest.Config{})
	return &redisServer{Server: s, admin: s.Admin()}
}

func (s *redisServer) do(args ...any) any {
	v, err := s.admin.Do(context.Background(), args...).Result()
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func (s *redisServer) info(section string) map[string]string {
	text, err := s.admin.Info(context.Background(), section).Result()
	if err != nil {
		log.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

func (s *redisServer) version() string { return s.info("server")["redis_version"] }

func (s *redisServer) flush() { s.do("FLUSHALL", "SYNC") }

// cpu is what the server has used of the processors so far.
func (s *redisServer) cpu() time.Duration {
	fields := s.info("cpu")
	var user, sys float64
	_, _ = fmt.Sscan(fields["used_cpu_user"], &user)
	_, _ = fmt.Sscan(fields["used_cpu_sys"], &sys)
	return time.Duration((user + sys) * float64(time.Second))
}

// usedMemory is what the server has allocated.
func (s *redisServer) usedMemory() int64 {
	var n int64
	_, _ = fmt.Sscan(s.info("memory")["used_memory"], &n)
	return n
}
