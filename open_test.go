package session_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// secret stands wherever a password may end up, also where it should not be.
const secret = "S3cr3t0fMine"

var goodURLs = []string{
	"",
	"memory:",
	"memory:?max_sessions=100000",
	"redis://localhost",
	"redis://localhost/",
	"redis://localhost:6380/15",
	"redis://[::1]:6380/1",
	"redis://[::1]",
	"redis://[fe80::1%25eth0]:1",
	"redis://:" + secret + "@localhost",
	"redis://alice:" + secret + "%40%2F%3F%23%25@localhost/2?prefix=shop",
	"redis://alice:" + secret + "@with:colons@localhost",
	"rediss://my_host.example.:6379",
	"unix:///run/redis/redis.sock",
	"unix://alice:" + secret + "@/run/redis%20dir/redis.sock?db=3&prefix=a:b",
	"redis+sentinel://one/main",
	"redis+sentinel://alice:" + secret + "@one,two:26380,[::1]:1/main/4?prefix=x&sentinel_user=s&sentinel_password=" + secret,
	"rediss+sentinel://one,two/main",
	"redis+cluster://one",
	"redis+cluster://alice:" + secret + "@one:7000,two:7001,three/0",
	"rediss+cluster://one,two",
}

// Each bad URL, and what its error names.
var badURLs = [][]string{
	{"localhost:6379", "redis://"},
	{"redis", "redis://"},
	{"redis:localhost", "redis://"},
	{"memory://", "memory:"},
	{"memory:100", "memory:"},
	{"memory:?100", "name=value"},
	{"memory:?max_sessions=0", "1 or more"},
	{"memory:?max_sessions=-1", "1 or more"},
	{"memory:?max_sessions=" + secret, "1 or more"},
	{"memory:?max_sessions=99999999999", "1 or more"},
	{"memory:?prefix=shop", "option prefix; make the session.MemoryStore yourself"},
	{"redis://localhost?max_sessions=9", "option max_sessions;"},
	{"http://alice:" + secret + "@localhost", "redis+cluster://"},
	{"rediss+unix:///sock", "unix://"},
	{"redisss://" + secret + "@h", "redis://"},
	{"REDIS://localhost", "redis://"},
	{secret + "://localhost", "redis://"},
	{"redis://", "host 1"},
	{"redis:///0", "host 1"},
	{"redis://:6379", "host 1"},
	{"redis://localhost:", "host 1"},
	{"redis://localhost:0", "host 1"},
	{"redis://localhost:65536", "host 1"},
	{"redis://localhost:" + secret, "host 1"},
	{"redis://" + secret + ":" + secret, "host 1"},
	{"redis://[::1", "host 1"},
	{"redis://[localhost]", "host 1"},
	{"redis://::1", "host 1"},
	{"redis://a b", "host 1"},
	{"redis://a\x00b", "host 1"},
	{"redis://one,two", "several hosts"},
	{"redis://@localhost", "no password"},
	{"redis://alice@localhost", "no password"},
	{"redis://alice:@localhost", "no password"},
	{"redis://alice:" + secret + "%zz@localhost", "%25"},
	{"redis://alice:" + secret + "%@localhost", "%25"},
	{"redis://alice:" + secret + "/x@localhost", "%2F"},
	{"redis://alice:" + secret + "?x@localhost", "%3F"},
	{"redis://alice:" + secret + "#x@localhost", "%23"},
	{"redis://alice:" + secret + "/x=" + secret + "&" + secret + "@localhost", "%40"},
	{"redis://localhost#" + secret, "%23"},
	{"redis://localhost/one", "database"},
	{"redis://localhost/-1", "database"},
	{"redis://localhost/0/" + secret, "database"},
	{"redis://localhost/99999999999", "database"},
	{"redis://localhost/%zz", "%25"},
	{"redis://localhost?password=" + secret, "option password;"},
	{"redis://localhost?pool_size=5&read_timeout=1s", "option pool_size;"},
	{"redis://localhost?pool_size=5&read_timeout=1s", "option read_timeout;"},
	{"redis://localhost?db=1", "option db;"},
	{"redis://localhost?sentinel_password=" + secret, "option sentinel_password;"},
	{"redis://localhost?" + secret, "name=value"},
	{"redis://localhost?" + secret + "1=2", "name=value"},
	{"redis://localhost?prefix", "name=value"},
	{"redis://localhost?prefix=", "no readable value"},
	{"redis://localhost?prefix=%zz" + secret, "no readable value"},
	{"redis://localhost?prefix=a&prefix=b", "twice"},
	{"redis://localhost?prefix={a}", "hash tag"},
	{"unix://localhost/sock", "no host"},
	{"unix://", "no socket"},
	{"unix:///", "no socket"},
	{"unix:///sock?db=" + secret, "database"},
	{"redis+sentinel://one", "no master"},
	{"redis+sentinel://one//0", "no master"},
	{"redis+sentinel://one,/main", "host 2"},
	{"redis+sentinel://one/main/" + secret, "database"},
	{"redis+cluster://one,,two", "host 2"},
	{"redis+cluster://one/1", "only database 0"},
	{"redis+cluster://one?db=1", "option db;"},
	// every fault at once
	{"redis://alice@a b/x?y=1", "no password"},
	{"redis://alice@a b/x?y=1", "host 1"},
	{"redis://alice@a b/x?y=1", "database"},
	{"redis://alice@a b/x?y=1", "option y;"},
}

func TestOpenReadsURLs(t *testing.T) {
	for _, u := range goodURLs {
		s, err := session.Open(u)
		require.NoError(t, err, u)
		require.NoError(t, s.Close(), u)
		require.NoError(t, s.Close(), "a second Close is the first one's")
	}
}

