package redistest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/child"
)

// Detection is Config.Detection of tests in which a server is to be replaced. With
// 300 ms a busy machine has Sentinels fail over again and again.
const Detection = time.Second

// detection is for tests in which none is.
const detection = time.Minute

// StartReplica runs a server that replicates the one at primary, and waits until
// it has what that one has.
func StartReplica(t testing.TB, primary string, cfg Config) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(primary)
	cfg.Args = slices.Concat([]string{"--replicaof", host, port}, cfg.Args)
	s := Start(t, cfg)
	waitFor(t, "the replica to have its primary's data", s.synced)
	return s
}

func (s *Server) synced() bool {
	return strings.Contains(s.Admin().Info(context.Background(), "replication").Val(), "master_link_status:up")
}

// Primary reports whether the server takes itself for one.
func (s *Server) Primary() bool {
	return strings.Contains(s.Admin().Info(context.Background(), "replication").Val(), "role:master")
}

// A Failover is a primary, two replicas, and three Sentinels that promote one of
// them when the primary was silent for Config.Detection.
type Failover struct {
	Master    string    // the name that the Sentinels know it by
	Sentinels []string  // their addresses
	Servers   []*Server // the primary first

	// Link is the way of the replicas and the Sentinels to the first primary.
	// Clients go around it, see [Failover.Dial].
	Link *Link

	t    testing.TB
	cfg  Config
	logs []string // of the Sentinels
}

// StartFailover runs all of them and waits until each knows the others, which
// takes about two and a half seconds. Detection of cfg goes to the Sentinels, Args
// to the Redis servers, TLS and ACL to both.
func StartFailover(t testing.TB, cfg Config) *Failover {
	t.Helper()
	cfg = cfg.certified(t)
	if cfg.ACL != "" {
		cfg.Args = slices.Concat([]string{"--masteruser", adminUser, "--masterauth", adminPassword}, cfg.Args)
	}
	f := &Failover{t: t, cfg: cfg, Master: "sessions", Servers: []*Server{Start(t, cfg)}}
	f.Link = StartLink(t, f.Servers[0].Addr)
	for range 2 {
		f.Servers = append(f.Servers, StartReplica(t, f.Link.Addr, cfg))
	}
	host, port, _ := net.SplitHostPort(f.Link.Addr)
	ms := cmp.Or(cfg.Detection, detection).Milliseconds()
	lines := fmt.Sprintf(
		"sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s %[4]d\n"+
			"sentinel failover-timeout %[1]s %[5]d\nsentinel parallel-syncs %[1]s 2\n",
		f.Master, host, port, ms, 4*ms)
	if cfg.ACL != "" {
		lines += fmt.Sprintf("sentinel auth-user %[1]s %[2]s\nsentinel auth-pass %[1]s %[3]s\n", f.Master, adminUser, adminPassword)
	}
	for range 3 {
		addr, log := cfg.startSentinel(t, lines)
		f.Sentinels, f.logs = append(f.Sentinels, addr), append(f.logs, log)
	}
	for _, addr := range f.Sentinels {
		c := cfg.sentinelClient(t, addr)
		waitFor(t, "the Sentinels to know each other and the replicas", func() bool {
			m := c.Master(context.Background(), f.Master).Val()
			return m["num-slaves"] == "2" && m["num-other-sentinels"] == "2"
		})
	}
	return f
}

// Client returns a client with the options o, which is closed with the test. It
// gets the Sentinels, TLS and the users of Config, and ContextTimeoutEnabled.
func (f *Failover) Client(o *redis.FailoverOptions) *redis.Client {
	o.MasterName, o.SentinelAddrs, o.TLSConfig = f.Master, f.Sentinels, f.cfg.trust(f.t)
	if f.cfg.ACL != "" {
		o.Username, o.Password = User, Password
		o.SentinelUsername, o.SentinelPassword = SentinelUser, SentinelPassword
	}
	o.ContextTimeoutEnabled = true
	client := redis.NewFailoverClient(o)
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Dial is the Dialer of a client that reaches the first primary without Link.
func (f *Failover) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr == f.Link.Addr {
		addr = f.Servers[0].Addr
	}
	return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
}

// Switches returns how often the Sentinels have moved the name to another server,
// by the log of the one that saw most.
func (f *Failover) Switches() int {
	f.t.Helper()
	most := 0
	for _, file := range f.logs {
		log, err := os.ReadFile(file)
		if err != nil {
			f.t.Fatal(err)
		}
		most = max(most, strings.Count(string(log), "+switch-master"))
	}
	return most
}

// AwaitPromotion waits until the Sentinels agree on another primary than the
// first, and returns it.
func (f *Failover) AwaitPromotion() *Server {
	f.t.Helper()
	var promoted *Server
	waitFor(f.t, "a replica to be promoted", func() bool {
		addrs := map[string]bool{}
		for _, addr := range f.Sentinels {
			at := f.cfg.sentinelClient(f.t, addr).GetMasterAddrByName(context.Background(), f.Master).Val()
			addrs[strings.Join(at, ":")] = true
		}
		for _, s := range f.Servers[1:] {
			if addrs[s.Addr] && len(addrs) == 1 {
				promoted = s
			}
		}
		return promoted != nil
	})
	return promoted
}

func (cfg Config) sentinelClient(t testing.TB, addr string) *redis.SentinelClient {
	o := &redis.Options{Addr: addr, TLSConfig: cfg.trust(t), MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true}
	if cfg.ACL != "" {
		o.Username, o.Password = SentinelUser, SentinelPassword
	}
	c := redis.NewSentinelClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// startSentinel runs a Sentinel with these lines of configuration and returns
// its address and the path of its log.
func (cfg Config) startSentinel(t testing.TB, lines string) (addr, log string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr, log = "127.0.0.1:"+freePort(t), filepath.Join(dir, "log")
	_, port, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf("bind 127.0.0.1\ndir %s\nlogfile %s\nprotected-mode no\n%s", dir, log, lines)
	for _, d := range cfg.listen(port) {
		conf += d[0] + " " + d[1] + "\n"
	}
	if cfg.ACL != "" {
		conf += fmt.Sprintf("user default off\nuser %[1]s on >%[2]s &* +@all\n"+
			"sentinel sentinel-user %[1]s\nsentinel sentinel-pass %[2]s\n", SentinelUser, SentinelPassword)
	}
	file := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	proc := exec.Command(binary(t), file, "--sentinel")
	child.EndWithParent(proc)
	if err := proc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proc.Process.Kill()
		_ = proc.Wait()
		if lines, _ := os.ReadFile(log); t.Failed() {
			t.Logf("end of a Sentinel's log:\n%s", lines[max(0, len(lines)-2000):])
		}
	})
	c := cfg.sentinelClient(t, addr)
	waitFor(t, "the Sentinel to answer", func() bool { return c.Ping(context.Background()).Err() == nil })
	return addr, log
}
