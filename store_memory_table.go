package session

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/google/uuid"
)

// A memoryTable finds entries by ID and by the end under which they are filed.
// Its zero value is an empty table.
//
// At a million sessions what stands around the data counts. Entries lie side by
// side in chunks and are known by their place, so that an entry costs 88 bytes,
// its line in the index 8 and in the heap 4, and the garbage collector has one
// object to look at instead of one an entry. They have no gaps: the last entry
// moves into the place of one that goes, which lets whole chunks go too.
type memoryTable struct {
	chunks []*[memoryChunk]memoryEntry // first what a look-up needs
	byID   memoryIndex
	byEnd  []uint32    // a heap of places, what is filed first on top
	former memoryIndex // what byID replaces, until all of it has moved
	moved  int         // slots of former that have

	// The places below it are those of anonymous records, in a store that may evict
	// them: it finds one at once, however few there are. In others it is 0.
	anonymous int
}

// memoryChunk is how many entries make one chunk: few enough for a store of a
// handful of sessions, and a size that the allocator has: 1,408 bytes.
const memoryChunk = 16

// A memoryEntry is one record.
type memoryEntry struct {
	id      uuid.UUID
	version uint64
	owner   string
	data    []byte
	end     int64  // nanoseconds since 1970, on the wall clock (E2)
	filed   uint32 // never after filing(end)
	pos     uint32 // where byEnd has it
	checked bool   // the record was
}

// live reports whether the entry is there and has not ended (E1). It is what
// every method asks: the sweep only gives memory back.
func (e *memoryEntry) live(now int64) bool { return e != nil && now < e.end }

func (e *memoryEntry) record(now int64) Record {
	r := Record{Version: e.version, Owner: e.owner, Data: e.data, TTL: time.Duration(e.end - now)}
	if e.checked {
		r.check()
	}
	return r
}

// memoryFiling is the grain in which ends are filed: four bytes of it reach as
// far as eight of nanoseconds, to the year 2262.
const memoryFiling = 4 * time.Second

// filing rounds up, so that an entry that surfaces has ended, or been touched.
func filing(end int64) uint32 {
	return uint32((uint64(end) + uint64(memoryFiling) - 1) / uint64(memoryFiling))
}

func (t *memoryTable) at(place uint32) *memoryEntry {
	return &t.chunks[place/memoryChunk][place%memoryChunk]
}

// find returns the entry of id, expired or not, or nil. It is good until the
// next add or remove.
func (t *memoryTable) find(id uuid.UUID) *memoryEntry {
	slot := t.slot(id)
	if slot == nil {
		return nil
	}
	return t.at(*slot - 1)
}

// slot returns the place of id's place, nil for none.
func (t *memoryTable) slot(id uuid.UUID) *uint32 {
	if len(t.byID.slots) == 0 {
		return nil
	}
	h := hashID(&id)
	if i, found := t.byID.find(t, h, &id); found {
		return &t.byID.slots[i]
	}
	if len(t.former.slots) > 0 {
		if i, found := t.former.find(t, h, &id); found {
			return &t.former.slots[i]
		}
	}
	return nil
}

// add files a new entry, with the anonymous ones if it is to be evictable.
func (t *memoryTable) add(id uuid.UUID, end int64, anonymous bool) *memoryEntry {
	place := uint32(len(t.byEnd))
	if int(place/memoryChunk) == len(t.chunks) {
		t.chunks = append(t.chunks, new([memoryChunk]memoryEntry))
	}
	t.move(memoryMoves)
	if !t.byID.hasRoom() {
		t.resize(max(8, 2*len(t.byID.slots)))
	}
	e := t.at(place)
	e.id, e.end, e.filed, e.pos = id, end, filing(end), place
	t.byID.insert(hashID(&id), place+1)
	t.byEnd = append(t.byEnd, place)
	t.up(int(place))
	return t.classify(e, anonymous)
}

func (t *memoryTable) remove(e *memoryEntry) {
	e = t.classify(e, false) // of the anonymous places too, the one to free is the last
	pos := int(e.pos)
	place := t.byEnd[pos]
	t.forget(e)

	last := len(t.byEnd) - 1
	t.put(pos, t.byEnd[last])
	t.byEnd = t.byEnd[:last]
	if pos < last {
		t.fix(pos)
	}

	// Places have no gaps, so the one to free is the last.
	tail := t.at(uint32(last))
	if place != uint32(last) {
		*t.slot(tail.id) = place + 1
		*e = *tail
		t.byEnd[e.pos] = place
	}
	*tail = memoryEntry{}
}

// forget takes e out of the index. In former, whose slots are read in turn,
// nothing may move.
func (t *memoryTable) forget(e *memoryEntry) {
	h := hashID(&e.id)
	if i, found := t.byID.find(t, h, &e.id); found {
		t.byID.remove(t, i)
		return
	}
	i, _ := t.former.find(t, h, &e.id)
	t.former.slots[i] = memoryGone
}

// setEnd re-files an entry only if its end came nearer. One that moved away is
// corrected when it surfaces, which keeps a touch as cheap as a load; but one
// that came nearer would not surface before its former end, and a store of
// dead sessions would keep them all.
func (t *memoryTable) setEnd(e *memoryEntry, end int64) {
	e.end = end
	if f := filing(end); f < e.filed {
		e.filed = f
		t.up(int(e.pos))
	}
}

