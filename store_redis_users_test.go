package session_test

import (
	"encoding/base64"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// The lists of a user's sessions in Redis: what they do, and what they leave
// behind in the server. What they cost and what the wire does to them is in
// store_redis_users_wire_test.go.

// onServerAndMiniredis runs a test on a Redis server, whose lists the test may
// look into, and on miniredis.
func onServerAndMiniredis(t *testing.T, test func(t *testing.T, s *session.RedisStore, admin *redis.Client)) {
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t, redistest.Config{})
		test(t, newRedisStore(t, server.Client(&redis.Options{})), server.Admin())
	})
	t.Run("miniredis", func(t *testing.T) {
		s, client, _ := storeOnMiniredis(t)
		test(t, s, client)
	})
}

func storeOnMiniredis(t *testing.T) (*session.RedisStore, *redis.Client, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	return newRedisStore(t, client), client, m
}

// enlistAll puts ids on a list, in their order.
func enlistAll(t *testing.T, s session.UserStore, list string, ids ...uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		_, _, err := s.Enlist(t.Context(), list, id, time.Hour, 0)
		require.NoError(t, err)
	}
}

func requireListed(t *testing.T, s session.UserStore, list string, want ...uuid.UUID) {
	t.Helper()
	got, err := s.List(t.Context(), list)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// sinceCutOff enlists a session and says how long ago it was told that it was cut
// off, or a negative duration.
func sinceCutOff(t *testing.T, s session.UserStore, list string, id uuid.UUID) time.Duration {
	t.Helper()
	_, last, err := s.Enlist(t.Context(), list, id, time.Hour, 0)
	require.NoError(t, err)
	if last == (session.Cut{}) {
		return -1
	}
	require.NotZero(t, last.ID)
	return last.Ago
}

func newIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

// onlyListKey is the one key that there is, which must be a list's.
func onlyListKey(t *testing.T, admin *redis.Client) string {
	t.Helper()
	keys := admin.Keys(t.Context(), "*").Val()
	require.Len(t, keys, 1)
	require.Regexp(t, regexp.MustCompile(`^session:user:[\w-]{43}$`), keys[0])
	return keys[0]
}

// exerciseLists walks each method of UserStore and each outcome that the
// contract gives it.
func exerciseLists(t *testing.T, s session.UserStore) {
	t.Helper()
	ctx, list, ids := t.Context(), "änne\x00\xff"+uuid.NewString(), newIDs(4)
	for i, id := range ids {
		require.NoError(t, save(s, id, 0, uint64(i+1)))
	}
	requireListed(t, s, list)
	listed, last, err := s.Enlist(ctx, list, ids[0], time.Minute, 1)
	require.NoError(t, err)
	require.Nil(t, listed, "one is not more than one")
	require.Zero(t, last, "there was no cut-off")
	enlistAll(t, s, list, ids[1:]...)
	requireListed(t, s, list, ids...)
	listed, _, err = s.Enlist(ctx, list, ids[0], time.Minute, 3)
	require.NoError(t, err)
	again := []uuid.UUID{ids[1], ids[2], ids[3], ids[0]}
	require.Equal(t, again, listed, "at the end of the list, where it is once")

	listed, _, err = s.CutOff(ctx, list, ids[1], ids[0])
	require.NoError(t, err)
	require.Equal(t, again, listed)
	require.Negative(t, sinceCutOff(t, s, list, ids[0]), "it was excepted")
	require.GreaterOrEqual(t, sinceCutOff(t, s, list, ids[2]), time.Duration(0))
	require.Negative(t, sinceCutOff(t, s, list+"a", ids[2]), "another list")

	missing := uuid.New()
	records, err := s.LoadAll(ctx, []uuid.UUID{ids[3], missing, ids[0], ids[3]})
	require.NoError(t, err)
	require.Len(t, records, 4)
	require.Zero(t, records[1])
	for i, version := range []uint64{4, 0, 1, 4} {
		require.Equal(t, version, records[i].Version)
		require.Equal(t, version != 0, records[i].TTL > 0)
	}
	versions, err := s.Versions(ctx, []uuid.UUID{ids[3], missing, ids[0], ids[3]})
	require.NoError(t, err)
	require.Equal(t, []uint64{4, 0, 1, 4}, versions)

	require.NoError(t, s.End(ctx, list, ids[1], missing, ids[3]))
	require.NoError(t, s.End(ctx, list, ids[1], missing, ids[3]), "what is not there is no error")
	requireListed(t, s, list, ids[0], ids[2])
	versions, err = s.Versions(ctx, ids)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 0, 3, 0}, versions)
	require.GreaterOrEqual(t, sinceCutOff(t, s, list, missing), time.Duration(0), "taking sessions off leaves the cut-off")

	require.NoError(t, s.End(ctx, list))
	records, err = s.LoadAll(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, records)
	versions, err = s.Versions(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, versions)
}

