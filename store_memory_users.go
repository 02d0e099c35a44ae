package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Enlist implements [UserStore]. An ID whose record is gone may be taken off
// before its ttl has run out, because a record that died does not come back: save
// the record first.
func (s *MemoryStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last Cut, err error) {
	if err := ctx.Err(); err != nil {
		return nil, Cut{}, err
	}
	if ttl, err = memoryTTL(ttl); err != nil {
		return nil, Cut{}, err
	}
	key := memoryKeyOf(list)
	listed, last = s.listShard(key).enlist(key, id, ttl, most)
	s.arm()
	return listed, last, nil
}

// List implements [UserStore].
func (s *MemoryStore) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := memoryKeyOf(list)
	sh := s.listShard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l, _ := sh.lists.get(key)
	return l.ids(time.Now().UnixNano()), nil
}

// CutOff implements [UserStore]. Of one list it remembers the 64 newest.
func (s *MemoryStore) CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this Cut, err error) {
	if err := ctx.Err(); err != nil {
		return nil, Cut{}, err
	}
	key := memoryKeyOf(list)
	listed, this = s.listShard(key).cutOff(key, except)
	s.arm()
	return listed, this, nil
}

// End implements [UserStore].
func (s *MemoryStore) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, id := range ids {
		gone, _ := s.shard(id).delete(id, 0)
		s.leave(gone)
	}
	key := memoryKeyOf(list)
	for some := range slices.Chunk(ids, memorySweepStep) {
		s.listShard(key).takeOff(key, some)
	}
	return nil
}

// LoadAll implements [UserStore]. It takes the records one by one, so each of
// them is as it was at an instant of its own.
func (s *MemoryStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]Record, error) {
	records := make([]Record, len(ids))
	for i, id := range ids {
		rec, err := s.Load(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		records[i] = rec
	}
	return records, nil
}

// Versions implements [UserStore].
func (s *MemoryStore) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	versions := make([]uint64, len(ids))
	for i, id := range ids {
		versions[i] = s.shard(id).version(id)
	}
	return versions, nil
}

// version is 0 if there is no live record.
func (sh *memoryShard) version(id uuid.UUID) uint64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.table.find(id); e.live(time.Now().UnixNano()) {
		return e.version
	}
	return 0
}

// A memoryKey stands for a list's name, in half of its SHA-256: shorter than most
// names, and nobody finds two users who would share one.
type memoryKey [16]byte

func memoryKeyOf(list string) memoryKey {
	sum := sha256.Sum256([]byte(list))
	return memoryKey(sum[:])
}

// A memoryListShard holds the lists of some users. Its lock and that of a
// memoryShard are never held together.
type memoryListShard struct {
	mu    sync.Mutex
	lists memoryMap[memoryKey, memoryList]
	cuts  uint64 // how many there were ever: the last one's ID

	_ [64]byte // a cache line, so that neighbours' locks do not share one
}

func (s *MemoryStore) listShard(key memoryKey) *memoryListShard {
	return &s.lists[int(key[15])%len(s.lists)]
}

func (sh *memoryListShard) put(key memoryKey, l memoryList) {
	if l.shrink(); l.empty() {
		sh.lists.remove(key)
		return
	}
	sh.lists.put(key, l)
}

func (sh *memoryListShard) enlist(key memoryKey, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last Cut) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := time.Now().UnixNano()
	l, _ := sh.lists.get(key)
	l.add(memoryListed{id, endAfter(now, ttl)}, now)
	sh.put(key, l)
	last = l.lastCut(id, sinceStart())
	if most <= 0 || l.len() <= most {
		return nil, last
	}
	if listed = l.ids(now); len(listed) <= most { // the ttl of others has run out
		return nil, last
	}
	return listed, last
}

