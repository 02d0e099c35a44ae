package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// A mismatch is a server that is not what the client takes it for, and what the
// error has to say about it.
type mismatch struct {
	name   string
	url    string
	client redis.UniversalClient // the same, handed in
	want   string
}

func mismatches(t *testing.T) []mismatch {
	plain := redistest.Start(t, redistest.Config{})
	locked := redistest.Start(t, redistest.Config{Args: []string{"--requirepass", "the-right-one"}})
	secure := redistest.Start(t, redistest.Config{TLS: true})
	forbidding := redistest.Start(t, redistest.Config{ACL: "~session:* +evalsha +eval +set +getrange"})
	halfForbidding := redistest.Start(t, redistest.Config{ACL: "~session:* +get +pttl +evalsha +eval"})
	otherKeys := redistest.Start(t, redistest.Config{ACL: "~shop:* +@all"})
	app := redistest.User + ":" + redistest.Password + "@"
	sentinel := redistest.StartSentinel(t)
	cluster := redistest.StartCluster(t, redistest.Config{})
	node := cluster.Nodes[0].Addr

	single := func(o redis.Options) redis.UniversalClient {
		o.ContextTimeoutEnabled, o.DialTimeout, o.DialerRetries, o.MaxRetries = true, 500*time.Millisecond, 1, -1
		return redis.NewClient(&o)
	}
	failover := func(master, addr string) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: master, SentinelAddrs: []string{addr}, ContextTimeoutEnabled: true, DialerRetries: 1})
	}
	clustered := func(o redis.ClusterOptions, addr string) redis.UniversalClient {
		o.Addrs, o.ContextTimeoutEnabled, o.DialTimeout, o.DialerRetries = []string{addr}, true, 500*time.Millisecond, 1
		return redis.NewClusterClient(&o)
	}
	return []mismatch{
		{"Sentinel is a Redis", "redis+sentinel://" + plain.Addr + "/main", failover("main", plain.Addr), "not of Sentinels"},
		{"Sentinel of others", "redis+sentinel://" + sentinel.Addr + "/main", failover("main", sentinel.Addr), "no master of that name"},
		{"Redis is a Sentinel", "redis://" + sentinel.Addr, single(redis.Options{Addr: sentinel.Addr}), "is a Sentinel"},
		{"Cluster is a Sentinel", "redis+cluster://" + sentinel.Addr, clustered(redis.ClusterOptions{}, sentinel.Addr), "is it a Sentinel"},
		{"Cluster is standalone", "redis+cluster://" + plain.Addr, clustered(redis.ClusterOptions{}, plain.Addr), "not a node of a Cluster"},
		{"standalone is a Cluster", "redis://" + node, single(redis.Options{Addr: node}), "is a node of a Cluster"},
		{"database of a Cluster", "redis://" + node + "/3", single(redis.Options{Addr: node, DB: 3}), "is a node of a Cluster"},
		{"database", "redis://" + plain.Addr + "/99", single(redis.Options{Addr: plain.Addr, DB: 99}), "no database of that number"},
		{"wrong password", "redis://:" + secret + "@" + locked.Addr, single(redis.Options{Addr: locked.Addr, Password: secret}), "does not accept the client's user or password"},
		{"wrong user", "redis://alice:" + secret + "@" + plain.Addr, single(redis.Options{Addr: plain.Addr, Username: "alice", Password: secret}), "does not accept the client's user or password"},
		{"no password", "redis://" + locked.Addr, single(redis.Options{Addr: locked.Addr}), "asks for a password"},
		{"no password, Cluster", "redis+cluster://" + locked.Addr, clustered(redis.ClusterOptions{}, locked.Addr), "asks for a password"},
		{"ACL without reading", "redis://" + app + forbidding.Addr, forbidding.Client(&redis.Options{}), "lacks a permission"},
		{"ACL of scripts", "redis://" + app + halfForbidding.Addr, halfForbidding.Client(&redis.Options{}), "lacks a permission"},
		{"ACL of keys", "redis://" + app + otherKeys.Addr, otherKeys.Client(&redis.Options{}), "lacks a permission"},
		{"TLS at a plain port", "rediss://" + plain.Addr, single(redis.Options{Addr: plain.Addr, TLSConfig: new(tls.Config)}), "does not speak TLS"},
		{"TLS at a plain Cluster", "rediss+cluster://" + node, clustered(redis.ClusterOptions{TLSConfig: new(tls.Config)}, node), "does not speak TLS"},
		{"TLS at a plain Sentinel", "rediss+sentinel://" + sentinel.Addr + "/sessions", nil, "does not speak TLS"},
		{"plain at a TLS port", "redis://" + secure.Addr, single(redis.Options{Addr: secure.Addr}), "speaks TLS"},
		{"plain at a TLS Cluster", "redis+cluster://" + secure.Addr, clustered(redis.ClusterOptions{}, secure.Addr), "speaks TLS"},
		{"certificate", "rediss://" + secure.Addr, single(redis.Options{Addr: secure.Addr, TLSConfig: new(tls.Config)}), "certificate"},
	}
}

