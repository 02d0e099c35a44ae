package session

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/google/uuid"
)

const (
	memoryResolution = time.Millisecond // E2
	memorySweepEvery = 10 * time.Second
	memorySweepStep  = 64 // entries per lock hold: some 50 us (E6)
)

var errVersionZero = errors.New("session: a record's version must not be 0; choose a random number for each write")

// A MemoryStore keeps records in this process's memory, for one server, for
// development and for tests: what it holds ends with the process. The zero value
// is an empty store, ready for use by several goroutines; it must not be copied
// once used. There is nothing to close: a store that nobody refers to any more
// is collected with everything in it.
//
// It resolves one millisecond (E2). Expired records are refused from the instant
// of their end on, and their memory is given back within about ten seconds,
// without a call and in steps that do not grow with the number of sessions (E6).
//
// It keeps the Data that Save gets and hands out the same bytes, uncopied, so
// Load and Touch allocate nothing.
type MemoryStore struct {
	shards [256]memoryShard
	armed  atomic.Bool
}

// Load implements [Store].
func (s *MemoryStore) Load(ctx context.Context, id uuid.UUID) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano()
	_, e := sh.find(id)
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
	live, err = s.shard(id).save(id, prev, next, ttl)
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
	t, e := sh.find(id)
	switch {
	case !e.live(now):
		return ErrNotFound
	case e.version != version:
		return ErrConflict
	}
	t.setEnd(e, endAfter(now, ttl))
	return nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t, e := sh.find(id)
	if e == nil {
		return nil
	}
	if version != 0 && version != e.version && e.live(time.Now().UnixNano()) {
		return ErrConflict
	}
	t.remove(e)
	return nil
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
	return &s.shards[id[15]]
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
	s.collect(time.Now().UnixNano())
	if s.Len() > 0 {
		s.schedule()
		return
	}
	s.armed.Store(false)
	// A record that was created behind the count's back found the timer armed
	// and left it alone.
	if s.Len() > 0 {
		s.arm()
	}
}

// collect goes round the shards, one lock hold each, until none has work left.
// Leaving a shard between two holds lets its waiters in. The work is finite:
// nothing becomes due at an instant that is fixed.
func (s *MemoryStore) collect(now int64) {
	for again := true; again; {
		again = false
		for i := range s.shards {
			again = s.shards[i].collect(now) || again
		}
	}
}

// A memoryShard holds the records whose ID ends in one byte.
//
// Go's maps never shrink, so after a peak the table is replaced (E6). Copying
// it at once would be a pause that grows with the number of sessions. Instead
// the peak's table becomes old, and the sweep moves its entries to the new one
// step by step; until it is empty a record is in one or the other.
type memoryShard struct {
	mu   sync.Mutex
	live memoryTable
	old  memoryTable

	_ [64]byte // a cache line, so that neighbours' locks do not share one
}

func (sh *memoryShard) save(id uuid.UUID, prev uint64, next Record, ttl time.Duration) (Record, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano()
	t, e := sh.find(id)
	live := e.live(now)
	switch {
	case !live && prev != 0:
		return Record{}, ErrNotFound
	case live && e.version != prev: // prev 0 is nobody's version
		return e.record(now), ErrConflict
	}
	end := endAfter(now, ttl)
	if e == nil {
		t, e = &sh.live, &memoryEntry{id: id, end: end, filed: end}
		t.add(e)
	}
	e.version, e.owner = next.Version, next.Owner
	// Without spare capacity an append by one reader cannot reach another's.
	e.data = next.Data[:len(next.Data):len(next.Data)]
	t.setEnd(e, end)
	return Record{}, nil
}

// find returns the entry of id, expired or not, and the table that it is in.
func (sh *memoryShard) find(id uuid.UUID) (*memoryTable, *memoryEntry) {
	if e := sh.live.byID[id]; e != nil {
		return &sh.live, e
	}
	if e := sh.old.byID[id]; e != nil {
		return &sh.old, e
	}
	return nil, nil
}

func (sh *memoryShard) len() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.live.byEnd) + len(sh.old.byEnd)
}