func TestRedisStoreLists(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, _ *redis.Client) { exerciseLists(t, s) })
	for name, o := range map[string]*redis.Options{"RESP2": {Protocol: 2}, "ACL user": {}} {
		t.Run(name, func(t *testing.T) {
			exerciseLists(t, newRedisStore(t, redistest.Start(t, redistest.Config{ACL: redisACL}).Client(o)))
		})
	}
}

// The order of a list is that of the calls, and what has ttl left stays: whatever
// the ttls are, and however the server's clock jumps.
func TestRedisStoreListKeepsTheOrderOfCalls(t *testing.T) {
	ids := newIDs(6)
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, _ *redis.Client) {
		for i, ttl := range []time.Duration{400 * 24 * time.Hour, time.Minute, time.Millisecond, time.Hour, time.Second, time.Hour} {
			_, _, err := s.Enlist(t.Context(), "u", ids[i], ttl, 0)
			require.NoError(t, err)
		}
		requireListed(t, s, "u", ids...)
	})
	s, _, m := storeOnMiniredis(t)
	now := time.Now()
	for i, jump := range []time.Duration{0, -time.Hour, -2 * time.Hour, -time.Minute, time.Minute, -time.Second} {
		m.SetTime(now.Add(jump))
		enlistAll(t, s, "u", ids[i])
	}
	requireListed(t, s, "u", ids...)
}

// E6: what was kept for its ttl is taken off by the next Enlist, and the key ends
// with its last session and an hour after its last cut-off.
func TestE6RedisStoreListsEnd(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, admin *redis.Client) {
		ctx, ids := t.Context(), newIDs(3)
		ends := func(want time.Duration) {
			t.Helper()
			ttl := admin.PTTL(ctx, onlyListKey(t, admin)).Val()
			require.LessOrEqual(t, ttl, want+time.Millisecond, "rounded up")
			require.Greater(t, ttl, want-time.Minute)
		}
		_, _, err := s.Enlist(ctx, "u", ids[0], 10*time.Minute, 0)
		require.NoError(t, err)
		ends(10 * time.Minute)
		_, _, err = s.Enlist(ctx, "u", ids[1], 5*time.Minute, 0)
		require.NoError(t, err)
		ends(10 * time.Minute)
		_, _, err = s.CutOff(ctx, "u")
		require.NoError(t, err)
		ends(time.Hour)
		_, _, err = s.Enlist(ctx, "u", ids[2], time.Second, 0)
		require.NoError(t, err)
		ends(time.Hour)
		require.NoError(t, s.End(ctx, "u", ids...))
		ends(time.Hour)
		_, _, err = s.Enlist(ctx, "u", ids[0], 2*time.Hour, 0)
		require.NoError(t, err)
		ends(2 * time.Hour)
	})
	t.Run("by itself", func(t *testing.T) {
		server := redistest.Start(t, redistest.Config{})
		s, admin := newRedisStore(t, server.Client(&redis.Options{})), server.Admin()
		_, _, err := s.Enlist(t.Context(), "u", uuid.New(), 50*time.Millisecond, 0)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(admin.Keys(t.Context(), "*").Val()) == 0 }, time.Minute, 5*time.Millisecond)
	})
	t.Run("not before its last session", func(t *testing.T) {
		s, client, m := storeOnMiniredis(t)
		m.SetTime(time.UnixMicro(1_800_000_000_000_500))
		enlistAll(t, s, "u", uuid.New())
		key := onlyListKey(t, client)
		end := client.ZRangeWithScores(t.Context(), key, -1, -1).Val()[0].Score
		require.GreaterOrEqual(t, float64(client.PExpireTime(t.Context(), key).Val().Microseconds()), end)
	})
	t.Run("one after the other", func(t *testing.T) {
		s, client, m := storeOnMiniredis(t)
		now, ids := time.Now().Truncate(time.Microsecond), newIDs(4)
		for i, ttl := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute} {
			m.SetTime(now)
			_, _, err := s.Enlist(t.Context(), "u", ids[i], ttl, 0)
			require.NoError(t, err)
		}
		for ended, want := range [][]uuid.UUID{ids[1:], ids[2:]} {
			m.SetTime(now.Add(2*time.Minute + time.Duration(ended-1)*time.Microsecond))
			listed, _, err := s.Enlist(t.Context(), "u", ids[3], time.Hour, 1)
			require.NoError(t, err)
			require.Equal(t, want, listed)
			require.EqualValues(t, len(want), client.ZCard(t.Context(), onlyListKey(t, client)).Val())
		}
	})
}

