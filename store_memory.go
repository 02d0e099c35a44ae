package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/google/uuid"
)

const (
	memoryResolution = time.Millisecond // E2
	memorySweepEvery = 10 * time.Second
	memorySweepStep  = 16 // entries per lock hold (E6)

	// memoryShards is enough for as many processors to hardly ever meet. With 256 a
	// store of a thousand sessions was spread over so many cache lines that a read
	// cost a tenth more.
	memoryShards = 64
)

var errVersionZero = errors.New("session: a record's version must not be 0; choose a random number for each write")

// A MemoryStore keeps records in this process's memory, for one server, for
// development and for tests: what it holds ends with the process. The zero value
// is an empty store, ready for use by several goroutines; it must not be copied
// once used. There is nothing to close: a store that nobody refers to any more
// is collected with everything in it.
//
// It resolves one millisecond (E2). Expired records are refused from the instant
// of their end on, and their memory is given back within about fifteen seconds,
// without a call and in steps that do not grow with the number of sessions (E6).
//
// It keeps the Data that Save gets and hands out the same bytes, uncopied, so
// Load and Touch allocate nothing.
//
// It is a [UserStore]. A list forgets an ID whose ttl has run out or whose record
// is gone, without a call: within about fifteen seconds in a store of a few
// thousand users, and in any store when one ID in sixteen is to go, spread over its
// users; within six minutes otherwise.
type MemoryStore struct {
	// MaxSessions is how many records the store may hold, so that a flood of
	// strangers cannot fill the memory. 0 or less: any number. Set it before the
	// first use and leave it as it is.
	//
	// It is never exceeded, not for a moment. A Save that would create one record
	// more takes the place of one that expired, or else evicts an anonymous one: of
	// a few the one that ends first. A user's record is not evicted. When there are
	// no others, a Save that creates one is refused with an error, which a
	// [Manager] answers with 503; those that expired in the last fifteen seconds
	// may count. A session that logs in is there already, and always fits.
	MaxSessions int

	armed  atomic.Bool
	_      [112]byte // more than a cache line: what all calls read is apart from what they write
	shards [memoryShards]memoryShard
	lists  [64]memoryListShard
	turn   atomic.Uint32 // of the shards of lists, to be looked through
	room   memoryRoom
}

// Load implements [Store].
func (s *MemoryStore) Load(ctx context.Context, id uuid.UUID) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	return s.loadAt(id, time.Now().UnixNano())
}

// loadAt is Load for a caller that knows what time it was a moment ago, as if it had
// come then. A touch that came in between leaves more than the idle timeout, which
// leads to one touch more, as does any Load that waits for the lock.
func (s *MemoryStore) loadAt(id uuid.UUID, now int64) (Record, error) {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.table.find(id)
	if !e.live(now) {
		return Record{}, ErrNotFound
	}
	return e.record(now), nil
}

// Save implements [Store].
func (s *MemoryStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next Record, ttl time.Duration) (live Record, err error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	if next.Version == 0 {
		return Record{}, errVersionZero
	}
	if ttl, err = memoryTTL(ttl); err != nil {
		return Record{}, err
	}
	if s.MaxSessions > 0 {
		live, err = s.saveWithin(id, prev, next, ttl)
	} else {
		live, err = s.shard(id).save(id, prev, next, ttl, nil)
	}
	if err == nil {
		s.arm()
	}
	return live, err
}

// Touch implements [Store].
func (s *MemoryStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ttl, err := memoryTTL(ttl)
	if err != nil {
		return err
	}
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano()
	e := sh.table.find(id)
	switch {
	case !e.live(now):
		return ErrNotFound
	case e.version != version:
		return ErrConflict
	}
	sh.table.setEnd(e, endAfter(now, ttl))
	return nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	gone, err := s.shard(id).delete(id, version)
	s.leave(gone)
	return err
}

// Len counts the records in memory. Expired ones count until they are swept, so
// it is a measure of memory rather than of sessions.
func (s *MemoryStore) Len() int {
	n := 0
	for i := range s.shards {
		n += s.shards[i].len()
	}
	return n
}

// shard spreads by the last byte, which is random in the UUIDs of versions 4
// and 7. A visitor cannot aim at one shard: no ID is adopted from outside (R2).
func (s *MemoryStore) shard(id uuid.UUID) *memoryShard {
	return &s.shards[id[15]%memoryShards]
}