// collect drops what ended by now and gives back a peak's table, in at most
// memorySweepStep steps. It reports whether it ran out of them.
func (sh *memoryShard) collect(now int64) (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	steps := sh.live.collect(now, memorySweepStep)
	steps = sh.old.collect(now, steps)
	return sh.shrink(steps) == 0
}

// shrink replaces a table that is less than a quarter full. Each move was paid
// for by at least three removals, and costs one step, so how high the peak was
// decides the number of lock holds and not their length. (What is left of that
// is the growth of the new heap's slice: a copy of eight bytes an entry.)
func (sh *memoryShard) shrink(steps int) (left int) {
	if len(sh.old.byEnd) == 0 {
		sh.old = memoryTable{}
		if 4*len(sh.live.byEnd) < sh.live.peak {
			sh.live, sh.old = sh.old, sh.live
		}
	}
	for ; steps > 0 && len(sh.old.byEnd) > 0; steps-- {
		e := sh.old.byEnd[len(sh.old.byEnd)-1] // the last leaves a heap for free
		sh.old.remove(e)
		sh.live.add(e)
	}
	if len(sh.old.byEnd) == 0 {
		sh.old = memoryTable{}
	}
	return steps
}

// A memoryTable finds entries by ID and by the end under which they are filed.
// Its zero value is an empty table.
type memoryTable struct {
	byID  map[uuid.UUID]*memoryEntry
	byEnd memoryHeap
	peak  int
}

func (t *memoryTable) add(e *memoryEntry) {
	if t.byID == nil {
		t.byID = make(map[uuid.UUID]*memoryEntry)
	}
	t.byID[e.id] = e
	heap.Push(&t.byEnd, e)
	t.peak = max(t.peak, len(t.byEnd))
}

func (t *memoryTable) remove(e *memoryEntry) {
	delete(t.byID, e.id)
	heap.Remove(&t.byEnd, e.pos)
}

// setEnd re-files an entry only if its end came nearer. One that moved away is
// corrected when it surfaces, which keeps a touch as cheap as a load; but one
// that came nearer would not surface before its former end, and a store of
// dead sessions would keep them all.
func (t *memoryTable) setEnd(e *memoryEntry, end int64) {
	e.end = end
	if end < e.filed {
		e.filed = end
		heap.Fix(&t.byEnd, e.pos)
	}
}

// collect removes entries that ended by now, and re-files those that surface
// because their end moved away. It returns what is left of steps.
func (t *memoryTable) collect(now int64, steps int) (left int) {
	for ; steps > 0 && len(t.byEnd) > 0 && t.byEnd[0].filed <= now; steps-- {
		e := t.byEnd[0]
		if e.live(now) {
			e.filed = e.end
			heap.Fix(&t.byEnd, 0)
			continue
		}
		t.remove(e)
	}
	return steps
}

// A memoryEntry is one record. filed is never after end.
type memoryEntry struct {
	id      uuid.UUID
	version uint64
	owner   string
	data    []byte
	end     int64 // nanoseconds since 1970, on the wall clock (E2)
	filed   int64 // the end under which the heap has it
	pos     int   // its place in the heap
}

// live reports whether the entry is there and has not ended (E1). It is what
// every method asks: the sweep only gives memory back.
func (e *memoryEntry) live(now int64) bool { return e != nil && now < e.end }

func (e *memoryEntry) record(now int64) Record {
	return Record{Version: e.version, Owner: e.owner, Data: e.data, TTL: time.Duration(e.end - now)}
}

// A memoryHeap has the entry that is filed first on top; it implements
// [heap.Interface].
type memoryHeap []*memoryEntry

func (h memoryHeap) Len() int           { return len(h) }
func (h memoryHeap) Less(i, j int) bool { return h[i].filed < h[j].filed }

func (h memoryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *memoryHeap) Push(x any) {
	e := x.(*memoryEntry)
	e.pos = len(*h)
	*h = append(*h, e)
}

func (h *memoryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil // else the array keeps the record's memory
	*h = (*h)[:last]
	return e
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
