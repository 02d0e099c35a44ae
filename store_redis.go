package session

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// RedisConfig configures a [RedisStore]. The zero value is ready to use.
type RedisConfig struct {
	// Prefix begins the name of every key: prefix, a colon, the session's ID.
	// "" means "session". It may not contain a hash tag ("{...}"), which would
	// put every session of a Cluster into one slot.
	Prefix string

	// Replicas is how many replicas must have a save or a deletion before it
	// counts, 0 to 16, by WAIT; 0 asks none. With fewer it fails with an outcome
	// that is unknown (C5): 503, and nothing is undone. 1 keeps what was confirmed
	// through the death of a primary that has two replicas; with a single one,
	// nothing can be saved once that was promoted. In a Cluster this goes for each
	// master. A Touch waits for nobody: a failover that loses one ends the session
	// up to a tenth of the idle timeout early.
	Replicas int
}

// A RedisStore keeps each session in one string of a Redis or Valkey server,
// be it standalone, watched by Sentinel or a Cluster. docs/redis.md describes
// the keys, the scripts, and the commands that an ACL has to allow.
//
// Time is counted in whole milliseconds on the server's clock (E2): a ttl is
// rounded down, and one below a millisecond is an error. Load is one round trip
// and may be repeated by the client; Save, Touch and Delete are one round trip
// each and are sent at most once (C5), plus one when the server has to be given
// the script first. A deadline of the context ends a call while it waits; a
// cancellation without a deadline is noticed before a call is sent, and then at
// the client's ReadTimeout.
//
// Errors other than [ErrNotFound] and [ErrConflict] are those of go-redis. The
// store holds no connections of its own and has no Close: the client is the
// caller's to close. The zero value is of no use; call [NewRedisStore].
type RedisStore struct {
	client   redis.UniversalClient
	prefix   string // with its colon
	replicas int
	facts    clientFacts

	answered    atomic.Bool // by a server, once
	info        finding[map[string]string]
	tlsMismatch finding[string]
}

// NewRedisStore returns a store on client, which the caller goes on owning. It
// asks nothing of the server. The error joins every fault of client and cfg:
//
//   - a Ring, which starts empty records on another server when one is away
//   - a client that may read from replicas (ReadOnly, RouteByLatency,
//     RouteRandomly): a replica does not know a login that just happened, and
//     still knows a logout that did
//   - a client without ContextTimeoutEnabled, or with deadlines switched off by
//     a timeout of -2: a silent server would hold requests long past
//     Config.StoreTimeout
//
// ReplicaOnly of a plain failover client cannot be seen from here. Such a
// client fails every Save with READONLY.
func NewRedisStore(client redis.UniversalClient, cfg RedisConfig) (*RedisStore, error) {
	prefix := cfg.Prefix
	if prefix == "" {
		prefix = "session"
	}
	facts, err := checkClient(client)
	if err := errors.Join(err, checkKeyPrefix(prefix), checkReplicaCount(cfg.Replicas)); err != nil {
		return nil, err
	}
	return &RedisStore{client: client, prefix: prefix + ":", replicas: cfg.Replicas, facts: facts}, nil
}

// clientFacts are what a client shows of its options.
type clientFacts struct {
	readTimeout time.Duration // the longest that it waits for an answer
	addrs       []string      // that it was given; not those of Sentinels
	tls         bool
}

func checkClient(client redis.UniversalClient) (clientFacts, error) {
	switch c := client.(type) {
	case nil:
		return clientFacts{}, errNoClient
	case *redis.Client:
		if c == nil {
			return clientFacts{}, errNoClient
		}
	case *redis.ClusterClient:
		if c == nil {
			return clientFacts{}, errNoClient
		}
	case *redis.Ring:
		return clientFacts{}, errors.New("session: a redis.Ring forgets the sessions of a server that is away; use redis.NewClient, NewFailoverClient or NewClusterClient")
	}
	// By method and not by type, so that a wrapper that embeds one is seen through.
	switch c := client.(type) {
	case interface{ Options() *redis.Options }:
		o := c.Options()
		facts := clientFacts{timeoutOf(o.ReadTimeout), []string{o.Addr}, o.TLSConfig != nil}
		return facts, checkTimeouts(o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout)
	case interface{ Options() *redis.ClusterOptions }:
		o := c.Options()
		facts := clientFacts{timeoutOf(o.ReadTimeout), o.Addrs, o.TLSConfig != nil}
		return facts, errors.Join(checkReadsFromReplicas(o), checkTimeouts(o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout))
	}
	return clientFacts{}, fmt.Errorf("session: the options of a %T cannot be seen; pass a *redis.Client or a *redis.ClusterClient", client)
}