// The last Cut: the newest that does not except the session, for an hour, rounded
// down, and 0 when the clock was set back behind it.
func TestRedisStoreCutOffs(t *testing.T) {
	s, client, m := storeOnMiniredis(t)
	ctx, now := t.Context(), time.Now().Truncate(time.Microsecond)
	at := func(passed time.Duration) { m.SetTime(now.Add(passed)) }
	cut := func(except ...uuid.UUID) {
		t.Helper()
		_, _, err := s.CutOff(ctx, "u", except...)
		require.NoError(t, err)
	}
	a, b, other := uuid.New(), uuid.New(), uuid.New()
	at(0)
	cut()
	at(time.Minute)
	cut(b, a)
	at(2 * time.Minute)
	cut(a)
	at(3 * time.Minute)
	const µs = time.Microsecond
	require.Equal(t, 3*time.Minute-µs, sinceCutOff(t, s, "u", a), "two cut-offs except it")
	require.Equal(t, time.Minute-µs, sinceCutOff(t, s, "u", b))
	require.Equal(t, time.Minute-µs, sinceCutOff(t, s, "u", other))
	cut(a, b, b)
	require.EqualValues(t, 3, client.ZCount(ctx, onlyListKey(t, client), "-inf", "-1").Val(), "the same exceptions are the same cut-off")
	at(4 * time.Minute)
	require.Equal(t, 2*time.Minute-µs, sinceCutOff(t, s, "u", b))

	at(time.Hour)
	require.Equal(t, time.Hour-µs, sinceCutOff(t, s, "u", a))
	at(time.Hour + µs)
	require.Negative(t, sinceCutOff(t, s, "u", a), "an hour is over")
	at(time.Hour + 3*time.Minute)
	require.Equal(t, time.Hour-µs, sinceCutOff(t, s, "u", other))
	at(time.Hour + 3*time.Minute + µs)
	require.Negative(t, sinceCutOff(t, s, "u", other))
}

