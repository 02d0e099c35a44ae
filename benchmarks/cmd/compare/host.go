package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session/internal/redistest"
)

// host has the servers and the directory of a run, until Close.
type host struct {
	redistest.Program
	dir string
}

func newHost() *host {
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		log.Fatal(err)
	}
	h := &host{dir: dir}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	return h
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
