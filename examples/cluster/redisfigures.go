package main

import (
	"context"
	"fmt"
	"strings"
)

// role is what a server takes itself for: primary, replica or down.
func (s *redisServer) role(ctx context.Context) string {
	if !s.running() {
		return "down"
	}
	info := s.client.Info(ctx, "replication").Val()
	switch {
	case strings.Contains(info, "role:master"):
		return "primary"
	case strings.Contains(info, "role:slave"):
		return "replica"
	}
	return "down"
}

// upkeep are commands that no request causes: those of replication, of Sentinels,
// of this program, and of connections that begin.
var upkeep = map[string]bool{
	"ping": true, "info": true, "publish": true, "subscribe": true, "psubscribe": true, "replconf": true, "psync": true,
	"hello": true, "client": true, "auth": true, "role": true, "config": true, "slaveof": true, "replicaof": true,
	"command": true, "exec": true, "multi": true, "dbsize": true, "script": true,
}

// commands is how many commands the server has run since it started, those that
// scripts call included, without upkeep.
func (s *redisServer) commands(ctx context.Context) int64 {
	info, _ := s.client.InfoMap(ctx, "commandstats").Result()
	var sum int64
	for name, line := range info["Commandstats"] {
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "cmdstat_"), "|")
		var calls int64
		if _, err := fmt.Sscanf(line, "calls=%d", &calls); err == nil && !upkeep[name] {
			sum += calls
		}
	}
	return sum
}

// keys is how many keys the server has, the lists of users' sessions
// included.
func (s *redisServer) keys(ctx context.Context) int64 {
	n, _ := s.client.DBSize(ctx).Result()
	return n
}

// version is that of the servers, "?" if none answers.
func (set *redisSet) version(ctx context.Context) string {
	for _, s := range set.servers {
		info, _ := s.client.InfoMap(ctx, "server").Result()
		if v := info["Server"]["redis_version"]; v != "" {
			return v
		}
	}
	return "?"
}
