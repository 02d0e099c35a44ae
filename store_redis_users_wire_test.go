package session_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// What the lists of a user's sessions cost on the wire, and what they say when it
// fails: on one server, through a proxy, and in a Cluster.

// sentOnce counts what a client sends and waits for: commands alone, and whole
// pipelines. A proxy would count a long pipeline by the pieces that it reads.
type sentOnce struct{ trips atomic.Int32 }

func (*sentOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *sentOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.trips.Add(1)
		return next(ctx, cmd)
	}
}

func (c *sentOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.trips.Add(1)
		return next(ctx, cmds)
	}
}

// listCalls are the calls of a UserStore, by name, on ids and their list.
func listCalls(s session.UserStore, list string, ids ...uuid.UUID) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Enlist": func(ctx context.Context) error {
			_, _, err := s.Enlist(ctx, list, ids[0], time.Hour, 1)
			return err
		},
		"List":     func(ctx context.Context) error { _, err := s.List(ctx, list); return err },
		"CutOff":   func(ctx context.Context) error { _, _, err := s.CutOff(ctx, list, ids...); return err },
		"End":      func(ctx context.Context) error { return s.End(ctx, list, ids...) },
		"LoadAll":  func(ctx context.Context) error { _, err := s.LoadAll(ctx, ids); return err },
		"Versions": func(ctx context.Context) error { _, err := s.Versions(ctx, ids); return err },
	}
}

func TestRedisStoreListsNeedFewRoundTrips(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	exerciseLists(t, s) // the server now has the scripts
	calls := listCalls(s, "u", newIDs(2)...)
	for name, want := range map[string]struct {
		commands []string
		trips    int
	}{
		"Enlist":   {[]string{"EVALSHA"}, 1},
		"List":     {[]string{"ZRANGE"}, 1},
		"CutOff":   {[]string{"EVALSHA"}, 1},
		"End":      {[]string{"DEL", "DEL", "ZREM"}, 2},
		"LoadAll":  {[]string{"GET", "PTTL", "GET", "PTTL"}, 1},
		"Versions": {[]string{"GETRANGE", "GETRANGE"}, 1},
	} {
		proxy.Reset()
		require.NoError(t, calls[name](t.Context()), name)
		require.Equal(t, want.trips, proxy.RoundTrips(), name)
		require.Equal(t, want.commands, proxy.Commands(), name)
	}
}

// The figures of the doc comments, on one server and in a Cluster, whose client
// asks all nodes at once.
func TestRedisStoreListsNeedFewRoundTripsForMany(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) redis.UniversalClient{
		"one server": func(t *testing.T) redis.UniversalClient {
			return redistest.Start(t, redistest.Config{}).Client(&redis.Options{})
		},
		"Cluster": func(t *testing.T) redis.UniversalClient {
			return redistest.StartCluster(t, redistest.Config{}).Client(&redis.ClusterOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, sent := start(t), new(sentOnce)
			client.AddHook(sent)
			s := newRedisStore(t, client)
			exerciseLists(t, s) // connections are made, which the hook counts as well
			for _, c := range []struct {
				n, load, versions, end int
			}{{1, 1, 1, 2}, {500, 1, 1, 2}, {501, 2, 1, 3}, {990, 2, 1, 3}, {1000, 2, 1, 3}, {1001, 3, 2, 5}, {2500, 5, 3, 8}} {
				calls := listCalls(s, "u", newIDs(c.n)...)
				for call, want := range map[string]int{"LoadAll": c.load, "Versions": c.versions, "End": c.end} {
					sent.trips.Store(0)
					require.NoError(t, calls[call](t.Context()))
					require.EqualValues(t, want, sent.trips.Load(), "%s of %d", call, c.n)
				}
			}
		})
	}
}