// A clock that is set back must neither let a login through that a cut-off voids,
// nor keep a user out until it arrives where it was.
func TestRedisStoreCutOffsWhenTheClockIsSetBack(t *testing.T) {
	s, _, m := storeOnMiniredis(t)
	now, excepted := time.Now(), uuid.New()
	for _, except := range [][]uuid.UUID{nil, {excepted}} {
		_, _, err := s.CutOff(t.Context(), "u", except...)
		require.NoError(t, err)
	}
	m.SetTime(now.Add(-2 * time.Hour))
	require.Zero(t, sinceCutOff(t, s, "u", uuid.New()))
	m.SetTime(now.Add(-2*time.Hour + time.Minute))
	const aMinute = time.Minute - time.Microsecond
	require.Equal(t, aMinute, sinceCutOff(t, s, "u", uuid.New()), "told once, counted from then")
	require.Equal(t, aMinute, sinceCutOff(t, s, "u", excepted), "and so was the other")
}

// Exceptions are whole IDs: half of one and half of the next is none.
func TestRedisStoreComparesWholeExceptions(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, _ *redis.Client) {
		a := uuid.MustParse("00000000-0000-4000-8000-0000000000aa")
		b := uuid.MustParse("ffffffff-ffff-4fff-8fff-ffffffffffbb")
		straddles := uuid.UUID(append(slices.Clone(a[8:]), b[:8]...))
		_, _, err := s.CutOff(t.Context(), "u", a, b)
		require.NoError(t, err)
		require.GreaterOrEqual(t, sinceCutOff(t, s, "u", straddles), time.Duration(0))
		require.Negative(t, sinceCutOff(t, s, "u", a))
		require.Negative(t, sinceCutOff(t, s, "u", b))
	})
}

func TestRedisStoreKeepsTheNewestCutOffs(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, admin *redis.Client) {
		ctx, kept := t.Context(), uuid.New()
		enlistAll(t, s, "u", kept)
		_, _, err := s.CutOff(ctx, "u")
		require.NoError(t, err)
		for i := range 70 {
			require.Equal(t, i < 64, sinceCutOff(t, s, "u", kept) >= 0, "the oldest of %d, and all others except it", i+1)
			_, _, err := s.CutOff(ctx, "u", kept, uuid.New())
			require.NoError(t, err)
			require.EqualValues(t, min(i+2, 64), admin.ZCount(ctx, onlyListKey(t, admin), "-inf", "-1").Val())
		}
		requireListed(t, s, "u", kept)
	})
}

// Lists' names hold users' names, which are personal data: not one byte of them
// is sent to the server.
func TestRedisStoreSendsNoUserName(t *testing.T) {
	s, proxy, server := proxiedStore(t)
	var sent []string
	proxy.Decide(func(cmd []string) redistest.Action {
		sent = append(sent, cmd...)
		return redistest.Pass
	})
	exerciseLists(t, s)
	enlistAll(t, s, "alice@example.org", uuid.New())
	_, _, err := s.CutOff(t.Context(), "alice@example.org")
	require.NoError(t, err)
	proxy.Decide(nil)
	require.NotEmpty(t, sent)
	for _, arg := range sent {
		require.NotContains(t, arg, "alice")
		require.NotContains(t, arg, base64.RawURLEncoding.EncodeToString([]byte("alice")))
		require.NotContains(t, arg, "änne")
	}
	for _, key := range server.Admin().Keys(t.Context(), "*").Val() {
		require.Regexp(t, regexp.MustCompile(`^session:([0-9a-f-]{36}|user:[\w-]{43})$`), key)
	}
}

// LoadAll and Versions say of a value what Load says of it, whoever wrote it.
func TestRedisStoreLoadsForeignValuesOfMany(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, admin *redis.Client) {
		ctx := t.Context()
		values := []string{"", "x", "1234567", "12345678", "12345678\x05alicedata", "\x00\x00\x00\x00\x00\x00\x00\x00data", "12345678\x80\x00"}
		ids := newIDs(len(values) + 2)
		for i, v := range values {
			require.NoError(t, admin.Set(ctx, redisKey(ids[i]), v, time.Hour).Err())
		}
		require.NoError(t, admin.RPush(ctx, redisKey(ids[len(values)]), "a", "list").Err())
		records, err := s.LoadAll(ctx, ids)
		require.NoError(t, err)
		versions, err := s.Versions(ctx, ids)
		require.NoError(t, err)
		for i, id := range ids {
			want, err := s.Load(ctx, id)
			if err != nil {
				require.ErrorIs(t, err, session.ErrNotFound)
			}
			require.LessOrEqual(t, want.TTL, records[i].TTL)
			want.TTL = records[i].TTL
			require.Equal(t, want, records[i], "%d", i)
			require.Equal(t, want.Version, versions[i], "%d", i)
		}
	})
}