// The first calls to a server of the wrong kind name the mismatch, and never the
// password; and a server that refused us was not asked, so no session is missing.
func TestFirstUseNamesTheMismatch(t *testing.T) {
	for _, m := range mismatches(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			requireNamed(t, m.want, func() session.Store {
				s, err := session.Open(m.url)
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
				return s
			})
			if m.client == nil {
				return
			}
			defer m.client.Close()
			for _, cfg := range []session.RedisConfig{{}, {Replicas: 1}} {
				requireNamed(t, m.want, func() session.Store {
					handed, err := session.NewRedisStore(m.client, cfg)
					require.NoError(t, err)
					return handed
				})
			}
		})
	}
}

// requireNamed makes the first calls to a store. A store asks its server once a
// minute, and for a moment only (see probeTime): where a call ran into a time-out,
// the machine may have been too busy for that, and the next store is asked.
func requireNamed(t *testing.T, want string, open func() session.Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		named, late := firstCallsName(t, open(), want)
		if named {
			return
		}
		if !late || time.Now().After(deadline) {
			t.Fatalf("no error says %q", want)
		}
	}
}

// firstCallsName reports whether an error says want, and whether a time-out came
// first. Some mismatches are noticed by reads only, some by writes, and a Cluster's
// by the slots of two nodes in three.
func firstCallsName(t *testing.T, s session.Store, want string) (named, late bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err == nil {
			return
		}
		named = named || strings.Contains(err.Error(), want)
		if !named && timedOut(err) {
			late = true // and says no more than go-redis does
			require.NotContains(t, strings.ToLower(err.Error()), strings.ToLower(secret))
			return
		}
		requireClean(t, err)
	}
	for range 10 {
		_, err := s.Load(ctx, uuid.New())
		if strings.Contains(want, "password") {
			require.NotErrorIs(t, err, session.ErrNotFound)
		}
		if check(err); named {
			break
		}
		if check(save(s, uuid.New(), 0, 1)); named {
			break // the next call may have no time left
		}
	}
	return named, late
}

// timedOut reports whether a context, or a connection, ran out of time.
func timedOut(err error) bool {
	failed, network := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || network && failed.Timeout()
}

// A failure never lies: a password that was changed on the server makes nobody
// anonymous. (go-redis leaves the commands of such a pipeline without an error.)
func TestRefusedConnectionIsNoMissingSession(t *testing.T) {
	server := redistest.Start(t, redistest.Config{Args: []string{"--requirepass", "old"}})
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Password: "old", ContextTimeoutEnabled: true, DisableIdentity: true})
	site := newSite(t, session.Config{Store: redisStore(t, client)})
	v := site.visitor()
	want(t, "before", v.do("login alice"), http.StatusOK, "alice")
	admin := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, Password: "old"})
	defer admin.Close()
	require.NoError(t, admin.ConfigSet(t.Context(), "requirepass", "new").Err())
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
	for range 3 {
		got := v.do()
		want(t, "T95", got, http.StatusServiceUnavailable, "")
		wantCookie(t, "T95", got, "none")
	}
	require.NoError(t, admin.ConfigSet(t.Context(), "requirepass", "old").Err())
	want(t, "after", v.do(), http.StatusOK, "alice")
}