// timeoutOf bounds what a ReadTimeout of -1, "no limit", leaves open.
func timeoutOf(readTimeout time.Duration) time.Duration {
	return cmp.Or(max(readTimeout, 0), 3*time.Second) // go-redis's own
}

var errNoClient = errors.New("session: NewRedisStore needs a client; pass redis.NewClient(...), or use session.Open")

// ReadOnly is what go-redis makes of the other two; all are named because the
// reader knows the one that he set.
func checkReadsFromReplicas(o *redis.ClusterOptions) error {
	if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
		return errors.New("session: the client may read from replicas, which lag behind logins and logouts; leave ReadOnly, ReplicaOnly, RouteByLatency and RouteRandomly false")
	}
	return nil
}

func checkTimeouts(contexts bool, read, write time.Duration) error {
	var errs []error
	if !contexts {
		errs = append(errs, errors.New("session: set ContextTimeoutEnabled in the client's options: without it a silent Redis holds requests for its own ReadTimeout and retries"))
	}
	// go-redis turns -2 into -1, which skips SetDeadline and with it the context's.
	if read < 0 || write < 0 {
		errs = append(errs, errors.New("session: ReadTimeout and WriteTimeout of -2 switch deadlines off in the client; leave them 0 or make them positive"))
	}
	return errors.Join(errs...)
}

func checkKeyPrefix(prefix string) error {
	if _, tag, ok := strings.Cut(prefix, "{"); ok && strings.Index(tag, "}") > 0 {
		return errors.New("session: RedisConfig.Prefix contains a hash tag, which would put every session into one slot of a Cluster; leave out the braces")
	}
	return nil
}

// Load implements [Store]. A value that this library did not write comes back
// as a record without Data, which no decoder accepts: an error here would look
// like a store that is away, for as long as the value is there.
func (s *RedisStore) Load(ctx context.Context, id uuid.UUID) (Record, error) {
	key := s.key(id)
	pipe := s.client.Pipeline()
	get := pipe.Get(ctx, key)
	pttl := pipe.PTTL(ctx, key)
	if err := execPipe(ctx, pipe); err != nil {
		return Record{}, s.failure(ctx, err)
	}
	return s.loadReply(ctx, get, pttl)
}

func (s *RedisStore) loadReply(ctx context.Context, get *redis.StringCmd, pttl *redis.DurationCmd) (Record, error) {
	value, err := get.Bytes()
	// Not errors.Is, which also holds when Sentinels know no such master.
	if err != nil && err != redis.Nil && !isWrongType(err) {
		return Record{}, s.failure(ctx, err)
	}
	s.noteAnswer()
	// An empty string is no record either: to the scripts, GETRANGE says the same
	// of it and of a missing key.
	if err == redis.Nil || err == nil && len(value) == 0 {
		return Record{}, ErrNotFound
	}
	ttl, ok, err := remaining(pttl)
	if err != nil {
		return Record{}, s.failure(ctx, err)
	}
	if !ok { // the key ended between the two commands
		return Record{}, ErrNotFound
	}
	rec := parseValue(value)
	rec.TTL = ttl
	return rec, nil
}

// execPipe runs a pipeline. Its error means that no command can be believed;
// otherwise each keeps its own. A command that was never sent must not pass as one
// that found nothing, and go-redis leaves the commands without an error when a
// server refuses the connection itself (WRONGPASS, NOPERM).
func execPipe(ctx context.Context, pipe redis.Pipeliner) error {
	cmds, err := pipe.Exec(ctx)
	if _, answered := errors.AsType[redis.Error](err); !answered {
		return err
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return nil
		}
	}
	return err
}

// remaining reads a PTTL reply; ok is false when there is no key.
func remaining(pttl *redis.DurationCmd) (ttl time.Duration, ok bool, err error) {
	ttl, err = pttl.Result()
	if err != nil {
		return 0, false, err
	}
	if ttl == -2 { // go-redis leaves the negative ones as they are, without a unit
		return 0, false, nil
	}
	return max(ttl, shortestTTL), true, nil
}

