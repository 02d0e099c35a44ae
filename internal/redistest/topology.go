package redistest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Cluster is three masters, each with a third of the slots.
type Cluster struct {
	Nodes    []*Server   // those that began as masters
	Replicas [][]*Server // of each of them
}

// StartCluster runs a Cluster without replicas and waits until every node says
// that it is whole, which takes about two seconds. Args and ACL of cfg go to
// every node.
func StartCluster(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	return StartClusterWithReplicas(t, cfg, 0)
}

// StartClusterWithReplicas is StartCluster with so many replicas of each master,
// one of which is promoted when its master was silent for Config.Detection. A slot
// without a master does not stop the others.
func StartClusterWithReplicas(t testing.TB, cfg Config, replicas int) *Cluster {
	t.Helper()
	cfg.Args = slices.Concat([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", strconv.FormatInt(cmp.Or(cfg.Detection, detection).Milliseconds(), 10),
	}, cfg.Args)
	if replicas > 0 {
		cfg.Args = append(cfg.Args, "--cluster-require-full-coverage", "no")
	}
	cfg = cfg.certified(t)
	c := new(Cluster)
	for range 3 {
		c.Nodes = append(c.Nodes, Start(t, cfg))
	}
	slots := []int{0, 5461, 10923, 16384}
	for i, n := range c.Nodes {
		admin := n.Admin()
		var own []int
		for slot := slots[i]; slot < slots[i+1]; slot++ {
			own = append(own, slot)
		}
		// Not by their ends: CLUSTER ADDSLOTSRANGE came with Redis 7.0.
		if err := admin.ClusterAddSlots(context.Background(), own...).Err(); err != nil {
			t.Fatal(err)
		}
		mustDo(t, admin, "cluster", "set-config-epoch", i+1)
		if i > 0 {
			host, port, _ := net.SplitHostPort(c.Nodes[0].Addr)
			mustDo(t, admin, "cluster", "meet", host, port)
		}
	}
	c.awaitWhole(t, 3)
	c.addReplicas(t, cfg, replicas)
	return c
}

// awaitWhole waits until every node knows that many, and an owner for each slot:
// without --cluster-require-full-coverage a node's state is ok before it has heard
// of its neighbours' slots, and it answers CLUSTERDOWN for them.
func (c *Cluster) awaitWhole(t testing.TB, nodes int) {
	t.Helper()
	known := fmt.Sprintf("cluster_known_nodes:%d\r", nodes)
	waitFor(t, "the cluster to be whole", func() bool {
		for _, n := range slices.Concat(c.Nodes, slices.Concat(c.Replicas...)) {
			info := n.Admin().ClusterInfo(context.Background()).Val()
			for _, line := range []string{"cluster_state:ok\r", "cluster_slots_ok:16384\r", known} {
				if !strings.Contains(info, line) {
					return false
				}
			}
		}
		return true
	})
}

func (c *Cluster) addReplicas(t testing.TB, cfg Config, each int) {
	t.Helper()
	host, port, _ := net.SplitHostPort(c.Nodes[0].Addr)
	c.Replicas = make([][]*Server, len(c.Nodes))
	for i := range c.Nodes {
		for range each {
			n := Start(t, cfg)
			mustDo(t, n.Admin(), "cluster", "meet", host, port)
			c.Replicas[i] = append(c.Replicas[i], n)
		}
	}
	if each == 0 {
		return
	}
	c.awaitWhole(t, 3*(1+each))
	for i := range c.Nodes {
		id := c.id(i)
		for _, n := range c.Replicas[i] {
			waitFor(t, "a node to become a replica", func() bool {
				return n.Admin().ClusterReplicate(context.Background(), id).Err() == nil
			})
		}
	}
	for _, n := range slices.Concat(c.Replicas...) {
		waitFor(t, "the replica to have its master's data", n.synced)
	}
	for i, n := range c.Nodes {
		waitFor(t, "the masters to know their replicas", func() bool {
			slots, _ := n.Admin().ClusterNodes(context.Background()).Result()
			return strings.Count(slots, " slave ") == 3*each && strings.Count(slots, c.id(i)) == 1+each
		})
	}
}

// AwaitPromotion waits until one of the replicas of the master with this index
// is one itself, and returns it.
func (c *Cluster) AwaitPromotion(master int) *Server {
	t := c.Nodes[0].t
	t.Helper()
	var promoted *Server
	waitFor(t, "a replica to be promoted", func() bool {
		for _, n := range c.Replicas[master] {
			if n.Primary() {
				promoted = n
			}
		}
		return promoted != nil
	})
	return promoted
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
// gets the addresses, TLS if the nodes speak it, the user that Config.ACL makes,
// and ContextTimeoutEnabled.
func (c *Cluster) Client(o *redis.ClusterOptions) *redis.ClusterClient {
	first := c.Nodes[0]
	o.Addrs = c.Addrs()
	if first.cfg.ACL != "" {
		o.Username, o.Password = User, Password
	}
	o.TLSConfig = first.cfg.trust(first.t)
	o.ContextTimeoutEnabled = true
	client := redis.NewClusterClient(o)
	first.t.Cleanup(func() { _ = client.Close() })
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

// MoveKey moves key, and what else is in its slot, as redis-cli --cluster reshard
// does: what stayed behind would be gone after EndMove.
func (c *Cluster) MoveKey(key string, from, to int) {
	t := c.Nodes[0].t
	t.Helper()
	host, port, _ := net.SplitHostPort(c.Nodes[to].Addr)
	slot := mustDo(t, c.Nodes[from].Admin(), "cluster", "keyslot", key)
	for _, key := range mustDo(t, c.Nodes[from].Admin(), "cluster", "getkeysinslot", slot, 1000).([]any) {
		args := []any{"migrate", host, port, key, 0, 5000}
		if c.Nodes[to].cfg.ACL != "" {
			args = append(args, "auth2", adminUser, adminPassword)
		}
		mustDo(t, c.Nodes[from].Admin(), args...)
	}
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
	host, port, _ := net.SplitHostPort(primary.Addr)
	s := &Sentinel{Master: "sessions", Primary: primary}
	s.Addr, _ = Config{}.startSentinel(t, fmt.Sprintf("sentinel monitor %s %s %s 1\n", s.Master, host, port))
	client := Config{}.sentinelClient(t, s.Addr)
	waitFor(t, "the Sentinel to know its primary", func() bool {
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
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: gave up waiting for %s", what)
		}
	}
}
