package session_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

// confirmingACL is what docs/redis.md adds for RedisConfig.Replicas.
const confirmingACL = redisACL + " +wait"

func confirmingStore(t *testing.T, client redis.UniversalClient) *session.RedisStore {
	t.Helper()
	s, err := session.NewRedisStore(client, session.RedisConfig{Replicas: 1})
	require.NoError(t, err)
	return s
}

// replicated is a primary with a replica, and a store that waits for that one,
// with a proxy on its way to the primary.
type replicated struct {
	primary, replica *redistest.Server
	proxy            *redistest.Proxy
	store            *session.RedisStore
}

func startReplicated(t *testing.T) replicated {
	t.Helper()
	r := replicated{primary: redistest.Start(t, redistest.Config{})}
	r.replica = redistest.StartReplica(t, r.primary.Addr, redistest.Config{})
	r.proxy = redistest.StartProxy(t, r.primary.Socket)
	r.store = confirmingStore(t, r.primary.Client(&redis.Options{Addr: r.proxy.Addr, MaxRetries: 5, DisableIdentity: true}))
	exercise(t, r.store) // the server now has the scripts
	return r
}

func TestReplicasConfirmInTheSameRoundTrip(t *testing.T) {
	r := startReplicated(t)
	ctx, id := t.Context(), uuid.New()
	for _, step := range []struct {
		name     string
		call     func() error
		want     error
		commands []string
	}{
		{"create", func() error { return save(r.store, id, 0, 1) }, nil, []string{"EVALSHA", "WAIT"}},
		{"save", func() error { return save(r.store, id, 1, 2) }, nil, []string{"EVALSHA", "WAIT"}},
		{"save in conflict", func() error { return save(r.store, id, 1, 2) }, session.ErrConflict, []string{"EVALSHA", "WAIT"}},
		{"touch", func() error { return r.store.Touch(ctx, id, 2, time.Hour) }, nil, []string{"EVALSHA"}},
		{"delete", func() error { return r.store.Delete(ctx, id, 2) }, nil, []string{"EVALSHA", "WAIT"}},
		{"revoke", func() error { return r.store.Delete(ctx, id, 0) }, nil, []string{"EVALSHA", "WAIT"}},
	} {
		r.proxy.Reset()
		require.ErrorIs(t, step.call(), step.want, step.name)
		require.Equal(t, 1, r.proxy.RoundTrips(), step.name)
		require.Equal(t, step.commands, r.proxy.Commands(), step.name)
	}
	require.NoError(t, r.primary.Admin().ScriptFlush(ctx).Err())
	r.proxy.Reset()
	require.NoError(t, save(r.store, id, 0, 1))
	require.Equal(t, []string{"EVALSHA", "WAIT", "EVAL", "WAIT"}, r.proxy.Commands())
}

// What ends a user's sessions, and what a login is told by, waits as well.
func TestReplicasWaitForLists(t *testing.T) {
	r := startReplicated(t)
	ctx, id, other := t.Context(), uuid.New(), uuid.New()
	users := r.store
	enlist := func() error { _, _, err := users.Enlist(ctx, "u", id, time.Hour, 0); return err }
	cutOff := func() error { _, _, err := users.CutOff(ctx, "u"); return err }
	end := func() error { return users.End(ctx, "u", id) }
	require.NoError(t, enlist())
	require.NoError(t, cutOff())
	require.NoError(t, save(r.store, id, 0, 1))
	require.NoError(t, users.End(ctx, "u", other))
	for _, step := range []struct {
		name     string
		call     func() error
		commands []string
	}{
		{"Enlist", enlist, []string{"EVALSHA", "WAIT"}},
		{"CutOff", cutOff, []string{"EVALSHA", "WAIT"}},
		{"End", end, []string{"EVALSHA", "WAIT", "ZREM"}},
	} {
		r.proxy.Reset()
		require.NoError(t, step.call(), step.name)
		require.Equal(t, step.commands, r.proxy.Commands(), step.name)
	}
	r.replica.Pause()
	defer r.replica.Resume()
	for name, call := range map[string]func() error{"Enlist": enlist, "CutOff": cutOff, "End": end} {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
		require.Error(t, call(), name) // the WAIT's, or on a busy machine the deadline's
		cancel()
	}
}

// C5: a write that no replica has is an error whose outcome is unknown, however
// often it is sent again; also when the sends find the first one's work done.
func TestC5UnconfirmedWriteIsNeverASuccess(t *testing.T) {
	r := startReplicated(t)
	id := uuid.New()
	require.NoError(t, save(r.store, id, 0, 1))
	for _, write := range []struct {
		name  string
		call  func(context.Context) error
		after error // when a replica is there again, and the work found done
	}{
		{"save", func(ctx context.Context) error {
			_, err := r.store.Save(ctx, id, 1, session.Record{Version: 2}, time.Hour)
			return err
		}, session.ErrConflict},
		{"delete", func(ctx context.Context) error { return r.store.Delete(ctx, id, 2) }, nil},
		{"revoke", func(ctx context.Context) error { return r.store.Delete(ctx, id, 0) }, nil},
	} {
		send := func(patience time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return write.call(ctx)
		}
		r.replica.Pause()
		begun := time.Now()
		for range 3 {
			err := send(400 * time.Millisecond)
			for timedOut(err) && time.Since(begun) < time.Minute { // on a busy machine the WAIT's answer is late
				err = send(400 * time.Millisecond)
			}
			require.ErrorContains(t, err, "0 of the 1 replicas", write.name)
			require.NotErrorIs(t, err, session.ErrConflict, write.name)
			require.NotErrorIs(t, err, session.ErrNotFound, write.name)
		}
		r.replica.Resume()
		require.ErrorIs(t, send(time.Minute), write.after, write.name)
	}
}

