package session_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

// redisACL is the list in docs/redis.md; the tests hold it to be enough.
const redisACL = "~session:* +get +pttl +getrange +set +pexpire +del +evalsha +eval" +
	" +time +zadd +zrange +zcount +zrem +zremrangebyscore +pexpireat"

func newRedisStore(t *testing.T, client redis.UniversalClient) *session.RedisStore {
	t.Helper()
	s, err := session.NewRedisStore(client, session.RedisConfig{})
	require.NoError(t, err)
	return s
}

func redisKey(id uuid.UUID) string { return "session:" + id.String() }

// exercise walks each command and each outcome that the contract gives it.
func exercise(t testing.TB, s session.Store) {
	t.Helper()
	ctx, id := t.Context(), uuid.New()
	binary := []byte("\x00\xff\r\n'\"\\{}")
	first := session.Record{Version: 1<<63 | 7, Owner: "änne\x00", Data: binary}
	second := session.Record{Version: 8, Data: []byte{}}

	_, err := s.Load(ctx, id)
	require.ErrorIs(t, err, session.ErrNotFound)
	_, err = s.Save(ctx, id, 5, first, time.Minute)
	require.ErrorIs(t, err, session.ErrNotFound, "C1: no record, so nothing has version 5")
	live, err := s.Save(ctx, id, 0, first, time.Minute)
	require.NoError(t, err)
	require.Zero(t, live)

	got, err := s.Load(ctx, id)
	require.NoError(t, err)
	requireRecord(t, first, got, time.Minute)
	live, err = s.Save(ctx, id, 0, second, time.Minute)
	require.ErrorIs(t, err, session.ErrConflict, "C1: there is a record")
	requireRecord(t, first, live, time.Minute)
	live, err = s.Save(ctx, id, 5, second, time.Minute)
	require.ErrorIs(t, err, session.ErrConflict, "C1: its version is another")
	requireRecord(t, first, live, time.Minute)
	_, err = s.Save(ctx, id, first.Version, second, time.Hour)
	require.NoError(t, err)

	require.ErrorIs(t, s.Touch(ctx, id, first.Version, 2*time.Hour), session.ErrConflict, "E4")
	require.NoError(t, s.Touch(ctx, id, second.Version, 2*time.Hour))
	got, err = s.Load(ctx, id)
	require.NoError(t, err)
	requireRecord(t, second, got, 2*time.Hour)

	require.ErrorIs(t, s.Delete(ctx, id, first.Version), session.ErrConflict)
	require.NoError(t, s.Delete(ctx, id, second.Version))
	require.NoError(t, s.Delete(ctx, id, second.Version), "C1: deleting nothing is no error")
	require.NoError(t, s.Delete(ctx, id, 0))
	require.ErrorIs(t, s.Touch(ctx, id, second.Version, time.Hour), session.ErrNotFound)
	_, err = s.Save(ctx, id, second.Version, first, time.Hour)
	require.ErrorIs(t, err, session.ErrNotFound, "C1: what was deleted does not come back")

	_, err = s.Save(ctx, id, 0, first, time.Hour)
	require.NoError(t, err)
	require.NoError(t, s.Delete(ctx, id, 0))
	_, err = s.Load(ctx, id)
	require.ErrorIs(t, err, session.ErrNotFound)
}

func requireRecord(t testing.TB, want, got session.Record, ttl time.Duration) {
	t.Helper()
	require.Equal(t, want.Version, got.Version)
	require.Equal(t, want.Owner, got.Owner)
	require.True(t, bytes.Equal(want.Data, got.Data), "data %q", got.Data)
	require.LessOrEqual(t, got.TTL, ttl)
	require.Greater(t, got.TTL, ttl/2)
}