// Something else at a list's key is an error, and something else on a list is no
// session: an error would stand in its user's way for good.
func TestRedisStoreForeignLists(t *testing.T) {
	onServerAndMiniredis(t, func(t *testing.T, s *session.RedisStore, admin *redis.Client) {
		ctx, id := t.Context(), uuid.New()
		enlistAll(t, s, "u", id)
		key := onlyListKey(t, admin)
		require.NoError(t, admin.ZAdd(ctx, key, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMicro()), Member: "not an ID"}).Err())
		requireListed(t, s, "u", id)
		listed, _, err := s.CutOff(ctx, "u")
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{id}, listed)

		require.NoError(t, admin.Set(ctx, key, "x", 0).Err())
		_, err = s.List(ctx, "u")
		require.ErrorContains(t, err, "WRONGTYPE")
		_, _, err = s.CutOff(ctx, "u")
		require.ErrorContains(t, err, "WRONGTYPE")
		_, _, err = s.Enlist(ctx, "u", id, time.Hour, 0)
		require.ErrorContains(t, err, "WRONGTYPE")
		require.ErrorContains(t, s.End(ctx, "u", id), "WRONGTYPE")
	})
}

// A full server under noeviction refuses new bytes, but not to revoke a user's
// sessions: a cut-off is small, and nothing else stops a thief.
func TestRedisStoreRevokesOnAFullServer(t *testing.T) {
	server := redistest.Start(t, redistest.Config{Args: []string{"--maxmemory-policy", "noeviction"}})
	s := newRedisStore(t, server.Client(&redis.Options{}))
	ctx, id := t.Context(), uuid.New()
	require.NoError(t, save(s, id, 0, 1))
	enlistAll(t, s, "u", id)
	require.NoError(t, server.Admin().ConfigSet(ctx, "maxmemory", "1").Err())
	require.ErrorContains(t, save(s, uuid.New(), 0, 1), "OOM")
	listed, _, err := s.CutOff(ctx, "u")
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{id}, listed)
	require.NoError(t, s.End(ctx, "u", listed...))
	requireListed(t, s, "u")
	require.GreaterOrEqual(t, sinceCutOff(t, s, "u", uuid.New()), time.Duration(0))
}

// E2: a ttl below the resolution is an error, and nothing is sent.
func TestE2RedisStoreRefusesToEnlistBelowAMillisecond(t *testing.T) {
	s, proxy, _ := proxiedStore(t)
	for _, ttl := range []time.Duration{-time.Hour, 0, time.Millisecond - 1} {
		_, _, err := s.Enlist(t.Context(), "u", uuid.New(), ttl, 0)
		require.ErrorContains(t, err, "millisecond", "%v", ttl)
	}
	require.Empty(t, proxy.Commands())
}

// What docs/redis.md says of memory. The bounds have room for other versions.
func TestRedisStoreListsAreSmall(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	s, admin := newRedisStore(t, server.Client(&redis.Options{})), server.Admin()
	enlisted := 0
	for _, c := range []struct {
		sessions int
		bytes    int64
	}{{1, 256}, {10, 640}, {100, 4096}, {1000, 200_000}} {
		enlistAll(t, s, "u", newIDs(c.sessions-enlisted)...)
		enlisted = c.sessions
		size := admin.MemoryUsage(t.Context(), onlyListKey(t, admin), 0).Val()
		t.Logf("%d sessions: %d bytes", c.sessions, size)
		require.Less(t, size, c.bytes)
	}
}