// shortestTTL is what a live record has left at least. Redis says 0 during the
// last millisecond, in which every command still finds the key; and -1 of a key
// without an expiry. No script makes such a key, but PERSIST by hand does: with
// so little left, the manager touches it at its next request (R4), which gives
// it an expiry again.
const shortestTTL = time.Millisecond

// Save implements [Store].
func (s *RedisStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next Record, ttl time.Duration) (Record, error) {
	if next.Version == 0 {
		return Record{}, errors.New("session: a record cannot be saved under version 0; choose a random one")
	}
	ms, err := milliseconds(ttl)
	if err != nil {
		return Record{}, err
	}
	reply, err := s.runConfirmed(ctx, saveScript, s.key(id), s.flagged(versionBytes(prev), formatValue(next), ms)...)
	if isWrongType(err) {
		return Record{}, ErrConflict
	}
	if err != nil {
		return Record{}, err
	}
	switch reply := reply.(type) {
	case int64:
		return Record{}, scriptResult(reply)
	case []any:
		return liveRecord(reply)
	}
	return Record{}, errReply
}

// liveRecord reads the value and the PTTL that the save script found instead of
// the record that it looked for.
func liveRecord(reply []any) (Record, error) {
	if len(reply) != 2 {
		return Record{}, errReply
	}
	value, isString := reply[0].(string)
	ms, isInt := reply[1].(int64)
	if !isString || !isInt {
		return Record{}, errReply
	}
	rec := parseValue([]byte(value))
	rec.TTL = max(time.Duration(ms)*time.Millisecond, shortestTTL)
	return rec, ErrConflict
}

// Touch implements [Store].
func (s *RedisStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	ms, err := milliseconds(ttl)
	if err != nil {
		return err
	}
	return outcomeOf(s.run(ctx, touchScript, s.key(id), versionBytes(version), ms))
}

// Delete implements [Store].
func (s *RedisStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if version == 0 {
		return s.drop(ctx, s.key(id))
	}
	err := outcomeOf(s.runConfirmed(ctx, deleteScript, s.key(id), s.flagged(versionBytes(version))...))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// drop deletes a key of any kind.
func (s *RedisStore) drop(ctx context.Context, key string) error {
	if s.replicas > 0 {
		_, err := s.runConfirmed(ctx, dropScript, key)
		return err
	}
	return s.failure(ctx, s.client.Process(ctx, once(ctx, 1, "del", key)))
}

// flagged tells a script to end in a write.
func (s *RedisStore) flagged(args ...any) []any {
	if s.replicas > 0 {
		return append(args, "1")
	}
	return args
}

func (s *RedisStore) key(id uuid.UUID) string { return s.prefix + id.String() }

var errReply = errors.New("session: Redis answered a script with something that the script does not say; is there a proxy between that rewrites replies?")

// A redisScript is sent by its digest, and as a whole when the server does not
// have it. NOSCRIPT says that nothing ran, so this repeats no write (C5).
type redisScript struct{ src, sha string }

func newRedisScript(src string) redisScript {
	sum := sha1.Sum([]byte(src))
	return redisScript{src: src, sha: hex.EncodeToString(sum[:])}
}

// Each script reads the version, not the record, before it decides: eight bytes
// of a value that may have thousands. An empty version stands for "no record",
// which is what GETRANGE says of a missing key. One key each, so that they run
// in a Cluster, and no clock: the ttl is relative (E2).
//
// A server that does not tell a script its version is Redis 6.2, or older: SET
// with GET fails on those, which have not been tried.
//
// The last argument is there under RedisConfig.Replicas: then an answer that may
// be taken for an earlier send's success is preceded by a write which changes
// nothing, for WAIT to wait for. Of a key without an expiry that write makes one
// with, as a touch would.
var (
	saveScript = newRedisScript(`local v = redis.call('GETRANGE', KEYS[1], 0, 7)
if v == ARGV[1] then
  if redis.REDIS_VERSION_NUM then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3], 'GET')
  end
  return 1
end
if v == '' then return 0 end
if ARGV[4] then
  local left = redis.call('PTTL', KEYS[1])
  redis.call('PEXPIRE', KEYS[1], left < 0 and ARGV[3] or math.max(left, 1))
end
return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}`)

	touchScript = newRedisScript(`local v = redis.call('GETRANGE', KEYS[1], 0, 7)
if v == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if v == '' then return 0 end
return -1`)

	deleteScript = newRedisScript(`local v = redis.call('GETRANGE', KEYS[1], 0, 7)
if v == ARGV[1] then return redis.call('DEL', KEYS[1]) end
if v ~= '' then return -1 end
if ARGV[2] then
  redis.call('SET', KEYS[1], '', 'PX', 1)
  redis.call('DEL', KEYS[1])
end
return 0`)

	dropScript = newRedisScript(`if redis.call('DEL', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], '', 'PX', 1)
  redis.call('DEL', KEYS[1])
end
return 1`)
)

// scriptResult translates the numbers that the scripts return.
func scriptResult(n int64) error {
	switch n {
	case 1:
		return nil
	case 0:
		return ErrNotFound
	case -1:
		return ErrConflict
	}
	return errReply
}

// outcomeOf reads the answer of a script that returns a number.
func outcomeOf(reply any, err error) error {
	if isWrongType(err) {
		return ErrConflict
	}
	if err != nil {
		return err
	}
	n, ok := reply.(int64)
	if !ok {
		return errReply
	}
	return scriptResult(n)
}

func (s *RedisStore) run(ctx context.Context, script redisScript, key string, args ...any) (any, error) {
	full := append([]any{"evalsha", script.sha, 1, key}, args...)
	cmd := once(ctx, 3, full...)
	err := s.client.Process(ctx, cmd)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		full[0], full[1] = "eval", script.src
		cmd = once(ctx, 3, full...)
		err = s.client.Process(ctx, cmd)
	}
	return cmd.Val(), s.failure(ctx, err)
}

