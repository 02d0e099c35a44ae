package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

var _ UserStore = (*RedisStore)(nil)

// The sizes bound what one pipeline or command keeps the server and the
// connection busy with; they are in the doc comments of the methods.
const (
	recordsAtOnce = 500  // whole records, and deletions
	idsAtOnce     = 1000 // versions, and what is taken off a list
	dropsAtOnce   = 16   // deletions that wait for replicas
)

// listKey names the sorted set that holds a list. The list's name holds a
// user's, which is personal data of any bytes and belongs neither into MONITOR
// nor into SLOWLOG. One key for all there is to a list: a script on two has to
// wait with TRYAGAIN for as long as their slot moves, when one of them is not
// there.
func (s *RedisStore) listKey(list string) string {
	sum := sha256.Sum256([]byte(list))
	return s.prefix + "user:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// In the sorted set of a list, a session is its 16 bytes under the end of its
// ttl, in microseconds since 1970 on the server's clock. A cut-off is an x and
// the sessions that it excepts, 16 bytes each, under its time, negative. So what
// has had its time lies together in the middle: cut-offs over an hour old, then
// sessions past their ttl. A score is a double, which counts microseconds exactly
// until the year 2255.
//
// A cut-off with the same exceptions replaces the older one, which no longer
// says anything. One that lies in the future, because the clock was set back,
// is taken to be of this instant: nobody knows its age any more, and a login that
// it might void has to fail once, not until the clock arrives there.
//
// Removing comes first, as a server that is out of memory refuses no command of
// a script that has begun to write: a revocation succeeds there like a logout.
// No unpack, which fails from some 8,000 elements on; and in place of a list of
// more than 1,000 a number, which says that ZRANGE has to fetch it: Lua values of
// all its members take the server several times as long.
const listPrelude = `local hour = 3600000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], hour - now + 1, now)
local function expireAt(end1, end2)
  redis.call('PEXPIREAT', KEYS[1], math.ceil(math.max(end1, end2) / 1000))
end
local function count() return redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') end
local function listed()
  if count() > 1000 then return 0 end
  return redis.call('ZRANGE', KEYS[1], now + 1, '+inf', 'BYSCORE')
end
`

var (
	// The end is made greater than any other, so that the order of scores is that
	// of the calls, whatever the ttls are and however the clock jumps.
	enlistScript = newRedisScript(listPrelude + `local id, most = ARGV[1], tonumber(ARGV[3])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or 0
last = math.max(now + ARGV[2] * 1000, last + 1)
redis.call('ZADD', KEYS[1], last, id)
local function excepts(cut)
  for i = 2, #cut, 16 do
    if string.sub(cut, i, i + 15) == id then return true end
  end
end
local cutID, since = 0, 0
local cuts = redis.call('ZRANGE', KEYS[1], '-inf', -1, 'BYSCORE', 'WITHSCORES')
for i = 1, #cuts, 2 do
  local ago = now + cuts[i + 1]
  if ago < 0 then redis.call('ZADD', KEYS[1], -now, cuts[i]) end
  if cutID == 0 and not excepts(cuts[i]) then cutID, since = -cuts[i + 1], math.max(0, ago - 1) end
end
expireAt(last, hour - (cuts[2] or 0))
if most > 0 and count() > most then return {cutID, since, listed()} end
return {cutID, since, {}}`)

	cutOffScript = newRedisScript(listPrelude + `redis.call('ZADD', KEYS[1], -now, ARGV[1])
local tooMany = redis.call('ZRANGE', KEYS[1], '-inf', -1, 'BYSCORE', 'LIMIT', 64, 1, 'WITHSCORES')
if tooMany[2] then redis.call('ZREMRANGEBYSCORE', KEYS[1], tooMany[2], -1) end
expireAt(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2], now + hour)
return {now, listed()}`)
)

// Enlist implements [UserStore], in one round trip, or two to return a list of
// more than 1,000. Cut.Ago counts whole microseconds; it is 0 if the server's
// clock was set back behind the cut-off.
func (s *RedisStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last Cut, err error) {
	ms, err := milliseconds(ttl)
	if err != nil {
		return nil, Cut{}, err
	}
	reply, err := s.runOnList(ctx, enlistScript, list, id[:], ms, most)
	if err != nil {
		return nil, Cut{}, err
	}
	parts, isArray := reply.([]any)
	if !isArray || len(parts) != 3 {
		return nil, Cut{}, errReply
	}
	cut, isCut := parts[0].(int64)
	ago, isInt := parts[1].(int64)
	if !isCut || !isInt {
		return nil, Cut{}, errReply
	}
	listed, err = s.listedIn(ctx, list, parts[2])
	return listed, Cut{ID: uint64(cut), Ago: time.Duration(ago) * time.Microsecond}, err
}

// List implements [UserStore], in one round trip. It may name sessions whose ttl
// is over: only the server knows its clock, and a script costs it more.
func (s *RedisStore) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	reply, err := s.do(ctx, 1, "zrange", s.listKey(list), 1, "+inf", "byscore")
	if err != nil {
		return nil, err
	}
	return listedIDs(reply)
}