// arm starts the timer of the sweep unless it runs. It is called with no lock
// held, and after the record is in its shard: see sweep.
func (s *MemoryStore) arm() {
	if !s.armed.Load() && s.armed.CompareAndSwap(false, true) {
		s.schedule()
	}
}

// schedule leaves the store weakly held: a timer that referred to it would keep
// an abandoned store, with every session in it, for as long as one is live (E6).
// It is a new timer each time, because a zero value has nowhere to make one.
func (s *MemoryStore) schedule() {
	ref := weak.Make(s)
	time.AfterFunc(memorySweepEvery, func() {
		if s := ref.Value(); s != nil {
			s.sweep()
		}
	})
}

func (s *MemoryStore) sweep() {
	now := time.Now().UnixNano()
	s.collect(now)
	s.collectLists(now)
	if s.holds() {
		s.schedule()
		return
	}
	s.armed.Store(false)
	// A record that was created behind the count's back found the timer armed
	// and left it alone.
	if s.holds() {
		s.arm()
	}
}

// holds reports whether there is anything that a sweep may have to drop.
func (s *MemoryStore) holds() bool { return s.Len() > 0 || s.listCount() > 0 }

// collect goes round the shards, one lock hold each, until none has work left.
// Leaving a shard between two holds lets its waiters in, and leaving the
// processor lets in those who wait for that. The work is finite: nothing becomes
// due at an instant that is fixed.
func (s *MemoryStore) collect(now int64) {
	for again := true; again; {
		again = false
		for i := range s.shards {
			gone, more := s.shards[i].collect(now)
			s.leave(gone)
			again = again || more
			runtime.Gosched()
		}
	}
}

// A memoryShard holds the records whose ID ends in one of a few bytes.
type memoryShard struct {
	mu    sync.Mutex
	table memoryTable

	_ [56]byte // to three cache lines, so that all shards lie alike: what a look-up needs is in one
}

// save adds a record only if takePlace says that there is a place for it. Nil:
// the store has no cap.
func (sh *memoryShard) save(id uuid.UUID, prev uint64, next Record, ttl time.Duration, takePlace func() bool) (Record, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano() // not before: a look that came in between may have found the record ended
	e := sh.table.find(id)
	live := e.live(now)
	switch {
	case !live && prev != 0:
		return Record{}, ErrNotFound
	case live && e.version != prev: // prev 0 is nobody's version
		return e.record(now), ErrConflict
	}
	end, evictable := endAfter(now, ttl), takePlace != nil && next.Owner == ""
	switch {
	case e == nil && takePlace != nil && !takePlace():
		return Record{}, errMemoryFull
	case e == nil:
		e = sh.table.add(id, end, evictable)
	case takePlace != nil:
		e = sh.table.classify(e, evictable)
	}
	e.version, e.owner = next.Version, next.Owner
	// Without spare capacity an append by one reader cannot reach another's.
	e.data = next.Data[:len(next.Data):len(next.Data)]
	e.checked = next.isChecked()
	sh.table.setEnd(e, end)
	return Record{}, nil
}

func (sh *memoryShard) len() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.table.byEnd)
}

// delete says how many records went: one, or none.
func (sh *memoryShard) delete(id uuid.UUID, version uint64) (gone int, err error) {
	if _, gone, err = sh.take(id, version); err == ErrNotFound {
		err = nil
	}
	return gone, err
}

// collect drops what ended by now and gives back the room of a peak, in at most
// memorySweepStep steps. It says how many records went, and whether it ran out
// of steps.
func (sh *memoryShard) collect(now int64) (gone int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := len(sh.table.byEnd)
	steps := sh.table.collect(now, memorySweepStep)
	gone = n - len(sh.table.byEnd)
	return gone, sh.table.giveBack(steps) == 0
}

// memoryTTL rounds down to the resolution (E2).
func memoryTTL(ttl time.Duration) (time.Duration, error) {
	if ttl < memoryResolution {
		return 0, fmt.Errorf("session: a ttl of %v is below the store's resolution; give %v or more, or delete the record", ttl, memoryResolution)
	}
	return ttl.Truncate(memoryResolution), nil
}

// endAfter saturates: a sum past the year 2262 would wrap into the past.
func endAfter(now int64, ttl time.Duration) int64 {
	if now > math.MaxInt64-int64(ttl) {
		return math.MaxInt64
	}
	return now + int64(ttl)
}
