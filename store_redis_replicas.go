package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisConfig.Replicas: what a write has to wait for before it counts.
//
// WAIT speaks of the writes of its own connection, up to the last one. So it is
// sent in one pipeline behind the write, and a script whose answer will be taken
// for "it is stored" or "it is gone" ends in a write even when it finds the work
// done: by an earlier send of it, whose connection is gone and whose WAIT may
// have failed. Replication is one ordered stream, so a replica that has the later
// write has all before it. (Up to Redis 7.0, WAIT also covers what other
// connections wrote before this one's last command. Since 7.2 it does not.)

const maxReplicas = 16

func checkReplicaCount(n int) error {
	if n < 0 || n > maxReplicas {
		return fmt.Errorf("session: RedisConfig.Replicas is %d; make it 0 for none, or the number of replicas that must have a write, at most %d", n, maxReplicas)
	}
	return nil
}

// A masterFinder is what a ClusterClient has and a Client has not.
type masterFinder interface {
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	ForEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error
	ReloadState(ctx context.Context)
}

// runConfirmed runs a script of one key. With RedisConfig.Replicas it returns no
// error only if so many replicas have what the script wrote.
func (s *RedisStore) runConfirmed(ctx context.Context, script redisScript, key string, args ...any) (any, error) {
	if s.replicas == 0 {
		return s.run(ctx, script, key, args...)
	}
	full := append([]any{"evalsha", script.sha, 1, key}, args...)
	reply, err := s.sendConfirmed(ctx, key, 3, full)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		full[0], full[1] = "eval", script.src
		reply, err = s.sendConfirmed(ctx, key, 3, full)
	}
	return reply, s.failure(ctx, err)
}

// errUnconfirmed is an outcome that is unknown (C5): the write is on the primary,
// and a failover may lose it.
type errUnconfirmed struct{ got, want int64 }

func (e errUnconfirmed) Error() string {
	return fmt.Sprintf("session: %d of the %d replicas that RedisConfig.Replicas asks for confirmed the write in time; a failover may lose it", e.got, e.want)
}

// sendConfirmed sends a command and a WAIT on one connection to the master that
// has the key, at most once. A redirection is followed here, because go-redis
// follows none for a command that it was told the node of; the node that says
// MOVED or ASK did nothing.
func (s *RedisStore) sendConfirmed(ctx context.Context, key string, keyPos int8, args []any) (any, error) {
	cluster, ok := s.client.(masterFinder)
	if !ok {
		return s.sendAndWait(ctx, s.client, keyPos, args, false)
	}
	node, err := cluster.MasterForKey(ctx, key)
	asking := false
	for redirections := 0; err == nil; redirections++ {
		var reply any
		reply, err = s.sendAndWait(ctx, node, keyPos, args, asking)
		addr, ask, ok := redirection(err)
		if !ok || redirections == maxRedirections {
			return reply, err
		}
		asking = ask
		node, err = redirected(ctx, cluster, node, key, addr, ask)
	}
	return nil, err
}

const maxRedirections = 3

// redirection reads "MOVED 3999 127.0.0.1:6381" and "ASK 3999 127.0.0.1:6381".
func redirection(err error) (addr string, ask, ok bool) {
	if err == nil {
		return "", false, false
	}
	kind, rest, _ := strings.Cut(err.Error(), " ")
	if kind != "MOVED" && kind != "ASK" {
		return "", false, false
	}
	_, addr, ok = strings.Cut(rest, " ")
	return addr, kind == "ASK", ok
}

// redirected learns the Cluster's map anew, at once, and finds the node that a
// redirection named; or after MOVED, if none goes by that address here, the one
// that now has the key. The node that was asked for the map may not have heard of
// a promotion yet.
func redirected(ctx context.Context, cluster masterFinder, from *redis.Client, key, addr string, ask bool) (*redis.Client, error) {
	for attempt := range 4 {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(10 * time.Millisecond << attempt):
			}
		}
		found := make(chan *redis.Client, 1) // ForEachMaster calls from goroutines
		err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			if node.Options().Addr == addr {
				found <- node
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		select {
		case node := <-found:
			return node, nil
		default:
		}
		if node, err := cluster.MasterForKey(ctx, key); !ask && (err != nil || node != from) {
			return node, err
		}
	}
	return nil, errors.New("session: a node of the Cluster names another one for the key that the others do not know as a master yet")
}

// A pipeliner is a client of one server.
type pipeliner interface{ Pipeline() redis.Pipeliner }

func (s *RedisStore) sendAndWait(ctx context.Context, client pipeliner, keyPos int8, args []any, asking bool) (any, error) {
	pipe := client.Pipeline()
	if asking {
		_ = pipe.Process(ctx, redis.NewStatusCmd(ctx, "asking"))
	}
	write := once(ctx, keyPos, args...)
	_ = pipe.Process(ctx, write)
	wait := redis.NewIntCmd(ctx, "wait", s.replicas, s.waitTime(ctx).Milliseconds())
	_ = pipe.Process(ctx, wait)
	if err := execPipe(ctx, pipe); err != nil {
		return nil, err
	}
	if err := write.Err(); err != nil {
		return nil, err
	}
	if err := wait.Err(); err != nil {
		return nil, err
	}
	if wait.Val() < int64(s.replicas) {
		return nil, errUnconfirmed{wait.Val(), int64(s.replicas)}
	}
	return write.Val(), nil
}

// waitTime is how long replicas may take: the server's answer must be here before
// the client stops reading, or a lack of replicas would look like a lost
// connection. Redis looks at its clock for this ten times a second. 0 would mean
// for ever.
func (s *RedisStore) waitTime(ctx context.Context) time.Duration {
	left := s.facts.readTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return max(left-min(left*3/4, 150*time.Millisecond), time.Millisecond)
}