// Section 9: one store over every way to run Redis.
func TestRedisStoreOverConfigurations(t *testing.T) {
	configurations := map[string]func(t *testing.T) redis.UniversalClient{
		"tcp, RESP3": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{}).Client(&redis.Options{})
		},
		"tcp, RESP2": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{}).Client(&redis.Options{Protocol: 2})
		},
		"unix socket": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{}).Admin()
		},
		"TLS": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{TLS: true}).Client(&redis.Options{})
		},
		"ACL user": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{ACL: redisACL}).Client(&redis.Options{})
		},
		"Sentinel": func(t *testing.T) redis.UniversalClient {
			s := redistest.StartSentinel(t)
			c := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: s.Master, SentinelAddrs: []string{s.Addr}, ContextTimeoutEnabled: true,
			})
			t.Cleanup(func() { _ = c.Close() })
			return c
		},
		"Cluster": func(t *testing.T) redis.UniversalClient {
			return redistest.StartCluster(t, redistest.Config{}).Client(&redis.ClusterOptions{})
		},
		"Cluster, ACL user": func(t *testing.T) redis.UniversalClient {
			acl := redisACL + " +cluster|slots +asking"
			return redistest.StartCluster(t, redistest.Config{ACL: acl}).Client(&redis.ClusterOptions{})
		},
	}
	for name, start := range configurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := start(t)
			sessiontest.TestStore(t, func(t *testing.T) session.Store {
				// A prefix of its own is a store of its own, within what the ACL allows.
				s, err := session.NewRedisStore(client, session.RedisConfig{Prefix: "session:" + uuid.NewString()})
				require.NoError(t, err)
				return s
			}, sessiontest.Options{RealTime: true})
		})
	}
}

// On miniredis the suite runs in bubbles, where a TTL of hours can be waited for.
func TestRedisStoreOnMiniredis(t *testing.T) {
	sessiontest.TestStore(t, func(t *testing.T) session.Store {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true,
			// An address, because go-redis looks up a name, and what the resolver
			// begins inside a bubble crashes those who use it outside.
			Addr:                     "127.0.0.1:6379",
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			// A connection over net.Pipe, as a bubble knows nothing of sockets.
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				conn, err := m.Dial()
				if err != nil {
					return nil, err
				}
				return queuePipe(conn), nil
			},
		})
		t.Cleanup(func() {
			_ = client.Close()
			m.Close()
		})
		return newRedisStore(t, client)
	}, sessiontest.Options{})
}

// proxiedStore is a store whose wire can be watched and cut, with a client that
// would gladly try everything again.
func proxiedStore(t *testing.T) (*session.RedisStore, *redistest.Proxy, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Socket)
	client := server.Client(&redis.Options{Addr: proxy.Addr, MaxRetries: 5, DisableIdentity: true})
	return newRedisStore(t, client), proxy, server
}

// R4: one round trip each, and nothing that a ClusterClient might ask besides.
func TestRedisStoreNeedsOneRoundTrip(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	ctx, id := t.Context(), uuid.New()
	exercise(t, s) // the server now has the scripts

	steps := []struct {
		name     string
		call     func() error
		want     error
		commands []string
	}{
		{"load nothing", func() error { _, err := s.Load(ctx, id); return err }, session.ErrNotFound, []string{"GET", "PTTL"}},
		{"create", func() error { return save(s, id, 0, 1) }, nil, []string{"EVALSHA"}},
		{"load", func() error { _, err := s.Load(ctx, id); return err }, nil, []string{"GET", "PTTL"}},
		{"save", func() error { return save(s, id, 1, 2) }, nil, []string{"EVALSHA"}},
		{"save in conflict", func() error { return save(s, id, 1, 3) }, session.ErrConflict, []string{"EVALSHA"}},
		{"touch", func() error { return s.Touch(ctx, id, 2, time.Hour) }, nil, []string{"EVALSHA"}},
		{"delete in conflict", func() error { return s.Delete(ctx, id, 1) }, session.ErrConflict, []string{"EVALSHA"}},
		{"delete", func() error { return s.Delete(ctx, id, 2) }, nil, []string{"EVALSHA"}},
		{"revoke", func() error { return s.Delete(ctx, id, 0) }, nil, []string{"DEL"}},
	}
	for _, step := range steps {
		proxy.Reset()
		require.ErrorIs(t, step.call(), step.want, step.name)
		require.Equal(t, 1, proxy.RoundTrips(), step.name)
		require.Equal(t, step.commands, proxy.Commands(), step.name)
	}
}

func save(s session.Store, id uuid.UUID, prev, version uint64) error {
	_, err := s.Save(context.Background(), id, prev, session.Record{Version: version}, time.Minute)
	return err
}