// A Redis before 6.2 does not know SET with GET, which the script falls back to on
// every server that does not tell scripts its version.
func TestFirstSaveOnAnOldRedisNamesItsVersion(t *testing.T) {
	for info, says := range map[string]string{
		"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n": "the server is Redis 6.0.16; sessions need 6.2 or newer",
		"": "older than Redis 6.2",
	} {
		s, asked := refusingScripts(t, "ERR Error running script (call to f_0): @user_script:6: @user_script: 6: ERR syntax error", info)
		for range 3 {
			require.ErrorContains(t, save(s, uuid.New(), 0, 1), says)
		}
		require.Equal(t, 1, *asked, "the server is asked once")
	}
}

// refusingScripts is a store on a server that answers scripts with an error, and
// INFO with info, or with one too if that is "". It counts the latter.
func refusingScripts(t *testing.T, says, info string) (s session.Store, asked *int) {
	t.Helper()
	refuses, asked := miniredis.RunT(t), new(int)
	refuses.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		switch cmd {
		case "EVALSHA", "EVAL":
			c.WriteError(says)
		case "INFO":
			if *asked++; info == "" {
				c.WriteError("NOPERM this user has no permissions to run the 'info' command or its subcommand")
			} else {
				c.WriteBulk(info)
			}
		default:
			return false
		}
		return true
	})
	return redisStore(t, redis.NewClient(&redis.Options{Addr: refuses.Addr(), ContextTimeoutEnabled: true})), asked
}

// Servers put the same thing in words of their own. TestFirstUseNamesTheMismatch asks
// the server that is there; these answers are of others, read off them.
func TestFirstUseKnowsTheWordsOfOtherServers(t *testing.T) {
	for _, other := range []struct{ server, says, info, want string }{
		{"Redis 6.2.16", "ERR unknown command `sentinel`, with args beginning with: `get-master-addr-by-name`, `main`, ", "", "not of Sentinels"},
		{"Redis 6.2.16", "ERR unknown command `cluster`, with args beginning with: `slots`, ", "", "is it a Sentinel"},
		{"Redis 7.2.6, Sentinel", "ERR unknown command 'EVALSHA', with args beginning with: 'b2b45dff' '1' ", "redis_version:7.2.6\r\nredis_mode:sentinel\r\n", "is a Sentinel"},
		{"Valkey 8.0.1, Sentinel", "ERR unknown command 'EVALSHA', with args beginning with: 'b2b45dff' '1' ", "redis_version:7.2.4\r\nserver_name:valkey\r\nserver_mode:sentinel\r\n", "is a Sentinel"},
		{"Redis 6.2.16", "ERR Error running script (call to f_b2b45dff): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand", "", "lacks a permission"},
		{"Redis 7.2.6 and Valkey 8.0.1", "ERR ACL failure in script: User app has no permissions to run the 'getrange' command script: b2b45dff, on @user_script:1.", "", "lacks a permission"},
	} {
		s, _ := refusingScripts(t, other.says, other.info)
		require.ErrorContains(t, save(s, uuid.New(), 0, 1), other.want, other.server)
	}
}

// What is said of a server that went away does not cost its visitors a probe each.
func TestOutageIsNotProbed(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Socket)
	s, err := session.OpenPatiently("redis://" + proxy.Addr)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, save(s, uuid.New(), 0, 1))
	proxy.Decide(func([]string) redistest.Action { return redistest.Refuse })
	proxy.Reset()
	require.ErrorContains(t, save(s, uuid.New(), 0, 1), "EOF")
	require.Zero(t, proxy.Connections())
}
