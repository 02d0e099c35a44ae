package session_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// The races over HTTP, on every way to run Redis. Each topology gets a process
// that runs the tests of the races*_test.go files on it: so they need not know,
// and rediss:// finds its root in the environment, as a user's program would.

const (
	topologyURL  = "SESSION_TEST_TOPOLOGY_URL"
	topologyRESP = "SESSION_TEST_TOPOLOGY_RESP2"
)

// topologyStore is the store of such a process.
func topologyStore(t *testing.T) session.Store {
	t.Helper()
	u := os.Getenv(topologyURL)
	if os.Getenv(topologyRESP) != "" {
		o, err := redis.ParseURL(u)
		if err != nil {
			t.Fatal(err)
		}
		o.Protocol, o.ContextTimeoutEnabled = 2, true
		return redisStore(t, redis.NewClient(o))
	}
	s, err := session.OpenPatiently(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A topology is a way to run Redis, and what the process that uses it needs.
type topology struct {
	name string
	env  []string
}

func topologies(t *testing.T) []topology {
	at := func(name, url string, env ...string) topology {
		return topology{name, append(env, topologyURL+"="+url)}
	}
	app := redistest.User + ":" + redistest.Password + "@"
	plain := redistest.Start(t, redistest.Config{})
	acl := redistest.Start(t, redistest.Config{ACL: redisACL})
	secure := redistest.Start(t, redistest.Config{TLS: true, ACL: redisACL})
	failover := redistest.StartFailover(t, redistest.Config{})
	// A Sentinel names the Link's address, which leads to the primary all the same.
	sentinels := "redis+sentinel://" + strings.Join(failover.Sentinels, ",") + "/" + failover.Master
	guarded := redistest.StartFailover(t, redistest.Config{TLS: true, ACL: redisACL})
	guards := "rediss+sentinel://" + app + strings.Join(guarded.Sentinels, ",") + "/" + guarded.Master +
		"?sentinel_user=" + redistest.SentinelUser + "&sentinel_password=" + redistest.SentinelPassword
	cluster := redistest.StartCluster(t, redistest.Config{ACL: redisACL + " +cluster|slots +asking"})
	secured := redistest.StartCluster(t, redistest.Config{TLS: true, ACL: redisACL + " +cluster|slots +asking"})
	return []topology{
		at("standalone, RESP3", "redis://"+plain.Addr),
		at("standalone, RESP2", "redis://"+plain.Addr, topologyRESP+"=1"),
		at("ACL user", "redis://"+app+acl.Addr),
		at("TLS", "rediss://"+app+secure.Addr, "SSL_CERT_FILE="+secure.CA),
		at("Sentinel", sentinels),
		at("Sentinel, a replica confirms", sentinels+"?replicas=1"),
		at("Sentinel, TLS and passwords", guards, "SSL_CERT_FILE="+guarded.Servers[0].CA),
		at("Cluster of three masters", "redis+cluster://"+app+strings.Join(cluster.Addrs(), ",")),
		at("Cluster of three masters, TLS", "rediss+cluster://"+app+strings.Join(secured.Addrs(), ","), "SSL_CERT_FILE="+secured.Nodes[0].CA),
	}
}

// raceTests are the names of the tests in the races*_test.go files.
func raceTests(t *testing.T) []string {
	t.Helper()
	files, _ := filepath.Glob("races*_test.go")
	var names []string
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(src, -1) {
			names = append(names, string(m[1]))
		}
	}
	if len(names) < 20 {
		t.Fatalf("the races are %q; did the files get other names?", names)
	}
	return names
}

// fewRaces stand for all of them where SESSION_TOPOLOGIES=all is not set: a merge,
// a logout, a login, and a hundred at once.
const fewRaces = "TestDifferentKeysChangedAtOnceAreAllKept|TestLogoutHoldsAgainstWriterInsideTheStore|" +
	"TestOldTokenIsDeadAtTheInstantOfLoginOrRenew|TestHundredParallelIncrementsEndAtHundred"

func TestRacesOverTopologies(t *testing.T) {
	if os.Getenv(topologyURL) != "" {
		t.Skip("this is the process that runs the races")
	}
	all, which := strings.Join(raceTests(t), "|"), fewRaces
	for name := range strings.SplitSeq(which, "|") {
		if !strings.Contains("|"+all+"|", "|"+name+"|") {
			t.Fatalf("there is no race called %s any more", name)
		}
	}
	if os.Getenv("SESSION_TOPOLOGIES") == "all" {
		which = all
	}
	for _, top := range topologies(t) {
		t.Run(top.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^("+which+")$")
			cmd.Env = append(os.Environ(), top.env...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			ran := strings.Count(string(out), "/topology/two_servers (")
			t.Logf("%d of the races ran on two servers", ran)
			if ran < 4 {
				t.Errorf("the races did not run:\n%s", out)
			}
		})
	}
}
