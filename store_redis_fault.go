package session

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// What an operator has to be told when a server is not what the client takes it
// for. All of it is read off the error that came back; only what no error can
// say is asked of the server, after a failure.

// A redisError is an error of go-redis behind a sentence that says what to do.
type redisError struct {
	hint  string
	cause error
}

func (e *redisError) Error() string { return "session: " + e.hint + ": " + e.cause.Error() }
func (e *redisError) Unwrap() error { return e.cause }

// failure is the error of a call, explained where that helps, and without what it
// must not quote. A Cluster's client that met a node which does not answer learns
// the map anew: go-redis waits for its interval, which is a minute (go-redis
// issue 3979).
func (s *RedisStore) failure(ctx context.Context, err error) error {
	if err == nil {
		s.noteAnswer()
		return nil
	}
	err = withoutArgs(err)
	lost := isNetworkError(err)
	if cluster, ok := s.client.(masterFinder); ok && lost {
		cluster.ReloadState(ctx)
	}
	hint := s.hint(ctx, err)
	if hint == "" && lost && !s.answered.Load() {
		hint = s.wrongTLS(ctx)
	}
	if hint == "" {
		return err
	}
	return &redisError{hint, err}
}

// noteAnswer is on the way of every call, and writes once.
func (s *RedisStore) noteAnswer() {
	if !s.answered.Load() {
		s.answered.Store(true)
	}
}

// isNetworkError reports that no answer of a server was read.
func isNetworkError(err error) bool {
	_, answered := errors.AsType[redis.Error](err)
	_, refused := errors.AsType[*refusedError](err)
	_, unconfirmed := errors.AsType[errUnconfirmed](err)
	return !answered && !refused && !unconfirmed && !errors.Is(err, context.Canceled) && !errors.Is(err, redis.ErrClosed)
}

// A refusedError is a server's answer without the arguments that it quoted.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// withoutArgs keeps records out of errors: a server or a proxy that does not
// know a command quotes the first 128 bytes of its arguments.
func withoutArgs(err error) error {
	if known, _, ok := strings.Cut(err.Error(), ", with args beginning with"); ok {
		return &refusedError{known}
	}
	return err
}

// hints are looked for in this order. The texts are those of Redis 6.2 to 8.0,
// Valkey 7.2 to 8.0 and go-redis, with an apostrophe for Redis 6.2's backticks.
var hints = []struct{ text, hint string }{
	{"WRONGPASS", "Redis does not accept the client's user or password"},
	{"NOAUTH", "Redis asks for a password and the client has none; put user:password@ into the URL or into the client's options"},
	{"AUTH <password> called without", "the client sends a password and Redis has none; leave it out, or set one there"},
	{"cluster support disabled", "the server is not a node of a Cluster; use redis:// or redis.NewClient"},
	{"not allowed in cluster mode", isClusterNode},
	{"unknown command 'sentinel'", "the addresses are those of Redis servers and not of Sentinels, which usually are at port 26379; correct them, or use redis:// or redis.NewClient"},
	{"unknown command 'cluster'", "the server does not know Clusters at all; is it a Sentinel?"},
	{"DB index is out of range", "Redis has no database of that number; its own setting is databases"},
	{"NOPERM", lacksPermission},
	{"can't run this command", lacksPermission},
	{"ACL failure in script", lacksPermission},
	{"READONLY", "the server is a replica, which takes no writes; if this lasts, name its primary, or the Sentinels who know it"},
	{"does not look like a TLS handshake", speaksNoTLS},
	{"failed to verify certificate", "the server's certificate is for another name, or no root that this machine trusts has signed it; docs/redis.md says how to trust a private one"},
	{"certificate required", "the server wants a certificate of the client's; set TLSConfig.Certificates and pass the client to session.NewRedisStore"},
}

const (
	isClusterNode   = "the server is a node of a Cluster; use redis+cluster:// or redis.NewClusterClient"
	lacksPermission = "the Redis user lacks a permission; docs/redis.md lists those needed"
	speaksNoTLS     = "the server does not speak TLS; use redis:// instead of rediss://, or no TLSConfig"
	speaksTLS       = "the server speaks TLS; use rediss:// instead of redis://, or set TLSConfig"
)