// A user with 1,000 sessions among 100,000 others, or a million with
// SESSION_MANY_SESSIONS=1000000: no command looks at more than is the user's.
func TestRedisStoreFindsAUsersSessionsAmongMany(t *testing.T) {
	others := 100_000
	if n := os.Getenv("SESSION_MANY_SESSIONS"); n != "" {
		var err error
		others, err = strconv.Atoi(n)
		require.NoError(t, err)
	}
	if testing.Short() {
		others = 1000
	}
	server := redistest.Start(t, redistest.Config{})
	s, admin := newRedisStore(t, server.Client(&redis.Options{})), server.Admin()
	ctx := t.Context()
	fillWithOthers(t, admin, others)
	ids := newIDs(1000)
	enlistAll(t, s, "alice", ids...)
	for i, id := range ids[:10] { // the other 990 are dead
		require.NoError(t, save(s, id, 0, uint64(i+1)))
	}

	_, _, err := s.CutOff(ctx, "bob") // the server now has both scripts
	require.NoError(t, err)
	require.NoError(t, admin.ConfigResetStat(ctx).Err())
	requireListed(t, s, "alice", ids...)
	records, err := s.LoadAll(ctx, ids)
	require.NoError(t, err)
	for i, rec := range records {
		require.Equal(t, i < 10, rec.Version != 0)
	}
	_, err = s.Versions(ctx, ids)
	require.NoError(t, err)
	listed, _, err := s.CutOff(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, ids, listed)
	require.NoError(t, s.End(ctx, "alice", ids[10:]...))
	listed, _, err = s.Enlist(ctx, "alice", ids[0], time.Hour, 9)
	require.NoError(t, err)
	require.Equal(t, append(slices.Clone(ids[1:10]), ids[0]), listed, "healed")

	got := map[string]int{}
	for name, stat := range server.CommandStats() {
		got[name] = stat.Calls
	}
	for _, connecting := range []string{"hello", "client|setinfo", "client|maint_notifications", "client", "info", "config", "config|resetstat", "select"} {
		delete(got, connecting)
	}
	require.Equal(t, map[string]int{
		"evalsha": 2, "time": 2, "zremrangebyscore": 2, "zadd": 2, "pexpireat": 2, // CutOff and Enlist
		"zcount": 1 + 2,
		"zrange": 1 + 3 + 3, // List, and in the scripts
		"get":    1000, "pttl": 1000, "getrange": 1000,
		"del": 990, "zrem": 1,
	}, got)
}

// fillWithOthers makes n sessions of 300 bytes and a list of one for each.
func fillWithOthers(t *testing.T, admin *redis.Client, n int) {
	t.Helper()
	value, end := make([]byte, 300), float64(time.Now().Add(time.Hour).UnixMicro())
	value[0] = 1
	pipe := admin.Pipeline()
	for i := range n {
		id := uuid.New()
		pipe.Set(t.Context(), redisKey(id), value, time.Hour)
		pipe.ZAdd(t.Context(), "session:user:"+strconv.Itoa(i), redis.Z{Score: end, Member: id[:]})
		if pipe.Len() >= 10_000 || i == n-1 {
			_, err := pipe.Exec(t.Context())
			require.NoError(t, err)
		}
	}
}

// A list that is too long for a script to answer with costs a second round trip.
func TestRedisStoreListsOfMoreThanAThousand(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	exerciseLists(t, s)
	ids := newIDs(1001)
	enlistAll(t, s, "u", ids[:1000]...)
	for _, want := range [][]string{{"EVALSHA"}, {"EVALSHA", "ZRANGE"}} {
		n := 999 + len(want)
		proxy.Reset()
		listed, _, err := s.Enlist(t.Context(), "u", ids[n-1], time.Hour, 1)
		require.NoError(t, err)
		require.Equal(t, ids[:n], listed)
		require.Equal(t, want, proxy.Commands())
		proxy.Reset()
		listed, _, err = s.CutOff(t.Context(), "u")
		require.NoError(t, err)
		require.Equal(t, ids[:n], listed)
		require.Equal(t, want, proxy.Commands())
		proxy.Reset()
		listed, _, err = s.Enlist(t.Context(), "u", ids[n-1], time.Hour, n)
		require.NoError(t, err)
		require.Nil(t, listed)
		require.Equal(t, []string{"EVALSHA"}, proxy.Commands())
	}
}

