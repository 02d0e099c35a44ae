package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/loopback"
)

const (
	masterName = "sessions" // what the Sentinels call the primary

	// detection is how long the primary must be silent until it is taken for dead.
	// With much less, a busy machine has Sentinels fail over for nothing.
	detection = time.Second
	// redisPatience bounds what the Redis processes are waited for.
	redisPatience = 20 * time.Second
)

// A redisServer is one Redis, or one Sentinel, on an address of its own.
type redisServer struct {
	name, addr string
	process
	client *redis.Client
}

// A redisSet is a primary, two replicas and three Sentinels. Two, because a save
// counts when a replica has it: with one, none could be saved after a failover.
type redisSet struct {
	binary, dir string
	servers     []*redisServer
	sentinels   []*redisServer
	asking      []*redis.SentinelClient
	reserved    []func() // each gives an address back

	doing sync.Mutex // held by the one start that runs
}

// startRedis runs all of them and waits until each knows the others, which takes
// about three seconds. dir is a directory of their own. The error is errNoRedis
// where no Redis is installed.
func startRedis(ctx context.Context, dir string) (*redisSet, error) {
	binary, err := redisBinary()
	if err != nil {
		return nil, err
	}
	// Where ports cannot be reserved, another program may have taken one.
	for range 3 {
		set := &redisSet{binary: binary, dir: dir}
		if err = set.start(ctx); err == nil {
			return set, nil
		}
		set.close()
	}
	return nil, err
}

func (set *redisSet) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	if err := set.startServers(ctx); err != nil {
		return err
	}
	return set.startSentinels(ctx)
}

func redisBinary() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoRedis
}

func (set *redisSet) startServers(ctx context.Context) error {
	for i := range 3 {
		addr, err := set.reserve()
		if err != nil {
			return err
		}
		s := &redisServer{name: fmt.Sprintf("redis-%d", i+1), addr: addr, client: redis.NewClient(&redis.Options{
			Addr: addr, ContextTimeoutEnabled: true, DialTimeout: time.Second, ReadTimeout: time.Second,
			MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		})}
		set.servers = append(set.servers, s)
		primary := ""
		if i > 0 {
			primary = set.servers[0].addr
		}
		if err := set.run(ctx, s, primary); err != nil {
			return err
		}
	}
	return nil
}

// run starts one server, as a replica of the one at primary or as the first, and
// waits until it answers and has what its primary has.
func (set *redisSet) run(ctx context.Context, s *redisServer, primary string) error {
	host, port, _ := net.SplitHostPort(s.addr)
	args := []string{
		"--bind", host, "--port", port, "--dir", set.dir, "--logfile", filepath.Join(set.dir, s.name+".log"),
		"--save", "", "--appendonly", "no", "--protected-mode", "no",
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", // a replica catches up, and is missed, within a second
	}
	if primary != "" {
		of, at, _ := net.SplitHostPort(primary)
		args = append(args, "--replicaof", of, at)
	}
	if err := s.start(exec.Command(set.binary, args...)); err != nil {
		return err
	}
	return waitUntil(ctx, s.name+" to answer", func() bool {
		info := s.client.Info(ctx, "replication").Val()
		return primary == "" && strings.Contains(info, "role:master") || strings.Contains(info, "master_link_status:up")
	})
}

