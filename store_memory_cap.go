package session

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// What a store with a cap does when it is full. A flood of strangers may push
// out strangers; it ends no user's session and refuses no login.

// memorySample is how many anonymous records are looked at for the one to evict.
// Redis looks at as many keys by default, and for the same reason: the one that
// ends first of a few is nearly as good as the first of all, and needs no order.
const memorySample = 5

var errMemoryFull = errors.New("session: the MemoryStore holds MaxSessions records and none of them is anonymous; raise MaxSessions, or limit the sessions of each user with Config.MaxPerUser")

// A memoryRoom counts the places of a store with a cap.
type memoryRoom struct {
	taken  atomic.Int64 // by records, by Saves that are about to add one, and by the one that makes room
	making sync.Mutex   // held by whoever makes room, before any shard's lock
}

// takePlace takes a place for a record if one is free. It may be called with a
// shard's lock held.
func (s *MemoryStore) takePlace() bool {
	for {
		n := s.room.taken.Load()
		if n >= int64(s.MaxSessions) {
			return false
		}
		if s.room.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives back the places of records that are gone.
func (s *MemoryStore) leave(gone int) {
	if gone > 0 && s.MaxSessions > 0 {
		s.room.taken.Add(-int64(gone))
	}
}

// saveWithin is save under the cap. Most Saves create nothing, or find a place
// free, and need no more than their shard.
func (s *MemoryStore) saveWithin(id uuid.UUID, prev uint64, next Record, ttl time.Duration) (live Record, err error) {
	sh := s.shard(id)
	live, err = sh.save(id, prev, next, ttl, s.takePlace)
	if err != errMemoryFull {
		return live, err
	}
	s.room.making.Lock()
	defer s.room.making.Unlock()
	if !s.makeRoom(int(id[15] % memoryShards)) {
		return Record{}, errMemoryFull
	}
	used := false
	live, err = sh.save(id, prev, next, ttl, func() bool { used = true; return true })
	if !used { // another Save created the record meanwhile
		s.leave(1)
	}
	return live, err
}

// makeRoom takes a place that is free, or that it frees by evicting a record,
// from one shard after the other. One runs at a time, and its own claim stands
// from the beginning: until it ends no other Save finds a place free, so that no
// anonymous record comes up behind its back, and false means that there was none.
func (s *MemoryStore) makeRoom(first int) bool {
	most := int64(s.MaxSessions)
	if s.room.taken.Add(1) <= most {
		return true
	}
	now := time.Now().UnixNano()
	for i := range s.shards {
		for again := true; again; {
			var gone int
			gone, again = s.shards[(first+i)%len(s.shards)].evict(now)
			s.leave(gone)
			if s.room.taken.Load() <= most {
				return true
			}
		}
	}
	s.leave(1)
	return false
}

// hasRoom reports whether a Save can create a record.
func (s *MemoryStore) hasRoom() bool {
	if s.MaxSessions <= 0 || s.room.taken.Load() < int64(s.MaxSessions) {
		return true
	}
	now := time.Now().UnixNano()
	for i := range s.shards {
		gone, hasMore := s.shards[i].yields(now)
		s.leave(gone)
		if gone > 0 || hasMore {
			return true
		}
	}
	return false
}

// yields drops records that ended, as evict does, and reports whether a record may be
// evicted besides.
func (sh *memoryShard) yields(now int64) (gone int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	gone, _ = sh.table.dropEnded(now)
	return gone, sh.table.anonymous > 0
}

// evict drops records that ended, a sweep's step of them at most, or else one
// anonymous record. It says how many went, and whether it saw only records that
// were touched, with others behind them.
func (sh *memoryShard) evict(now int64) (gone int, again bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	gone, left := sh.table.dropEnded(now)
	if gone == 0 {
		if e := sh.table.evictable(); e != nil {
			sh.table.remove(e)
			gone = 1
		}
	}
	return gone, gone == 0 && left == 0
}

// dropEnded says how many went, and how many steps were not needed.
func (t *memoryTable) dropEnded(now int64) (gone, left int) {
	n := len(t.byEnd)
	left = t.collect(now, memorySweepStep)
	return n - len(t.byEnd), left
}

// evictable returns the one of a few anonymous entries that ends first, which is
// one that has ended if there is one among them. Nil: there is none.
func (t *memoryTable) evictable() (first *memoryEntry) {
	for range min(memorySample, t.anonymous) {
		e := t.at(uint32(rand.IntN(t.anonymous)))
		if first == nil || e.end < first.end {
			first = e
		}
	}
	return first
}

// classify moves an entry to the places of the anonymous, or away from them, and
// returns where it is now.
func (t *memoryTable) classify(e *memoryEntry, anonymous bool) *memoryEntry {
	place := t.byEnd[e.pos]
	switch was := int(place) < t.anonymous; {
	case was == anonymous:
		return e
	case anonymous:
		t.anonymous++
		return t.swap(place, uint32(t.anonymous-1))
	default:
		t.anonymous--
		return t.swap(place, uint32(t.anonymous))
	}
}

// swap exchanges two entries' places and returns the one that a had, now at b.
func (t *memoryTable) swap(a, b uint32) *memoryEntry {
	x, y := t.at(a), t.at(b)
	if a == b {
		return y
	}
	*t.slot(x.id), *t.slot(y.id) = b+1, a+1
	*x, *y = *y, *x
	t.byEnd[x.pos], t.byEnd[y.pos] = a, b
	return y
}