// Since Redis 7.2, WAIT waits for nothing on a connection that wrote nothing. So
// each answer that may be an earlier send's success has to come with a write.
func TestAnswersToRepeatedWritesComeWithAWrite(t *testing.T) {
	r := startReplicated(t)
	ctx, id := t.Context(), uuid.New()
	require.NoError(t, save(r.store, id, 0, 1))
	for name, again := range map[string]struct {
		call  func() error
		write string
	}{
		"save":   {func() error { return save(r.store, id, 0, 1) }, "pexpire"},
		"delete": {func() error { return r.store.Delete(ctx, uuid.New(), 7) }, "del"},
		"revoke": {func() error { return r.store.Delete(ctx, uuid.New(), 0) }, "del"},
	} {
		writes := func() int {
			stats := r.replica.CommandStats()
			return stats[again.write].Calls + stats[again.write+"at"].Calls // since Redis 7.0 a replica is told when, not how long
		}
		before := writes()
		_ = again.call()
		require.Equal(t, before+1, writes(), name)
	}
	require.Empty(t, r.primary.Admin().Keys(ctx, "*").Val()[1:], "and leaves no key behind")

	// Of a key that lost its expiry the write makes one with, and not one without life.
	require.NoError(t, r.primary.Admin().Persist(ctx, redisKey(id)).Err())
	require.ErrorIs(t, save(r.store, id, 0, 1), session.ErrConflict)
	require.Greater(t, r.primary.Admin().PTTL(ctx, redisKey(id)).Val(), 50*time.Second)
}

// The same through a manager: 503 while no replica confirms, and never a page.
func TestC5NoPageBeforeReplicasConfirm(t *testing.T) {
	r := startReplicated(t)
	site := newSite(t, session.Config{Store: r.store})
	hasty := newSite(t, session.Config{Store: r.store, StoreTimeout: 600 * time.Millisecond})
	v := site.visitor()
	want(t, "Replicas", v.do("login alice", "count"), http.StatusOK, "alice n=1")
	r.replica.Pause()
	for _, step := range []string{"count", "countnow", "renew", "logout"} {
		got := v.at(hasty.url).do(step)
		want(t, "C5, "+step, got, http.StatusServiceUnavailable, "")
		wantCookie(t, "C5, "+step, got, "none")
		if step == "renew" { // the old secret may be dead on the primary: ask who is there now
			v = site.visitor()
			r.replica.Resume()
			want(t, "Replicas", v.do("login alice"), http.StatusOK, "alice")
			r.replica.Pause()
		}
	}
	first := hasty.visitor().do("login bob")
	want(t, "C5", first, http.StatusServiceUnavailable, "")
	wantCookie(t, "C5", first, "none")
	r.replica.Resume()
	want(t, "Replicas", site.visitor().do("login carol"), http.StatusOK, "carol")
}

func TestReplicasOverConfigurations(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) redis.UniversalClient{
		"standalone, ACL user": func(t *testing.T) redis.UniversalClient {
			primary := redistest.Start(t, redistest.Config{ACL: confirmingACL})
			redistest.StartReplica(t, primary.Addr, redistest.Config{Args: []string{"--masteruser", "admin", "--masterauth", "admin-password"}})
			return primary.Client(&redis.Options{})
		},
		"Cluster": func(t *testing.T) redis.UniversalClient {
			return redistest.StartClusterWithReplicas(t, redistest.Config{}, 1).Client(&redis.ClusterOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := start(t)
			sessiontest.TestStore(t, func(t *testing.T) session.Store {
				s, err := session.NewRedisStore(client, session.RedisConfig{Prefix: "session:" + uuid.NewString(), Replicas: 1})
				require.NoError(t, err)
				return s
			}, sessiontest.Options{RealTime: true})
		})
	}
}

// With WAIT behind it, a write goes to its node by our hand, and so do the
// redirections of a slot that moves.
func TestReplicasFollowAMovingSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterWithReplicas(t, redistest.Config{}, 1)
	s := confirmingStore(t, cluster.Client(&redis.ClusterOptions{
		ClusterStateReloadInterval: time.Hour,
		DisableIdentity:            true,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}))
	id := uuid.New()
	key := redisKey(id)
	require.NoError(t, save(s, id, 0, 1))
	from := cluster.Owner(key)
	to := (from + 1) % 3
	walk := func(version uint64) {
		t.Helper()
		require.ErrorIs(t, save(s, id, version+50, 99), session.ErrConflict)
		require.NoError(t, save(s, id, version, version+1))
	}
	cluster.BeginMove(key, to)
	walk(1)
	cluster.MoveKey(key, from, to)
	walk(2) // ASK
	cluster.EndMove(key, to)
	walk(3) // MOVED
	require.NoError(t, s.Delete(t.Context(), id, 4))
	require.NoError(t, s.Delete(t.Context(), id, 0))
}

func TestReplicasAreZeroToSixteen(t *testing.T) {
	client := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	defer client.Close()
	for n, valid := range map[int]bool{-1: false, 0: true, 16: true, 17: false} {
		_, err := session.NewRedisStore(client, session.RedisConfig{Replicas: n})
		require.Equal(t, valid, err == nil, n)
		s, err := session.Open(fmt.Sprintf("redis://localhost?replicas=%d", n))
		require.Equal(t, valid, err == nil, n)
		if valid {
			require.NoError(t, s.Close())
			continue
		}
		require.ErrorContains(t, err, "replicas")
	}
}