func (set *redisSet) startSentinels(ctx context.Context) error {
	host, port, _ := net.SplitHostPort(set.servers[0].addr)
	ms := detection.Milliseconds()
	for i := range 3 {
		addr, err := set.reserve()
		if err != nil {
			return err
		}
		s := &redisServer{name: fmt.Sprintf("sentinel-%d", i+1), addr: addr}
		_, own, _ := net.SplitHostPort(addr)
		conf := filepath.Join(set.dir, s.name+".conf")
		lines := fmt.Sprintf("port %[1]s\nbind 127.0.0.1\ndir %[2]s\nlogfile %[2]s/%[3]s.log\nprotected-mode no\n"+
			"sentinel monitor %[4]s %[5]s %[6]s 2\nsentinel down-after-milliseconds %[4]s %[7]d\n"+
			"sentinel failover-timeout %[4]s %[8]d\nsentinel parallel-syncs %[4]s 2\n",
			own, set.dir, s.name, masterName, host, port, ms, 4*ms)
		if err := os.WriteFile(conf, []byte(lines), 0o600); err != nil {
			return err
		}
		set.sentinels = append(set.sentinels, s)
		set.asking = append(set.asking, redis.NewSentinelClient(&redis.Options{
			Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second,
		}))
		if err := s.start(exec.Command(set.binary, conf, "--sentinel")); err != nil {
			return err
		}
	}
	return set.awaitWhole(ctx)
}

// awaitWhole waits until the Sentinels know each other, agree on a primary, and
// see both of its replicas well.
func (set *redisSet) awaitWhole(ctx context.Context) error {
	return waitUntil(ctx, "the Sentinels to know each other and the replicas", func() bool {
		if set.primary(ctx) == nil {
			return false
		}
		for _, c := range set.asking {
			m := c.Master(ctx, masterName).Val()
			if m["num-other-sentinels"] != "2" || m["flags"] != "master" {
				return false
			}
			well := 0
			replicas, _ := c.Replicas(ctx, masterName).Result()
			for _, r := range replicas {
				if r["flags"] == "slave" && r["master-link-status"] == "ok" {
					well++
				}
			}
			if well != 2 {
				return false
			}
		}
		return true
	})
}

// url is for session.Open. A save counts when one replica has it, so that a
// failover loses none.
func (set *redisSet) url() string {
	var addrs []string
	for _, s := range set.sentinels {
		addrs = append(addrs, s.addr)
	}
	return "redis+sentinel://" + strings.Join(addrs, ",") + "/" + masterName + "?replicas=1"
}

// primary is the server that two of the Sentinels call so, or nil.
func (set *redisSet) primary(ctx context.Context) *redisServer {
	votes := make(map[string]int)
	for _, c := range set.asking {
		votes[strings.Join(c.GetMasterAddrByName(ctx, masterName).Val(), ":")]++
	}
	for _, s := range set.servers {
		if votes[s.addr] >= 2 {
			return s
		}
	}
	return nil
}

// killPrimary ends the primary as a crash would, with what only it has.
func (set *redisSet) killPrimary(ctx context.Context) error {
	p := set.primary(ctx)
	if p == nil || !p.running() {
		return errors.New("cluster: the Sentinels name no primary that runs")
	}
	p.kill()
	return nil
}

// restart starts what is down. A primary that comes back empty before its
// Sentinels missed it would have its replicas throw away everything; therefore
// each comes back as a replica, once another one is primary.
func (set *redisSet) restart(ctx context.Context) error {
	set.doing.Lock()
	defer set.doing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	for _, s := range set.servers {
		if s.running() {
			continue
		}
		var primary *redisServer
		if err := waitUntil(ctx, "another primary than "+s.name, func() bool {
			primary = set.primary(ctx)
			return primary != nil && primary != s && primary.running()
		}); err != nil {
			return err
		}
		if err := set.run(ctx, s, primary.addr); err != nil {
			return err
		}
	}
	return nil
}

// close ends all processes.
func (set *redisSet) close() {
	for _, c := range set.asking {
		_ = c.Close()
	}
	for _, s := range append(set.sentinels, set.servers...) {
		s.kill()
		if s.client != nil {
			_ = s.client.Close()
		}
	}
	for _, release := range set.reserved {
		release()
	}
}

// reserve keeps an address of this machine for a server that may be killed and come
// back.
func (set *redisSet) reserve() (addr string, err error) {
	port, release, err := loopback.Reserve(0)
	if err != nil {
		return "", err
	}
	set.reserved = append(set.reserved, release)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

func waitUntil(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("cluster: gave up waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}