func (sh *memoryListShard) cutOff(key memoryKey, except []uuid.UUID) ([]uuid.UUID, Cut) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l, _ := sh.lists.get(key)
	sh.cuts++
	l.cut(sh.cuts, sinceStart(), except)
	sh.put(key, l)
	return l.ids(time.Now().UnixNano()), Cut{ID: sh.cuts}
}

func (sh *memoryListShard) takeOff(key memoryKey, ids []uuid.UUID) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l, found := sh.lists.get(key)
	if !found {
		return
	}
	for _, id := range ids {
		l.remove(id)
	}
	sh.put(key, l)
}

func (s *MemoryStore) listCount() int {
	n := 0
	for i := range s.lists {
		n += s.lists[i].len()
	}
	return n
}

func (sh *memoryListShard) len() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.lists.len()
}

const (
	memoryListLooks  = 1 << 14 // entries that each sweep looks at, if there are as many
	memoryListRounds = 32      // sweeps that look at all of them, if there are more
	memoryListPays   = 32      // one in so many is worth to go on looking
)

// collectLists looks for entries whose ttl has run out or whose record is gone:
// nobody tells a list when a record expires, because a record does not know its
// list. A look costs the same whether or not it finds something, so a sweep does
// not look at all of a million, unless it finds many: the lists are spread at random,
// so that what it found tells of what it would find. It goes on at half of the one in
// sixteen that is promised, because chance is in what it has seen.
func (s *MemoryStore) collectLists(now int64) {
	looked, gone := 0, 0
	for n := range len(s.lists) {
		if looked >= memoryListLooks && n >= len(s.lists)/memoryListRounds && gone*memoryListPays < looked {
			break
		}
		v := memoryVisit{s: s, sh: &s.lists[int(s.turn.Add(1))%len(s.lists)], now: now}
		v.run()
		looked, gone = looked+v.looked, gone+v.gone
	}
}

// A memoryVisit goes through one shard of lists with its lock held, and leaves it
// after every few steps. It goes on where it was, in a map that others change
// meanwhile, because that is what Go promises of a range over one.
type memoryVisit struct {
	s      *MemoryStore
	sh     *memoryListShard
	now    int64
	looked int
	gone   int
	batch  []memoryMember // to be judged
}

// A memoryMember is an ID on a list.
type memoryMember struct {
	key  memoryKey
	id   uuid.UUID
	over bool // its ttl, when it was looked at
	dead bool // its record
}

func (v *memoryVisit) run() {
	v.sh.mu.Lock()
	defer v.sh.mu.Unlock()
	pause := v.pause
	for key, l := range v.sh.lists.now {
		if l.many != nil && len(l.many.cuts) > 0 {
			l.forgetCuts(sinceStart())
			v.sh.put(key, l)
			v.step()
		}
		for e := range l.entries() {
			v.batch = append(v.batch, memoryMember{key: key, id: e.id, over: e.end <= v.now})
			v.step()
		}
		if l.many != nil {
			l.many.giveBack(pause)
		}
	}
	v.pause()
	v.sh.lists.giveBack(pause)
}

func (v *memoryVisit) step() {
	if v.looked++; v.looked%memorySweepStep == 0 {
		v.pause()
	}
}

// pause lets others have the lock. Meanwhile it looks up the records of the
// batch. An ID whose record is gone may be taken off whatever happened since: a
// record that died does not come back.
func (v *memoryVisit) pause() {
	v.sh.mu.Unlock()
	off := v.batch[:0]
	for _, m := range v.batch {
		if m.dead = v.s.shard(m.id).version(m.id) == 0; m.dead || m.over {
			off = append(off, m)
		}
	}
	runtime.Gosched()
	v.sh.mu.Lock()
	for _, m := range off {
		l, _ := v.sh.lists.get(m.key)
		if end := l.endOf(m.id); end != 0 && (m.dead || end <= v.now) {
			l.remove(m.id)
			v.sh.put(m.key, l)
			v.gone++
		}
	}
	v.batch = v.batch[:0]
}
