package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Cluster is three masters without replicas, each with a third of the slots.
type Cluster struct {
	Nodes []*Server
}

// StartCluster runs a Cluster and waits until every node says that it is whole,
// which takes about two seconds. Args and ACL of cfg go to every node.
func StartCluster(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	cfg.Args = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "1000"}, cfg.Args...)
	c := new(Cluster)
	for range 3 {
		c.Nodes = append(c.Nodes, Start(t, cfg))
	}
	ctx := context.Background()
	slots := []int{0, 5461, 10923, 16384}
	for i, n := range c.Nodes {
		admin := n.Admin()
		mustDo(t, admin, "cluster", "addslotsrange", slots[i], slots[i+1]-1)
		mustDo(t, admin, "cluster", "set-config-epoch", i+1)
		if i > 0 {
			host, port, _ := net.SplitHostPort(c.Nodes[0].Addr)
			mustDo(t, admin, "cluster", "meet", host, port)
		}
	}
	waitFor(t, "the cluster to be whole", func() bool {
		for _, n := range c.Nodes {
			info := n.Admin().ClusterInfo(ctx).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return c
}

// Addrs lists the nodes' addresses.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

// Client returns a client with the options o, which is closed with the test. It
// gets the addresses, the user that Config.ACL makes, and ContextTimeoutEnabled.
func (c *Cluster) Client(o *redis.ClusterOptions) *redis.ClusterClient {
	o.Addrs = c.Addrs()
	if c.Nodes[0].cfg.ACL != "" {
		o.Username, o.Password = User, Password
	}
	o.ContextTimeoutEnabled = true
	client := redis.NewClusterClient(o)
	c.Nodes[0].t.Cleanup(func() { _ = client.Close() })
	return client
}

// Owner returns the index of the node that has the slot of key.
func (c *Cluster) Owner(key string) int {
	t := c.Nodes[0].t
	t.Helper()
	slot := mustDo(t, c.Nodes[0].Admin(), "cluster", "keyslot", key).(int64)
	for i, n := range c.Nodes {
		//lint:ignore SA1019 its successor needs Redis 7.0, and the tests run on 6.2 too
		for _, r := range n.Admin().ClusterSlots(context.Background()).Val() {
			if int64(r.Start) <= slot && slot <= int64(r.End) && r.Nodes[0].Addr == n.Addr {
				return i
			}
		}
	}
	t.Fatalf("redistest: slot %d has no owner", slot)
	return -1
}

// BeginMove starts to move the slot of key to the node with the index to. Until
// EndMove, the old owner answers ASK for keys that it no longer has.
func (c *Cluster) BeginMove(key string, to int) {
	t := c.Nodes[0].t
	t.Helper()
	from := c.Owner(key)
	slot := mustDo(t, c.Nodes[0].Admin(), "cluster", "keyslot", key)
	mustDo(t, c.Nodes[to].Admin(), "cluster", "setslot", slot, "importing", c.id(from))
	mustDo(t, c.Nodes[from].Admin(), "cluster", "setslot", slot, "migrating", c.id(to))
}

// MoveKey moves key itself, as redis-cli --cluster reshard does.
func (c *Cluster) MoveKey(key string, from, to int) {
	t := c.Nodes[0].t
	t.Helper()
	host, port, _ := net.SplitHostPort(c.Nodes[to].Addr)
	args := []any{"migrate", host, port, key, 0, 5000}
	if c.Nodes[to].cfg.ACL != "" {
		args = append(args, "auth2", adminUser, adminPassword)
	}
	mustDo(t, c.Nodes[from].Admin(), args...)
}

// EndMove gives the slot of key to the node with the index to. From then on the
// other nodes answer MOVED.
func (c *Cluster) EndMove(key string, to int) {
	t := c.Nodes[0].t
	t.Helper()
	slot := mustDo(t, c.Nodes[0].Admin(), "cluster", "keyslot", key)
	mustDo(t, c.Nodes[to].Admin(), "cluster", "setslot", slot, "node", c.id(to))
	for i, n := range c.Nodes {
		if i != to {
			mustDo(t, n.Admin(), "cluster", "setslot", slot, "node", c.id(to))
		}
	}
}

func (c *Cluster) id(node int) string {
	t := c.Nodes[0].t
	t.Helper()
	return mustDo(t, c.Nodes[node].Admin(), "cluster", "myid").(string)
}

// A Sentinel watches one primary under the name "sessions". It is there for
// clients to ask; there is no replica to fail over to.
type Sentinel struct {
	Addr    string
	Master  string
	Primary *Server
}

// StartSentinel runs a primary and a Sentinel that knows it.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	primary := Start(t, Config{})
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(primary.Addr)
	s := &Sentinel{Addr: "127.0.0.1:" + freePort(t), Master: "sessions", Primary: primary}
	_, sentinelPort, _ := net.SplitHostPort(s.Addr)
	conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nprotected-mode no\nsentinel monitor %s %s %s 1\n",
		sentinelPort, dir, s.Master, host, port)
	file := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	proc := exec.Command(binary(t), file, "--sentinel")
	endWithParent(proc)
	if err := proc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proc.Process.Kill()
		_ = proc.Wait()
		_ = os.RemoveAll(dir)
	})
	client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	waitFor(t, "the Sentinel to answer", func() bool {
		return client.GetMasterAddrByName(context.Background(), s.Master).Err() == nil
	})
	return s
}

func mustDo(t testing.TB, c *redis.Client, args ...any) any {
	t.Helper()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("redistest: %v: %v", args, err)
	}
	return v
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: gave up waiting for %s", what)
		}
	}
}
