package session

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/google/uuid"
)

// What it takes to empty a MemoryStore while it is in use.

// All yields the live records, in no order, each with the TTL that it had left
// when it was read. It holds a lock for as long as it takes to read 16 of them,
// and none while it yields, so the loop may call any method and take its time.
//
// It promises no snapshot: a record that is written while the loop runs may be
// yielded twice or not at all. Whoever has to see all of them stops the writers,
// or goes round until a loop yields nothing.
func (s *MemoryStore) All() iter.Seq2[uuid.UUID, Record] {
	return func(yield func(uuid.UUID, Record) bool) {
		var some [memorySweepStep]memoryFound
		for i := range s.shards {
			for below := math.MaxInt; below > 0; {
				var n int
				n, below = s.shards[i].read(&some, below)
				for _, f := range some[:n] {
					if !yield(f.id, f.rec) {
						return
					}
				}
			}
		}
	}
}

// Take removes the live record of id and returns it with the TTL that it had
// left, if its version is the one given, otherwise ErrConflict. Version 0 takes
// whatever is there. It returns ErrNotFound if there is no live record, which
// Delete keeps to itself: of several who take a record one gets it.
func (s *MemoryStore) Take(ctx context.Context, id uuid.UUID, version uint64) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	rec, gone, err := s.shard(id).take(id, version)
	s.leave(gone)
	return rec, err
}

// A memoryFound is a record that was read, and whose it is.
type memoryFound struct {
	id  uuid.UUID
	rec Record
}

// read copies what is live in the highest places below the one given, and says
// how much it is and where to go on. Downwards, because the last entry moves into
// the place of one that goes: so it is read twice, and not missed.
func (sh *memoryShard) read(some *[memorySweepStep]memoryFound, below int) (n, next int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano()
	next = min(below, len(sh.table.byEnd))
	for range min(next, len(some)) {
		next--
		if e := sh.table.at(uint32(next)); e.live(now) {
			some[n] = memoryFound{e.id, e.record(now)}
			n++
		}
	}
	return n, next
}

// take says how many records went, an expired one included: one, or none.
func (sh *memoryShard) take(id uuid.UUID, version uint64) (rec Record, gone int, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.table.find(id)
	if e == nil {
		return Record{}, 0, ErrNotFound
	}
	now := time.Now().UnixNano()
	live := e.live(now)
	if live && version != 0 && version != e.version {
		return Record{}, 0, ErrConflict
	}
	rec = e.record(now)
	sh.table.remove(e)
	if !live {
		return Record{}, 1, ErrNotFound
	}
	return rec, 1, nil
}
