package redistest_test

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/redistest"
)

// detection is long, because a busy machine must not have a server replaced that
// the test has not stopped.
const detection = 5 * time.Second

func TestFailoverPromotesOnce(t *testing.T) {
	t.Parallel()
	f := redistest.StartFailover(t, redistest.Config{Detection: detection})
	promotesOnce(t, f, f.Client(&redis.FailoverOptions{Dialer: f.Dial}))
}

func TestFailoverPromotesOnceWithTLSAndPasswords(t *testing.T) {
	t.Parallel()
	f := redistest.StartFailover(t, redistest.Config{Detection: detection, TLS: true, ACL: "~* +@all"})
	promotesOnce(t, f, f.Client(new(redis.FailoverOptions)))
}

// promotesOnce stops the primary, and has the client c find the promoted one.
func promotesOnce(t *testing.T, f *redistest.Failover, c *redis.Client) {
	t.Helper()
	if n := f.Switches(); n != 0 {
		t.Fatalf("%d switches before anything happened", n)
	}
	if err := c.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := c.Do(t.Context(), "wait", 2, 60_000).Val(); n != int64(2) {
		t.Fatalf("%v replicas have the write", n)
	}
	f.Servers[0].Stop()
	promoted := f.AwaitPromotion()
	if got := promoted.Admin().Get(t.Context(), "a").Val(); got != "1" || !promoted.Primary() {
		t.Errorf("the promoted server has a=%q", got)
	}
	for deadline := time.Now().Add(time.Minute); c.Get(t.Context(), "a").Val() != "1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client does not find the promoted server")
		}
	}
	if n := f.Switches(); n != 1 {
		t.Errorf("%d switches, want 1", n)
	}
}

func TestClusterPromotesAReplica(t *testing.T) {
	t.Parallel()
	c := redistest.StartClusterWithReplicas(t, redistest.Config{Detection: detection}, 2)
	owner := c.Owner("a")
	admin := c.Nodes[owner].Admin()
	if err := admin.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := admin.Do(t.Context(), "wait", 2, 60_000).Val(); n != int64(2) {
		t.Fatalf("%v replicas have the write", n)
	}
	c.Nodes[owner].Stop()
	if got := c.AwaitPromotion(owner).Admin().Get(t.Context(), "a").Val(); got != "1" {
		t.Errorf("the promoted node has a=%q", got)
	}
}

func TestLinkCarriesNothingWhileCut(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	link := redistest.StartLink(t, s.Addr)
	ping := func(c net.Conn, patience time.Duration) error {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte("PING\r\n"))
		_, err := bufio.NewReader(c).ReadString('\n')
		return err
	}
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", link.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	old := dial()
	if err := ping(old, time.Minute); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	if ping(old, 100*time.Millisecond) == nil || ping(dial(), 100*time.Millisecond) == nil {
		t.Error("a PING came back through a link that is cut")
	}
	link.Restore()
	if ping(dial(), time.Minute) != nil {
		t.Error("no PING comes back through a link that is whole again")
	}
}