// CutOff implements [UserStore], in one round trip, or two if the list is of more
// than 1,000. It keeps the newest 64 cut-offs of different exceptions.
func (s *RedisStore) CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this Cut, err error) {
	// In order, so that the same exceptions are the same cut-off.
	except = slices.SortedFunc(slices.Values(except), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	cut := make([]byte, 0, 1+16*len(except))
	cut = append(cut, 'x')
	for _, id := range slices.Compact(except) {
		cut = append(cut, id[:]...)
	}
	reply, err := s.runOnList(ctx, cutOffScript, list, cut)
	if err != nil {
		return nil, Cut{}, err
	}
	pair, isPair := reply.([]any)
	if !isPair || len(pair) != 2 {
		return nil, Cut{}, errReply
	}
	at, isInt := pair[0].(int64)
	if !isInt {
		return nil, Cut{}, errReply
	}
	listed, err = s.listedIn(ctx, list, pair[1])
	return listed, Cut{ID: uint64(at)}, err
}

// End implements [UserStore]: a round trip for every 500 records and then one
// for every 1,000 that it takes off the list, so for 990 sessions three. With
// RedisConfig.Replicas it is one for every record, sixteen at a time.
func (s *RedisStore) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	if err := s.dropAll(ctx, ids); err != nil {
		return err
	}
	for chunk := range slices.Chunk(ids, idsAtOnce) {
		args := []any{"zrem", s.listKey(list)}
		for _, id := range chunk {
			args = append(args, id[:])
		}
		if _, err := s.do(ctx, 1, args...); err != nil {
			return err
		}
	}
	return nil
}

func (s *RedisStore) dropAll(ctx context.Context, ids []uuid.UUID) error {
	if s.replicas > 0 {
		return s.dropConfirmed(ctx, ids)
	}
	for chunk := range slices.Chunk(ids, recordsAtOnce) {
		pipe := s.client.Pipeline()
		for _, id := range chunk {
			pipe.Del(ctx, s.key(id))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return s.failure(ctx, err)
		}
	}
	return nil
}

// dropConfirmed deletes one by one, because a WAIT speaks for one connection, and
// in a Cluster the records are on several masters.
func (s *RedisStore) dropConfirmed(ctx context.Context, ids []uuid.UUID) error {
	var wg sync.WaitGroup
	errs := make([]error, min(dropsAtOnce, len(ids)))
	for worker := range errs {
		wg.Go(func() {
			for i := worker; i < len(ids) && errs[worker] == nil; i += len(errs) {
				errs[worker] = s.drop(ctx, s.key(ids[i]))
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// LoadAll implements [UserStore], in a round trip for every 500 records. A
// Cluster's nodes are asked at the same time.
func (s *RedisStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]Record, error) {
	records := make([]Record, 0, len(ids))
	for chunk := range slices.Chunk(ids, recordsAtOnce) {
		pipe := s.client.Pipeline()
		gets, pttls := make([]*redis.StringCmd, len(chunk)), make([]*redis.DurationCmd, len(chunk))
		for i, id := range chunk {
			gets[i], pttls[i] = pipe.Get(ctx, s.key(id)), pipe.PTTL(ctx, s.key(id))
		}
		if err := execPipe(ctx, pipe); err != nil {
			return nil, s.failure(ctx, err)
		}
		for i := range chunk {
			rec, err := s.loadReply(ctx, gets[i], pttls[i])
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, err
			}
			records = append(records, rec)
		}
	}
	return records, nil
}

// Versions implements [UserStore], in a round trip for every 1,000 sessions, of
// each of which eight bytes are read.
func (s *RedisStore) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	versions := make([]uint64, 0, len(ids))
	for chunk := range slices.Chunk(ids, idsAtOnce) {
		pipe := s.client.Pipeline()
		heads := make([]*redis.StringCmd, len(chunk))
		for i, id := range chunk {
			heads[i] = pipe.GetRange(ctx, s.key(id), 0, 7)
		}
		if err := execPipe(ctx, pipe); err != nil {
			return nil, s.failure(ctx, err)
		}
		for _, head := range heads {
			version, err := s.versionReply(ctx, head)
			if err != nil {
				return nil, err
			}
			versions = append(versions, version)
		}
	}
	return versions, nil
}

// versionReply says of a value what Load says of it.
func (s *RedisStore) versionReply(ctx context.Context, head *redis.StringCmd) (uint64, error) {
	value, err := head.Bytes()
	if err != nil && !isWrongType(err) {
		return 0, s.failure(ctx, err)
	}
	if err == nil && len(value) == 0 {
		return 0, nil
	}
	return parseValue(value).Version, nil
}

// listedIn reads the list from a script's answer, or by itself if the script
// found it too long to answer with.
func (s *RedisStore) listedIn(ctx context.Context, list string, reply any) ([]uuid.UUID, error) {
	if _, tooLong := reply.(int64); tooLong {
		return s.List(ctx, list)
	}
	return listedIDs(reply)
}

// listedIDs reads members of a list. What is not 16 bytes long did not come from
// here and is no session; an error would stand in its user's way for good.
func listedIDs(reply any) ([]uuid.UUID, error) {
	members, isArray := reply.([]any)
	if !isArray {
		return nil, errReply
	}
	var ids []uuid.UUID
	for _, m := range members {
		member, isString := m.(string)
		if !isString {
			return nil, errReply
		}
		if id, err := uuid.FromBytes([]byte(member)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// runOnList is run for what may be sent again, which go-redis does when a
// connection is lost. With RedisConfig.Replicas it waits for them and is sent once:
// both scripts write whenever they run, so a WAIT behind them speaks for them.
func (s *RedisStore) runOnList(ctx context.Context, script redisScript, list string, args ...any) (any, error) {
	key := s.listKey(list)
	if s.replicas > 0 {
		return s.runConfirmed(ctx, script, key, args...)
	}
	reply, err := s.do(ctx, 3, append([]any{"evalsha", script.sha, 1, key}, args...)...)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = s.do(ctx, 3, append([]any{"eval", script.src, 1, key}, args...)...)
	}
	return reply, err
}

// do sends a command that may be sent again.
func (s *RedisStore) do(ctx context.Context, keyPos int8, args ...any) (any, error) {
	cmd := once(ctx, keyPos, args...).Cmd
	err := s.client.Process(ctx, cmd)
	return cmd.Val(), s.failure(ctx, err)
}