// Lua's unpack ends at some 8,000 elements, a list does not; and the server is not
// held up for longer than a plain ZRANGE needs.
func TestRedisStoreListsOfAHundredThousand(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s, admin := newRedisStore(t, server.Client(&redis.Options{ReadTimeout: 30 * time.Second})), server.Admin()
	ctx, ids := t.Context(), newIDs(100_000)
	enlistAll(t, s, "u", ids[0])
	key, end := onlyListKey(t, admin), time.Now().Add(2*time.Hour).UnixMicro()
	for chunk := range slices.Chunk(ids[1:], 10_000) {
		members := make([]redis.Z, len(chunk))
		for i, id := range chunk {
			end++
			members[i] = redis.Z{Score: float64(end), Member: id[:]}
		}
		require.NoError(t, admin.ZAdd(ctx, key, members...).Err())
	}
	_, _, err := s.CutOff(ctx, "other") // the server now has the script
	require.NoError(t, err)
	require.NoError(t, admin.ConfigResetStat(ctx).Err())
	listed, _, err := s.CutOff(ctx, "u")
	require.NoError(t, err)
	require.Equal(t, ids, listed)
	listed, _, err = s.Enlist(ctx, "u", ids[0], 3*time.Hour, 1)
	require.NoError(t, err)
	require.Equal(t, append(slices.Clone(ids[1:]), ids[0]), listed)
	stats := server.CommandStats()
	script, zrange := stats["evalsha"], stats["zrange"]
	require.Equal(t, []int{2, 6}, []int{script.Calls, zrange.Calls}, "four of them in the scripts, for a member or two")
	t.Logf("a script: %.0f µs, a list by ZRANGE: %.0f µs", script.Microseconds, zrange.Microseconds*6/2)
	require.NoError(t, s.End(ctx, "u", ids...))
	requireListed(t, s, "u")
}

// A restart or a failover empties the server's cache of scripts.
func TestRedisStoreSendsAListScriptThatTheServerForgot(t *testing.T) {
	s, proxy, server := proxiedStore(t)
	id := uuid.New()
	calls := listCalls(s, "u", id)
	for _, name := range []string{"Enlist", "CutOff"} {
		require.NoError(t, server.Admin().ScriptFlush(t.Context()).Err())
		proxy.Reset()
		require.NoError(t, calls[name](t.Context()))
		require.Equal(t, []string{"EVALSHA", "EVAL"}, proxy.Commands())
	}
	requireListed(t, s, "u", id)
}

// None of these calls does harm twice, so the client may send them again when an
// answer is lost.
func TestRedisStoreListCallsAreSentAgain(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	exerciseLists(t, s)
	for _, action := range []redistest.Action{redistest.DropReply, redistest.Refuse} {
		ids := newIDs(2)
		calls := listCalls(s, "again"+ids[0].String(), ids...)
		for _, name := range []string{"Enlist", "List", "CutOff", "LoadAll", "Versions", "End"} {
			failures := 0
			proxy.Reset()
			proxy.Decide(func(cmd []string) redistest.Action {
				if failures++; failures > 2 {
					return redistest.Pass
				}
				return action
			})
			require.NoError(t, calls[name](t.Context()), name)
			require.Greater(t, failures, 2, name)
			proxy.Decide(nil)
			if name == "CutOff" {
				requireListed(t, s, "again"+ids[0].String(), ids[0])
			}
		}
		requireListed(t, s, "again"+ids[0].String())
	}
}

// End takes nothing off the list whose record may still be there, and what a crash
// leaves on it is dead and healed by the next.
func TestRedisStoreEndsRecordsBeforeTheList(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	ctx, ids := t.Context(), newIDs(3)
	for _, id := range ids {
		require.NoError(t, save(s, id, 0, 1))
	}
	enlistAll(t, s, "u", ids...)
	stop := func(name string) {
		proxy.Decide(func(cmd []string) redistest.Action {
			if cmd[0] == name {
				return redistest.Refuse
			}
			return redistest.Pass
		})
	}
	stop("DEL")
	require.Error(t, s.End(ctx, "u", ids...))
	requireListed(t, s, "u", ids...)
	versions, err := s.Versions(ctx, ids)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 1, 1}, versions)

	stop("ZREM")
	require.Error(t, s.End(ctx, "u", ids[:2]...))
	requireListed(t, s, "u", ids...)
	records, err := s.LoadAll(ctx, ids)
	require.NoError(t, err)
	require.Zero(t, records[0])
	require.Zero(t, records[1])
	require.NotZero(t, records[2])

	proxy.Decide(nil)
	require.NoError(t, s.End(ctx, "u", ids[:2]...))
	requireListed(t, s, "u", ids[2])
}