// A restart or a failover empties the server's cache of scripts.
func TestRedisStoreSendsAScriptThatTheServerForgot(t *testing.T) {
	s, proxy, server := proxiedStore(t)
	ctx, id := t.Context(), uuid.New()
	calls := []func() error{
		func() error { return save(s, id, 0, 1) },
		func() error { return s.Touch(ctx, id, 1, time.Hour) },
		func() error { return s.Delete(ctx, id, 1) },
	}
	for _, call := range calls {
		require.NoError(t, server.Admin().ScriptFlush(ctx).Err())
		proxy.Reset()
		require.NoError(t, call())
		require.Equal(t, []string{"EVALSHA", "EVAL"}, proxy.Commands())
	}
}

// C5: the client never re-sends a write, whatever its options say; a load it may.
func TestC5RedisStoreNeverResendsAWrite(t *testing.T) {
	s, proxy, server := proxiedStore(t)
	ctx, id := t.Context(), uuid.New()
	exercise(t, s)
	require.NoError(t, save(s, id, 0, 1))

	calls := []struct {
		name string
		call func() error
		sent int
	}{
		{"save", func() error { return save(s, id, 1, 2) }, 1},
		{"touch", func() error { return s.Touch(ctx, id, 2, time.Hour) }, 1},
		{"delete", func() error { return s.Delete(ctx, id, 2) }, 1},
		{"revoke", func() error { return s.Delete(ctx, id, 0) }, 1},
		{"create by EVAL", func() error {
			_ = server.Admin().ScriptFlush(ctx)
			return save(s, id, 0, 3)
		}, 2},
	}
	for _, c := range calls {
		for _, action := range []redistest.Action{redistest.DropReply, redistest.Refuse} {
			proxy.Reset()
			proxy.Decide(func(cmd []string) redistest.Action {
				if c.sent == 2 && cmd[0] == "EVALSHA" {
					return redistest.Pass // NOSCRIPT has to arrive
				}
				return action
			})
			err := c.call()
			require.Error(t, err, c.name)
			require.NotErrorIs(t, err, session.ErrConflict, c.name)
			require.NotErrorIs(t, err, session.ErrNotFound, c.name)
			require.Len(t, proxy.Commands(), c.sent, c.name)
			if action == redistest.DropReply {
				break // it was executed; the next step builds on it
			}
		}
		proxy.Decide(nil)
	}
	rec, err := s.Load(ctx, id)
	require.NoError(t, err)
	require.EqualValues(t, 3, rec.Version, "each write took effect, although its answer was lost")

	lost := 0
	proxy.Decide(func([]string) redistest.Action {
		if lost++; lost > 2 {
			return redistest.Pass
		}
		return redistest.DropReply
	})
	_, err = s.Load(ctx, id)
	require.NoError(t, err, "a load may be repeated")
}

// A server that is silent or away is an error within the context's deadline, and
// never a session that does not exist.
func TestRedisStoreEndsWithItsContext(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	id := uuid.New()
	exercise(t, s)
	for _, away := range []func(){proxy.Silence, proxy.Down} {
		away()
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := s.Load(ctx, id); return err },
			func(ctx context.Context) error {
				_, err := s.Save(ctx, id, 0, session.Record{Version: 1}, time.Hour)
				return err
			},
			func(ctx context.Context) error { return s.Touch(ctx, id, 1, time.Hour) },
			func(ctx context.Context) error { return s.Delete(ctx, id, 0) },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			err := call(ctx)
			cancel()
			require.Error(t, err)
			require.NotErrorIs(t, err, session.ErrNotFound)
			require.NotErrorIs(t, err, session.ErrConflict)
		}
		proxy.Restore()
	}
	_, err := s.Load(t.Context(), id)
	require.ErrorIs(t, err, session.ErrNotFound, "the store recovers by itself")
}

// E2: a ttl below the resolution is an error, and never reaches Redis, of which
// go-redis would make "no expiry".
func TestE2RedisStoreRefusesATTLBelowAMillisecond(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	id := uuid.New()
	for _, ttl := range []time.Duration{-time.Hour, -1, 0, 1, 900 * time.Microsecond, time.Millisecond - 1} {
		_, err := s.Save(t.Context(), id, 0, session.Record{Version: 1}, ttl)
		require.ErrorContains(t, err, "millisecond", "%v", ttl)
		require.ErrorContains(t, s.Touch(t.Context(), id, 1, ttl), "millisecond", "%v", ttl)
	}
	_, err := s.Save(t.Context(), id, 0, session.Record{}, time.Hour)
	require.ErrorContains(t, err, "version 0")
	require.Empty(t, proxy.Commands())
}