func TestOpenNamesTheFaultAndNotThePassword(t *testing.T) {
	for _, tt := range badURLs {
		s, err := session.Open(tt[0])
		require.Nil(t, s, tt[0])
		require.ErrorContains(t, err, tt[1], tt[0])
		requireClean(t, err)
	}
}

func requireClean(t *testing.T, err error) {
	t.Helper()
	require.NotContains(t, strings.ToLower(err.Error()), strings.ToLower(secret))
	for line := range strings.Lines(err.Error()) {
		require.True(t, strings.HasPrefix(line, "session: "), line)
	}
}

func FuzzOpen(f *testing.F) {
	for _, u := range goodURLs {
		f.Add(u, "")
	}
	for _, u := range badURLs {
		f.Add(u[0], "")
	}
	f.Add("redis://alice", "host:port/x?y#z")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, u := range []string{before, before + ":" + secret + "@" + after} {
			s, err := session.Open(u)
			if err != nil {
				requireClean(t, err)
				continue
			}
			_ = s.Close()
		}
	})
}

func TestOpenLimitsMemory(t *testing.T) {
	s, err := session.Open("memory:?max_sessions=2")
	require.NoError(t, err)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for _, id := range ids {
		require.NoError(t, save(s, id, 0, 1))
	}
	left := 0
	for _, id := range ids {
		if _, err := s.Load(t.Context(), id); err == nil {
			left++
		}
	}
	require.Equal(t, 2, left, "one made room")
}

// Every kind of URL leads to a store that works.
func TestOpenConnects(t *testing.T) {
	plain := redistest.Start(t, redistest.Config{})
	acl := redistest.Start(t, redistest.Config{ACL: redisACL + " +select"})
	sentinel := redistest.StartSentinel(t)
	cluster := redistest.StartCluster(t, redistest.Config{ACL: redisACL + " +cluster|slots"})
	userinfo := redistest.User + ":" + redistest.Password + "@"
	urls := []string{
		"memory:",
		"redis://" + plain.Addr + "/3",
		"unix://" + plain.Socket + "?db=2",
		"redis://" + userinfo + acl.Addr,
		"redis://" + userinfo + acl.Addr + "/1",
		"unix://" + userinfo + acl.Socket,
		"redis+sentinel://" + sentinel.Addr + "/" + sentinel.Master + "/1",
		"redis+cluster://" + userinfo + strings.Join(cluster.Addrs(), ","),
	}
	for _, u := range urls {
		s, err := session.Open(u)
		require.NoError(t, err)
		exerciseInTime(t, s)
		require.NoError(t, s.Close())
		if u != "memory:" {
			_, err = s.Load(t.Context(), uuid.New())
			require.ErrorIs(t, err, redis.ErrClosed)
		}
	}
	require.Empty(t, acl.Admin().ACLLog(t.Context(), 10).Val(), "nothing was sent that the documented ACL forbids")
	for _, node := range cluster.Nodes {
		require.Empty(t, node.Admin().ACLLog(t.Context(), 10).Val())
	}
}

// exerciseInTime is exercise for a store whose client was made by Open: where that
// waited for half a second on a busy machine, it begins anew.
func exerciseInTime(t *testing.T, s session.Store) {
	t.Helper()
	for begun := time.Now(); ; {
		a := &attempt{TB: t}
		done := make(chan struct{})
		go func() { defer close(done); exercise(a, s) }()
		<-done
		if a.said == "" {
			return
		}
		if !ranOutOfTime(a.said) || time.Since(begun) > time.Minute {
			t.Fatal(a.said)
		}
	}
}

// ranOutOfTime reads what a test says of a time-out.
func ranOutOfTime(said string) bool {
	return strings.Contains(said, "i/o timeout") || strings.Contains(said, context.DeadlineExceeded.Error())
}

// An attempt may fail without its test.
type attempt struct {
	testing.TB
	said string
}

func (a *attempt) Errorf(format string, args ...any) { a.said += fmt.Sprintf(format, args...) }
func (a *attempt) FailNow()                          { runtime.Goexit() }

// The recipe of docs/redis.md for a certificate that no public root signed. Go
// reads the system's roots once in a process, so this takes one of its own.
func TestOpenTrustsTheSystemsRoots(t *testing.T) {
	const variable = "SESSION_TEST_TLS_URL"
	if u := os.Getenv(variable); u != "" {
		s, err := session.Open(u)
		require.NoError(t, err)
		defer s.Close()
		exercise(t, s)
		return
	}
	server := redistest.Start(t, redistest.Config{TLS: true, ACL: redisACL})
	u := "rediss://" + redistest.User + ":" + redistest.Password + "@" + server.Addr
	run := func(roots string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenTrustsTheSystemsRoots$")
		cmd.Env = append(os.Environ(), variable+"="+u, "SSL_CERT_FILE="+roots)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(server.CA)
	for begun := time.Now(); err != nil && ranOutOfTime(out) && time.Since(begun) < time.Minute; {
		out, err = run(server.CA)
	}
	require.NoError(t, err, out)
	_, err = run(os.DevNull)
	require.Error(t, err, "a certificate that no root signed is refused")
}

// Section 9: neither Open nor NewRedisStore asks anything of the server.
func TestOpenAsksNothing(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	proxy := redistest.StartProxy(t, server.Socket)
	for _, u := range []string{"redis://%s", "redis+cluster://%s", "redis+sentinel://%s/main"} {
		s, err := session.Open(fmt.Sprintf(u, proxy.Addr))
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	proxy.Down()
	require.Zero(t, proxy.Connections())
	s, err := session.Open("redis://" + proxy.Addr)
	require.NoError(t, err, "nor does it mind that there is none")
	require.NoError(t, s.Close())
}