// One record that cannot be read fails the call: a zero Record would say that it
// is gone.
func TestRedisStoreListCallsFailAsAWhole(t *testing.T) {
	ids := newIDs(3)
	acl := "~session:user:* ~" + redisKey(ids[0]) + " ~" + redisKey(ids[2]) + " +@all"
	s := newRedisStore(t, redistest.Start(t, redistest.Config{ACL: acl}).Client(&redis.Options{}))
	enlistAll(t, s, "u", ids...)
	calls := listCalls(s, "u", ids...)
	for _, name := range []string{"LoadAll", "Versions", "End"} {
		require.ErrorContains(t, calls[name](t.Context()), "NOPERM", name)
	}
	requireListed(t, s, "u", ids...)
	records, err := s.LoadAll(t.Context(), []uuid.UUID{ids[0], ids[2]})
	require.NoError(t, err)
	require.Equal(t, make([]session.Record, 2), records)
}

// A server that is silent or away is an error within the context's deadline.
func TestRedisStoreListCallsEndWithTheirContext(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	exerciseLists(t, s)
	for _, away := range []func(){proxy.Silence, proxy.Down} {
		away()
		for name, call := range listCalls(s, "u", newIDs(2)...) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			require.Error(t, call(ctx), name)
			cancel()
		}
		proxy.Restore()
	}
	requireListed(t, s, "u")
}

// The error of a server that lacks a command names it and quotes no argument.
func TestRedisStoreListErrorsQuoteNoArgument(t *testing.T) {
	id := uuid.UUID([]byte("S3CR3T-S3CR3T-ID"))
	for call, command := range map[string]string{
		"Enlist": "evalsha", "CutOff": "evalsha", "List": "zrange", "End": "del", "LoadAll": "get", "Versions": "getrange",
	} {
		server := redistest.Start(t, redistest.Config{Args: []string{"--rename-command", command, ""}})
		s := newRedisStore(t, server.Client(&redis.Options{}))
		err := listCalls(s, "alice", id)[call](t.Context())
		require.ErrorContains(t, err, command, call)
		require.ErrorContains(t, err, "docs/redis.md", call)
		for _, secret := range []string{"S3CR3T", "alice", id.String()} {
			require.NotContains(t, err.Error(), secret, call)
		}
	}
}

// An answer that the scripts do not give is an error, and no panic.
func TestRedisStoreListsDoubtOtherAnswers(t *testing.T) {
	for _, answer := range []string{
		"+OK\r\n", ":1\r\n", "*0\r\n", "*1\r\n:1\r\n",
		"*2\r\n$1\r\nx\r\n*0\r\n", "*2\r\n:1\r\n$1\r\nx\r\n", "*2\r\n:1\r\n*1\r\n:1\r\n", // like CutOff's
		"*3\r\n$1\r\nx\r\n:1\r\n*0\r\n", "*3\r\n:1\r\n$1\r\nx\r\n*0\r\n", "*3\r\n:1\r\n:1\r\n$1\r\nx\r\n", // like Enlist's
		"*3\r\n:1\r\n:1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n*1\r\n:1\r\n",
	} {
		client := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", Protocol: 2, ContextTimeoutEnabled: true, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go answerAll(there, answer)
				return here, nil
			},
		})
		t.Cleanup(func() { _ = client.Close() })
		s := newRedisStore(t, client)
		_, _, err := s.Enlist(t.Context(), "u", uuid.New(), time.Hour, 1)
		require.ErrorContains(t, err, "session: Redis answered", "%q", answer)
		_, _, err = s.CutOff(t.Context(), "u")
		require.ErrorContains(t, err, "session: Redis answered", "%q", answer)
	}
}