// E1, E6: every key that any write leaves behind ends by itself.
func TestE6RedisStoreLeavesNoKeyWithoutExpiry(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s, admin := newRedisStore(t, server.Client(&redis.Options{})), server.Admin()
	ctx, id := t.Context(), uuid.New()
	expires := func() {
		t.Helper()
		ttl := admin.PTTL(ctx, redisKey(id)).Val()
		require.Greater(t, ttl, time.Duration(0))
		require.LessOrEqual(t, ttl, time.Hour)
	}
	require.NoError(t, save(s, id, 0, 1))
	expires()
	require.NoError(t, save(s, id, 1, 2))
	expires()
	require.NoError(t, s.Touch(ctx, id, 2, 1999*time.Microsecond+time.Minute))
	expires()

	require.NoError(t, admin.Persist(ctx, redisKey(id)).Err())
	rec, err := s.Load(ctx, id)
	require.NoError(t, err)
	require.Equal(t, time.Millisecond, rec.TTL, "so little that the manager touches it (R4)")
	live, err := s.Save(ctx, id, 1, session.Record{Version: 3}, time.Hour)
	require.ErrorIs(t, err, session.ErrConflict)
	require.Equal(t, time.Millisecond, live.TTL)
	require.NoError(t, s.Touch(ctx, id, 2, time.Hour))
	expires()
}

// Anything at all may stand at the key. It is neither an error, which would mean
// 503 for as long as it stands there, nor a record that a manager could decode.
func TestRedisStoreLoadsForeignValues(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s, admin := newRedisStore(t, server.Client(&redis.Options{})), server.Admin()
	ctx := t.Context()
	values := []string{
		"x", "1234567", "12345678", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x00data",
		"12345678\x05four", "12345678\x80", "12345678\x80\x00", "12345678" + strings.Repeat("\xff", 11),
		"12345678\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `{"user":"alice"}`,
	}
	for _, v := range values {
		id := uuid.New()
		require.NoError(t, admin.Set(ctx, redisKey(id), v, time.Hour).Err())
		foreign(t, s, id, "%q", v)
	}
	id := uuid.New()
	require.NoError(t, admin.RPush(ctx, redisKey(id), "a", "list").Err())
	foreign(t, s, id, "a list")

	id = uuid.New()
	require.NoError(t, admin.Set(ctx, redisKey(id), "", time.Hour).Err())
	_, err := s.Load(ctx, id)
	require.ErrorIs(t, err, session.ErrNotFound, "an empty string is no record to Load")
	require.NoError(t, save(s, id, 0, 1), "nor to Save")
}

func foreign(t *testing.T, s session.Store, id uuid.UUID, format string, args ...any) {
	t.Helper()
	ctx, what := t.Context(), append([]any{format}, args...)
	rec, err := s.Load(ctx, id)
	require.NoError(t, err, what...)
	require.NotZero(t, rec.Version, what...)
	require.Empty(t, rec.Data, what...)
	require.Empty(t, rec.Owner, what...)
	for _, err := range []error{save(s, id, 0, 9), save(s, id, 77, 9), s.Touch(ctx, id, 77, time.Hour), s.Delete(ctx, id, 77)} {
		require.ErrorIs(t, err, session.ErrConflict, what...)
	}
	require.NoError(t, s.Delete(ctx, id, 0), what...)
	_, err = s.Load(ctx, id)
	require.ErrorIs(t, err, session.ErrNotFound, what...)
}

func FuzzRedisStoreLoad(f *testing.F) {
	m := miniredis.RunT(f)
	client := redis.NewClient(&redis.Options{Addr: m.Addr(), ContextTimeoutEnabled: true})
	f.Cleanup(func() { _ = client.Close() })
	s, err := session.NewRedisStore(client, session.RedisConfig{})
	require.NoError(f, err)
	f.Add([]byte("12345678\x05alicedata"))
	f.Add([]byte("12345678\x80\x00"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, value []byte) {
		id := uuid.New()
		require.NoError(t, m.Set(redisKey(id), string(value)))
		rec, err := s.Load(t.Context(), id)
		if errors.Is(err, session.ErrNotFound) {
			require.Empty(t, value)
			return
		}
		require.NoError(t, err)
		require.NotZero(t, rec.Version)
		if len(rec.Data) == 0 && rec.Owner == "" {
			return
		}
		// T5: what decodes is what Save would have stored.
		again := uuid.New()
		_, err = s.Save(t.Context(), again, 0, rec, time.Hour)
		require.NoError(t, err)
		stored, err := m.Get(redisKey(again))
		require.NoError(t, err)
		require.Equal(t, string(value), stored)
		m.FlushAll()
	})
}