func (s *RedisStore) hint(ctx context.Context, err error) string {
	text := strings.ReplaceAll(err.Error(), "`", "'")
	_, inCluster := s.client.(masterFinder)
	switch {
	case strings.HasPrefix(text, "MOVED ") && !inCluster:
		return isClusterNode
	case errors.Is(err, redis.Nil): // no call of ours gets as far as a reply of nil
		return "the Sentinels know no master of that name"
	}
	for _, h := range hints {
		if strings.Contains(text, h.text) {
			return h.hint
		}
	}
	switch {
	case strings.Contains(text, "unknown command"):
		if info := s.ask(ctx); info["redis_mode"] == "sentinel" || info["server_mode"] == "sentinel" { // Valkey 8.0 calls it so
			return "the server is a Sentinel; use redis+sentinel:// with the name of its master, or redis.NewFailoverClient"
		}
		return "Redis refused a command; docs/redis.md lists those needed"
	case strings.Contains(text, "syntax error"): // of SET with GET, see saveScript
		if version := s.ask(ctx)["redis_version"]; version != "" {
			return "the server is Redis " + printable(version) + "; sessions need 6.2 or newer"
		}
		return "the server is older than Redis 6.2, which sessions need"
	}
	return ""
}

// printable is what of a server's answer can stand in a log line.
func printable(s string) string {
	return strings.Trim(strconv.QuoteToASCII(s[:min(len(s), 32)]), `"`)
}

// A finding is what a question has brought. Once it has brought something, it is
// not asked any more.
type finding[T any] struct {
	asked atomic.Int64 // when it was last, in nanoseconds since 1970; 0: never
	said  atomic.Pointer[T]
}

// What asking may add to a request that failed, and to how many of them: a server
// that was too busy to answer may have time a minute later.
const (
	probeTime  = 250 * time.Millisecond
	probePause = time.Minute
)

// get returns what ask finds, or found. Of those who come while it is asked, or
// within probePause after it found nothing, none waits.
func (f *finding[T]) get(ask func() (found T, ok bool)) (zero T) {
	if said := f.said.Load(); said != nil {
		return *said
	}
	last, now := f.asked.Load(), time.Now().UnixNano()
	if last != 0 && now-last < int64(probePause) || !f.asked.CompareAndSwap(last, now) {
		return zero
	}
	found, ok := ask()
	if ok {
		f.said.Store(&found)
	}
	return found
}

// ask returns what INFO says about the server, or nothing.
func (s *RedisStore) ask(ctx context.Context) map[string]string {
	return s.info.get(func() (map[string]string, bool) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
		defer cancel()
		said, err := s.client.Info(ctx, "server").Result()
		info := make(map[string]string)
		for line := range strings.Lines(said) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			info[name] = value
		}
		return info, err == nil || !isNetworkError(err)
	})
}

// wrongTLS names the mismatch behind a connection that the server hung up on, or
// never answered on, before any worked. A server that reads a handshake as the
// beginning of a command just waits for the rest.
func (s *RedisStore) wrongTLS(ctx context.Context) string {
	return s.tlsMismatch.get(func() (string, bool) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
		defer cancel()
		for _, addr := range s.facts.addrs {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				continue
			}
			deadline, _ := ctx.Deadline()
			_ = conn.SetDeadline(deadline)
			speaks, hint := handshakes, speaksTLS
			if s.facts.tls {
				speaks, hint = answersPlainly, speaksNoTLS
			}
			found := speaks(ctx, conn)
			_ = conn.Close()
			if found {
				return hint, true
			}
		}
		return "", false
	})
}

// handshakes sends nothing but the handshake, so it matters to nobody who the
// server is.
func handshakes(ctx context.Context, conn net.Conn) bool {
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil
}

func answersPlainly(_ context.Context, conn net.Conn) bool {
	_, _ = io.WriteString(conn, "PING\r\n")
	first, err := bufio.NewReader(conn).ReadByte()
	return err == nil && slices.Contains([]byte("+-"), first) // +PONG or -NOAUTH
}