// answerAll gives each command of a connection the same answer.
func answerAll(conn net.Conn, answer string) {
	defer conn.Close()
	for buf := make([]byte, 64<<10); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		reply := answer
		if bytes.Contains(buf[:n], []byte("hello")) {
			reply = "-ERR unknown command\r\n" // as of a server that is too old for RESP3
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
}

// storeOnClusterThatMoves is a store whose client learns only from redirects that
// a slot moved, as its map is old for an hour.
func storeOnClusterThatMoves(t *testing.T) (*redistest.Cluster, *session.RedisStore) {
	t.Helper()
	cluster := redistest.StartCluster(t, redistest.Config{ACL: redisACL + " +cluster|slots +asking"})
	return cluster, newRedisStore(t, cluster.Client(&redis.ClusterOptions{
		ClusterStateReloadInterval: time.Hour,
		DisableIdentity:            true,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}))
}

// In a Cluster a user's list, and their sessions, are on all nodes. A slot that
// moves is no failure, neither the list's nor a record's.
func TestRedisStoreListsInAClusterWhoseSlotsMove(t *testing.T) {
	t.Parallel()
	cluster, s := storeOnClusterThatMoves(t)
	exerciseLists(t, s)
	ids := newIDs(300)
	for i, id := range ids {
		require.NoError(t, save(s, id, 0, uint64(i+1)))
	}
	enlistAll(t, s, "u", ids...)
	listKey := onlyListKeyInCluster(t, cluster, 300)

	walk := func() {
		t.Helper()
		ctx, next := t.Context(), uuid.New()
		requireListed(t, s, "u", ids...)
		listed, this, err := s.CutOff(ctx, "u")
		require.NoError(t, err)
		require.Equal(t, ids, listed)
		require.NoError(t, save(s, next, 0, 301))
		listed, last, err := s.Enlist(ctx, "u", next, time.Hour, 1)
		require.NoError(t, err)
		require.Equal(t, append(slices.Clone(ids), next), listed)
		require.Equal(t, this.ID, last.ID)
		requireRecords(t, s, listed)
		require.NoError(t, s.End(ctx, "u", next))
		requireListed(t, s, "u", ids...)
		versions, err := s.Versions(ctx, []uuid.UUID{next})
		require.NoError(t, err)
		require.Equal(t, []uint64{0}, versions)
	}
	for _, key := range []string{listKey, redisKey(ids[7])} {
		from := cluster.Owner(key)
		to := (from + 1) % 3
		cluster.BeginMove(key, to)
		walk()
		cluster.MoveKey(key, from, to)
		walk() // ASK
		cluster.EndMove(key, to)
		walk() // MOVED
	}
	key := redisKey(ids[8])
	from := cluster.Owner(key)
	to := (from + 1) % 3
	cluster.BeginMove(key, to)
	cluster.MoveKey(key, from, to)
	require.NoError(t, s.End(t.Context(), "u", ids...), "with an ASK")
	cluster.EndMove(key, to)
	requireListed(t, s, "u")
	versions, err := s.Versions(t.Context(), ids)
	require.NoError(t, err)
	require.Equal(t, make([]uint64, 300), versions)
	for _, node := range cluster.Nodes {
		require.Empty(t, node.Admin().ACLLog(t.Context(), 10).Val(), "nothing was sent that the documented ACL forbids")
	}
}

// requireRecords asserts that the nth of ids has version n, however it is asked.
func requireRecords(t *testing.T, s session.UserStore, ids []uuid.UUID) {
	t.Helper()
	records, err := s.LoadAll(t.Context(), ids)
	require.NoError(t, err)
	versions, err := s.Versions(t.Context(), ids)
	require.NoError(t, err)
	require.Len(t, records, len(ids))
	require.Len(t, versions, len(ids))
	for i := range ids {
		require.EqualValues(t, i+1, records[i].Version)
		require.EqualValues(t, i+1, versions[i])
	}
}

// onlyListKeyInCluster is the key of the one list with n sessions.
func onlyListKeyInCluster(t *testing.T, cluster *redistest.Cluster, n int64) string {
	t.Helper()
	var found []string
	for _, node := range cluster.Nodes {
		admin := node.Admin()
		for _, key := range admin.Keys(t.Context(), "session:user:*").Val() {
			if admin.ZCard(t.Context(), key).Val() == n {
				found = append(found, key)
			}
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

// A node of a Cluster that is away makes errors, and no record of it is gone.
func TestRedisStoreListCallsWhenANodeIsAway(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.Config{Args: []string{"--cluster-require-full-coverage", "no"}})
	s := newRedisStore(t, cluster.Client(&redis.ClusterOptions{MaxRedirects: 1, MaxRetries: -1, DialerRetries: 1}))
	ids := newIDs(60)
	for i, id := range ids {
		require.NoError(t, save(s, id, 0, uint64(i+1)))
	}
	requireRecords(t, s, ids)
	enlistAll(t, s, "u", ids...)
	away := 0
	if cluster.Owner(onlyListKeyInCluster(t, cluster, 60)) == away {
		away = 1
	}
	cluster.Nodes[away].Stop()
	calls := listCalls(s, "u", ids...)
	for _, name := range []string{"LoadAll", "Versions", "End"} {
		require.Error(t, calls[name](t.Context()), name)
	}
	requireListed(t, s, "u", ids...)
}