// A slot that moves is no failure: the node that says MOVED or ASK did nothing,
// so even a command that is sent once follows.
func TestRedisStoreFollowsAMovingSlot(t *testing.T) {
	t.Parallel()
	cluster, s := storeOnClusterThatMoves(t)
	id := uuid.New()
	key := redisKey(id)
	require.NoError(t, save(s, id, 0, 1))
	from := cluster.Owner(key)
	to := (from + 1) % 3

	walk := func(version uint64) {
		t.Helper()
		rec, err := s.Load(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, version, rec.Version)
		require.ErrorIs(t, save(s, id, version+50, 99), session.ErrConflict)
		require.NoError(t, save(s, id, version, version+1))
		require.NoError(t, s.Touch(t.Context(), id, version+1, time.Hour))
	}
	cluster.BeginMove(key, to)
	walk(1)
	cluster.MoveKey(key, from, to)
	walk(2) // ASK
	cluster.EndMove(key, to)
	walk(3) // MOVED
	require.NoError(t, s.Delete(t.Context(), id, 4))
	require.NoError(t, s.Delete(t.Context(), id, 0))
	for _, node := range cluster.Nodes {
		// go-redis would ask COMMAND before each command whose steps it must guess.
		require.Empty(t, node.Admin().ACLLog(t.Context(), 10).Val(), "nothing was sent that the documented ACL forbids")
	}
}

// Restart with empty data: sessions are gone, which is not an error.
func TestRedisStoreSurvivesARestart(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s := newRedisStore(t, server.Client(&redis.Options{MaxRetries: -1, DialerRetries: 1}))
	id := uuid.New()
	require.NoError(t, save(s, id, 0, 1))
	server.Stop()
	_, err := s.Load(t.Context(), id)
	require.Error(t, err)
	require.NotErrorIs(t, err, session.ErrNotFound, "away is not empty")
	server.Start()
	_, err = s.Load(t.Context(), id)
	require.ErrorIs(t, err, session.ErrNotFound)
	require.ErrorIs(t, save(s, id, 1, 2), session.ErrNotFound)
	require.NoError(t, save(s, id, 0, 3))
}

// A full server under noeviction refuses new bytes, and nothing else: visitors
// stay logged in and can log out.
func TestRedisStoreOnAFullServer(t *testing.T) {
	server := redistest.Start(t, redistest.Config{Args: []string{"--maxmemory-policy", "noeviction"}})
	s := newRedisStore(t, server.Client(&redis.Options{}))
	ctx, id := t.Context(), uuid.New()
	require.NoError(t, save(s, id, 0, 1))
	require.NoError(t, server.Admin().ConfigSet(ctx, "maxmemory", "1").Err())
	require.ErrorContains(t, save(s, id, 1, 2), "OOM")
	_, err := s.Load(ctx, id)
	require.NoError(t, err)
	require.NoError(t, s.Touch(ctx, id, 1, time.Hour))
	require.NoError(t, s.Delete(ctx, id, 1))
}

// A replica answers READONLY before it does anything.
func TestRedisStoreOnAReplica(t *testing.T) {
	primary, replica := redistest.Start(t, redistest.Config{}), redistest.Start(t, redistest.Config{})
	s := newRedisStore(t, replica.Client(&redis.Options{MaxRetries: -1}))
	host, port, _ := net.SplitHostPort(primary.Addr)
	require.NoError(t, replica.Admin().ReplicaOf(t.Context(), host, port).Err())
	require.ErrorContains(t, save(s, uuid.New(), 0, 1), "READONLY")
}