// collect removes entries that ended by now, and re-files those that surface
// because their end moved away. It returns what is left of steps.
func (t *memoryTable) collect(now int64, steps int) (left int) {
	due := uint32(now / int64(memoryFiling))
	for ; steps > 0 && len(t.byEnd) > 0; steps-- {
		e := t.at(t.byEnd[0])
		if e.filed > due {
			break
		}
		if e.live(now) {
			e.filed = filing(e.end)
			t.down(0)
			continue
		}
		t.remove(e)
	}
	return steps
}

// giveBack lets go of room that a peak left, in steps whose length does not
// depend on how high it was. It returns what is left of them. (What depends is
// the copy of the heap: four bytes an entry of those that stay.)
func (t *memoryTable) giveBack(steps int) (left int) {
	n := len(t.byEnd)
	if n == 0 && t.chunks != nil && steps > 0 {
		*t = memoryTable{}
		return steps - 1
	}
	for ; steps > 0 && len(t.chunks) > (n+memoryChunk-1)/memoryChunk; steps-- {
		last := len(t.chunks) - 1
		t.chunks[last] = nil
		t.chunks = t.chunks[:last]
	}
	t.chunks, t.byEnd = fitted(t.chunks), fitted(t.byEnd)
	for ; steps > 0 && len(t.former.slots) > 0; steps-- {
		t.move(memoryMoves)
	}
	if size := len(t.byID.slots); steps > 0 && size > 64 && 10*n < 3*size {
		t.resize(size / 2)
		return 0 // not done: the moves come with the next call
	}
	return steps
}

// fitted copies a slice that is less than half full.
func fitted[T any](s []T) []T {
	if cap(s) <= 64 || 2*len(s) >= cap(s) {
		return s
	}
	return append(make([]T, 0, len(s)+len(s)/4), s...)
}

// What follows is the heap of container/heap, without an interface between it
// and the entries.

func (t *memoryTable) put(pos int, place uint32) {
	t.byEnd[pos] = place
	t.at(place).pos = uint32(pos)
}

func (t *memoryTable) filed(pos int) uint32 { return t.at(t.byEnd[pos]).filed }

func (t *memoryTable) fix(pos int) {
	if !t.up(pos) {
		t.down(pos)
	}
}

func (t *memoryTable) up(pos int) (went bool) {
	place := t.byEnd[pos]
	filed := t.at(place).filed
	for pos > 0 {
		parent := (pos - 1) / 2
		if t.filed(parent) <= filed {
			break
		}
		t.put(pos, t.byEnd[parent])
		pos, went = parent, true
	}
	t.put(pos, place)
	return went
}

func (t *memoryTable) down(pos int) {
	place := t.byEnd[pos]
	filed := t.at(place).filed
	for {
		child := 2*pos + 1
		if child >= len(t.byEnd) {
			break
		}
		if child+1 < len(t.byEnd) && t.filed(child+1) < t.filed(child) {
			child++
		}
		if filed <= t.filed(child) {
			break
		}
		t.put(pos, t.byEnd[child])
		pos = child
	}
	t.put(pos, place)
}

// A memoryIndex finds places by ID: a power of two of slots, each a place plus
// one, 0 for none, searched from the ID's hash on. The IDs are in the entries.
type memoryIndex struct {
	slots []uint32
	used  int // of byID; former only empties
}

// memoryGone marks a slot of a former index whose ID has moved or was removed.
const memoryGone = math.MaxUint32

// memoryMoves is how many slots of a former index go with each add. Sixteen are
// done before the new index can be full: it has twice the slots of one that was
// three quarters full, or half of one that was three tenths full.
const memoryMoves = 16

var memorySeed = maphash.MakeSeed()

// hashID does not rely on the IDs' being random: a store is a public type.
func hashID(id *uuid.UUID) uint64 { return maphash.Bytes(memorySeed, id[:]) }

func (x *memoryIndex) hasRoom() bool { return 4*x.used < 3*len(x.slots) }

func (x *memoryIndex) find(t *memoryTable, h uint64, id *uuid.UUID) (i int, found bool) {
	mask := len(x.slots) - 1
	for i = int(h) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if s := x.slots[i]; s != memoryGone && t.at(s-1).id == *id {
			return i, true
		}
	}
	return i, false
}

func (x *memoryIndex) insert(h uint64, slot uint32) {
	mask := len(x.slots) - 1
	i := int(h) & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = slot
	x.used++
}

// remove empties slot i and moves what was searched across it back over it
// (Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm R).
func (x *memoryIndex) remove(t *memoryTable, i int) {
	mask := len(x.slots) - 1
	for j := (i + 1) & mask; x.slots[j] != 0; j = (j + 1) & mask {
		home := int(hashID(&t.at(x.slots[j]-1).id)) & mask
		if (j-home)&mask >= (j-i)&mask {
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = 0
	x.used--
}

// resize begins to move to an index of another size.
func (t *memoryTable) resize(size int) {
	for len(t.former.slots) > 0 { // see memoryMoves: there are none
		t.move(memoryMoves)
	}
	t.former, t.byID = t.byID, memoryIndex{slots: make([]uint32, size)}
}

// move takes n slots of a former index to the one that replaces it.
func (t *memoryTable) move(n int) {
	for ; n > 0 && t.moved < len(t.former.slots); n-- {
		if s := t.former.slots[t.moved]; s != 0 && s != memoryGone {
			t.byID.insert(hashID(&t.at(s-1).id), s)
			t.former.slots[t.moved] = memoryGone
		}
		t.moved++
	}
	if t.moved == len(t.former.slots) {
		t.former, t.moved = memoryIndex{}, 0
	}
}
