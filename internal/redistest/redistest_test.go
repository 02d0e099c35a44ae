package redistest_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/redistest"
)

func proxied(t *testing.T) (*redistest.Proxy, *redis.Client, *redis.Client) {
	t.Helper()
	s := redistest.Start(t, redistest.Config{})
	p := redistest.StartProxy(t, s.Socket)
	c := s.Client(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialerRetries: 1})
	return p, c, s.Admin()
}

func only(name string, a redistest.Action) func([]string) redistest.Action {
	return func(cmd []string) redistest.Action {
		if cmd[0] == name {
			return a
		}
		return redistest.Pass
	}
}

func TestProxyCountsRoundTrips(t *testing.T) {
	p, c, _ := proxied(t)
	ctx := t.Context()
	c.Set(ctx, "a", "1", 0)
	_, _ = c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Get(ctx, "a")
		pipe.HGetAll(ctx, "none")
		return nil
	})
	if got := p.RoundTrips(); got != 2 {
		t.Errorf("%d round trips, want 2", got)
	}
	if got := p.Commands(); !slices.Equal(got, []string{"SET", "GET", "HGETALL"}) {
		t.Errorf("commands %v", got)
	}
	p.Reset()
	if p.RoundTrips() != 0 || len(p.Commands()) != 0 {
		t.Error("Reset left a count")
	}
}

func TestProxyDropsTheReplyOfWhatTheServerDid(t *testing.T) {
	p, c, admin := proxied(t)
	ctx := t.Context()
	p.Decide(only("INCR", redistest.DropReply))
	_, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "a", "1", 0)
		pipe.Incr(ctx, "a")
		pipe.Set(ctx, "b", "2", 0)
		return nil
	})
	if err == nil {
		t.Error("the client got every reply")
	}
	if a, b := admin.Get(ctx, "a").Val(), admin.Get(ctx, "b").Val(); a != "2" || b != "2" {
		t.Errorf("a=%q b=%q, want both 2: the server had the whole pipeline", a, b)
	}
}

func TestProxyRefusesAndSwallows(t *testing.T) {
	for _, action := range []redistest.Action{redistest.Refuse, redistest.BlackHole} {
		p, c, admin := proxied(t)
		p.Decide(only("SET", action))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if c.Set(ctx, "a", "1", 0).Err() == nil {
			t.Error("SET got an answer")
		}
		cancel()
		if n := admin.Exists(t.Context(), "a").Val(); n != 0 {
			t.Errorf("action %d: the server executed the command", action)
		}
	}
}

func TestProxyCutsCommandsAndRepliesInHalf(t *testing.T) {
	for action, executed := range map[redistest.Action]int64{redistest.HalfCommand: 0, redistest.HalfReply: 1} {
		p, c, admin := proxied(t)
		p.Decide(only("SET", action))
		if c.Set(t.Context(), "a", "1", 0).Err() == nil {
			t.Errorf("action %d: SET got an answer", action)
		}
		if n := admin.Exists(t.Context(), "a").Val(); n != executed {
			t.Errorf("action %d: %d keys, want %d", action, n, executed)
		}
	}
}

func TestProxyHoldsUntilReleased(t *testing.T) {
	for action, wantBefore := range map[redistest.Action]int64{redistest.HoldCommand: 0, redistest.HoldReply: 1} {
		p, c, admin := proxied(t)
		p.Decide(only("SET", action))
		done := make(chan error)
		go func() { done <- c.Set(t.Context(), "a", "1", 0).Err() }()
		<-p.Held()
		if n := admin.Exists(t.Context(), "a").Val(); n != wantBefore {
			t.Errorf("action %d: %d keys while held, want %d", action, n, wantBefore)
		}
		p.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestProxyDownAndSilent(t *testing.T) {
	p, c, _ := proxied(t)
	ctx := t.Context()
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	p.Down()
	if c.Ping(ctx).Err() == nil {
		t.Error("PING went through a proxy that is down")
	}
	p.Restore()
	if err := c.Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
	p.Silence()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if c.Ping(short).Err() == nil {
		t.Error("PING got an answer through a silent proxy")
	}
	p.Restore()
	if err := c.Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
}

func TestServerStopsPausesAndStartsAgain(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	c := s.Client(&redis.Options{MaxRetries: -1, DialerRetries: 1})
	ctx := t.Context()
	if err := c.Set(ctx, "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if c.Get(short, "a").Err() == nil {
		t.Error("a paused server answered")
	}
	s.Resume()
	if got := c.Get(ctx, "a").Val(); got != "1" {
		t.Errorf("after Resume a=%q", got)
	}
	s.Stop()
	if c.Get(ctx, "a").Err() == nil {
		t.Error("a stopped server answered")
	}
	s.Start()
	if n, err := c.Exists(ctx, "a").Result(); n != 0 || err != nil {
		t.Errorf("after a restart: %d keys, %v; want an empty server", n, err)
	}
}