// An ACL that forgot a command, or a server that renamed it away: the error says
// which, and quotes nothing of the record.
func TestRedisStoreErrorsQuoteNoRecord(t *testing.T) {
	for name, server := range map[string]*redistest.Server{
		"ACL":     redistest.Start(t, redistest.Config{ACL: "~session:* +get +pttl"}),
		"renamed": redistest.Start(t, redistest.Config{Args: []string{"--rename-command", "EVALSHA", ""}}),
	} {
		s := newRedisStore(t, server.Client(&redis.Options{}))
		_, err := s.Save(t.Context(), uuid.New(), 0, session.Record{Version: 1, Owner: "alice", Data: []byte("S3CR3T")}, time.Hour)
		require.ErrorContains(t, err, "evalsha", name)
		require.NotContains(t, err.Error(), "S3CR3T", name)
		require.NotContains(t, err.Error(), "alice", name)
	}
}

func TestNewRedisStoreRefuses(t *testing.T) {
	closed := func(c redis.UniversalClient) redis.UniversalClient { _ = c.Close(); return c }
	single := func(o redis.Options) redis.UniversalClient { return closed(redis.NewClient(&o)) }
	cluster := func(o redis.ClusterOptions) redis.UniversalClient { return closed(redis.NewClusterClient(&o)) }
	tests := []struct {
		name   string
		client redis.UniversalClient
		prefix string
		want   []string
	}{
		{"nil", nil, "", []string{"session.Open"}},
		{"nil client", (*redis.Client)(nil), "", []string{"session.Open"}},
		{"nil cluster client", (*redis.ClusterClient)(nil), "", []string{"session.Open"}},
		{"ring", closed(redis.NewRing(&redis.RingOptions{})), "", []string{"Ring", "NewClusterClient"}},
		{"no context timeout", single(redis.Options{}), "", []string{"ContextTimeoutEnabled"}},
		{"no deadlines", single(redis.Options{ContextTimeoutEnabled: true, ReadTimeout: -2}), "", []string{"-2"}},
		{"cluster without context timeout", cluster(redis.ClusterOptions{}), "", []string{"ContextTimeoutEnabled"}},
		{"replicas", cluster(redis.ClusterOptions{ContextTimeoutEnabled: true, ReadOnly: true}), "", []string{"ReadOnly"}},
		{"nearest", cluster(redis.ClusterOptions{ContextTimeoutEnabled: true, RouteByLatency: true}), "", []string{"RouteByLatency"}},
		{"any", cluster(redis.ClusterOptions{ContextTimeoutEnabled: true, RouteRandomly: true}), "", []string{"RouteRandomly"}},
		{"failover cluster to replicas", closed(redis.NewFailoverClusterClient(&redis.FailoverOptions{ContextTimeoutEnabled: true, ReplicaOnly: true})), "", []string{"ReplicaOnly"}},
		{"unknown type", struct{ redis.UniversalClient }{}, "", []string{"*redis.Client"}},
		{"hash tag", single(redis.Options{ContextTimeoutEnabled: true}), "a{b}", []string{"hash tag"}},
		{"all at once", cluster(redis.ClusterOptions{ReadOnly: true}), "{x}", []string{"ReadOnly", "ContextTimeoutEnabled", "hash tag"}},
	}
	for _, tt := range tests {
		s, err := session.NewRedisStore(tt.client, session.RedisConfig{Prefix: tt.prefix})
		require.Nil(t, s, tt.name)
		require.Error(t, err, tt.name)
		for line := range strings.Lines(err.Error()) {
			require.True(t, strings.HasPrefix(line, "session: "), line)
		}
		for _, want := range tt.want {
			require.ErrorContains(t, err, want, tt.name)
		}
	}
	// A wrapper that shows the options of what it wraps is as good as that.
	wrapped := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	defer wrapped.Close()
	_, err := session.NewRedisStore(struct{ *redis.Client }{wrapped}, session.RedisConfig{})
	require.NoError(t, err)
}

func TestRedisStorePrefix(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	ctx, id := t.Context(), uuid.New()
	s, err := session.NewRedisStore(server.Client(&redis.Options{}), session.RedisConfig{Prefix: "shop:s"})
	require.NoError(t, err)
	require.NoError(t, save(s, id, 0, 1))
	keys := server.Admin().Keys(ctx, "*").Val()
	require.True(t, slices.Equal(keys, []string{"shop:s:" + id.String()}), "%v", keys)
}