// onceCmd is a command that go-redis sends at most once. By default it re-sends
// after a lost connection or a timeout, when the server may long have executed
// it; a second execution would find its own write and report a conflict. MOVED
// and ASK are still followed: the server that says so did not execute it.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }

func once(ctx context.Context, keyPos int8, args ...any) onceCmd {
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(keyPos)
	// Known here, so that a ClusterClient does not ask the server with COMMAND,
	// for which the user may lack the permission: it would ask every time.
	cmd.SetStepCount(1)
	return onceCmd{cmd}
}

// isWrongType reports that the key holds a list, a hash or the like. Redis 6.2
// wraps the error of a command in a script into a sentence of its own.
func isWrongType(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok && strings.Contains(err.Error(), "WRONGTYPE")
}

// milliseconds rounds ttl down to what Redis counts in (E2). It never returns
// 0, of which SET makes an error and PEXPIRE a deletion.
func milliseconds(ttl time.Duration) (int64, error) {
	if ttl < time.Millisecond {
		return 0, fmt.Errorf("session: a ttl of %v is less than the millisecond that Redis counts in", ttl)
	}
	return ttl.Milliseconds(), nil
}

// versionBytes is the argument that a script compares: 8 bytes, or none for the
// version 0 of "there must be no record".
func versionBytes(version uint64) []byte {
	if version == 0 {
		return []byte{}
	}
	return binary.BigEndian.AppendUint64(nil, version)
}

// formatValue lays a record out: version, 8 bytes, big endian; length of the
// owner, uvarint; owner; data.
func formatValue(r Record) []byte {
	value := make([]byte, 0, 8+binary.MaxVarintLen64+len(r.Owner)+len(r.Data))
	value = binary.BigEndian.AppendUint64(value, r.Version)
	value = binary.AppendUvarint(value, uint64(len(r.Owner)))
	value = append(value, r.Owner...)
	return append(value, r.Data...)
}

// parseValue is the inverse of formatValue. Of a value that formatValue did not
// make it gives a record without Owner or Data, under the version that the
// scripts will find there, or under foreignVersion if that is no version.
func parseValue(value []byte) Record {
	if len(value) < 8 {
		return Record{Version: foreignVersion}
	}
	version := binary.BigEndian.Uint64(value)
	if version == 0 {
		return Record{Version: foreignVersion}
	}
	size, n := binary.Uvarint(value[8:])
	rest := value[8+max(n, 0):]
	if n <= 0 || n != uvarintLen(size) || size > uint64(len(rest)) {
		return Record{Version: version}
	}
	return Record{Version: version, Owner: string(rest[:size]), Data: rest[size:]}
}

// foreignVersion stands for a value without a version. A conditional write under
// it meets ErrConflict, as nothing stored compares equal to it by accident.
const foreignVersion = 1

// uvarintLen lets parseValue refuse a length that is written longer than need
// be, so that each record has one encoding.
func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}
