package session

import (
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The lists of a MemoryStore, as its shards keep them (store_memory_users.go).
// Putting an ID on a list, and taking it off, costs the same however long it is.

const (
	memoryFew     = 32 // so many entries are searched without an index
	memoryMaxCuts = 64
)

// A memoryListed is an entry of a list.
type memoryListed struct {
	id  uuid.UUID
	end int64 // of its ttl, on the wall clock (E2); 0: there is no entry
}

// A memoryList is one user's. Most have one session and were never cut off: that
// is what the value of a map holds itself, without an object of its own.
type memoryList struct {
	only memoryListed    // if many is nil
	many *memoryManyList // nil: no more than only
}

type memoryManyList struct {
	first, last *memoryNode
	n           int
	byID        memoryMap[uuid.UUID, *memoryNode] // empty while there are few
	cuts        []memoryCut                       // oldest first
}

// A memoryNode that was taken off still points to the next, so that whoever
// paused at it finds the way back to the list.
type memoryNode struct {
	memoryListed
	prev, next *memoryNode
}

// A memoryCut is a CutOff that is remembered.
type memoryCut struct {
	id     uint64
	at     time.Duration // since started: no step of the wall clock makes it younger
	except []uuid.UUID
}

func (l *memoryList) empty() bool { return l.many == nil && l.only.end == 0 }

func (l *memoryList) len() int {
	switch {
	case l.many != nil:
		return l.many.n
	case l.only.end != 0:
		return 1
	}
	return 0
}

// entries may be left and gone on with while the list changes.
func (l *memoryList) entries() iter.Seq[memoryListed] {
	return func(yield func(memoryListed) bool) {
		if l.many == nil {
			if l.only.end != 0 {
				yield(l.only)
			}
			return
		}
		n := l.many.first
		for range l.many.n { // what is added meanwhile is not waited for
			if n == nil || !yield(n.memoryListed) {
				return
			}
			n = n.next
		}
	}
}

// ids are those whose ttl has not run out, oldest first.
func (l *memoryList) ids(now int64) []uuid.UUID {
	if l.empty() {
		return nil
	}
	ids := make([]uuid.UUID, 0, l.len())
	for e := range l.entries() {
		if now < e.end {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// add puts e at the end, where it then is once.
func (l *memoryList) add(e memoryListed, now int64) {
	l.remove(e.id)
	if l.many == nil && now >= l.only.end {
		l.only = e
		return
	}
	l.grow().append(e)
}

// grow makes room for more than one entry.
func (l *memoryList) grow() *memoryManyList {
	if l.many == nil {
		l.many = new(memoryManyList)
		if l.only.end != 0 {
			l.many.append(l.only)
		}
		l.only = memoryListed{}
	}
	return l.many
}

// endOf is 0 if id is not on the list.
func (l *memoryList) endOf(id uuid.UUID) int64 {
	if l.many != nil {
		if n := l.many.find(id); n != nil {
			return n.end
		}
	} else if l.only.id == id {
		return l.only.end
	}
	return 0
}

func (l *memoryList) remove(id uuid.UUID) {
	if l.many != nil {
		if n := l.many.find(id); n != nil {
			l.many.remove(n)
		}
	} else if l.only.id == id {
		l.only = memoryListed{}
	}
}

// shrink undoes grow where one entry is left, and nothing to remember.
func (l *memoryList) shrink() {
	if l.many == nil || l.many.n > 1 || len(l.many.cuts) > 0 {
		return
	}
	if n := l.many.first; n != nil {
		l.only = n.memoryListed
	}
	l.many = nil
}

// cut notes that everything was cut off but except, at this instant. A cut that
// another one covers makes no difference any more.
func (l *memoryList) cut(id uint64, at time.Duration, except []uuid.UUID) {
	m := l.grow()
	m.cuts = slices.DeleteFunc(m.cuts, func(c memoryCut) bool {
		return len(except) == 0 || slices.Equal(c.except, except)
	})
	m.cuts = append(m.cuts, memoryCut{id, at, slices.Clone(except)})
	m.cuts = slices.Delete(m.cuts, 0, max(0, len(m.cuts)-memoryMaxCuts))
}

// lastCut is the newest that concerns id.
func (l *memoryList) lastCut(id uuid.UUID, now time.Duration) Cut {
	if l.many == nil {
		return Cut{}
	}
	for _, c := range slices.Backward(l.many.cuts) {
		if !slices.Contains(c.except, id) && now-c.at < cutMemory {
			return Cut{ID: c.id, Ago: now - c.at}
		}
	}
	return Cut{}
}

func (l *memoryList) forgetCuts(now time.Duration) {
	if l.many == nil || len(l.many.cuts) == 0 {
		return
	}
	l.many.cuts = slices.DeleteFunc(l.many.cuts, func(c memoryCut) bool { return now-c.at >= cutMemory })
	if len(l.many.cuts) == 0 {
		l.many.cuts = nil
	}
}

func (m *memoryManyList) find(id uuid.UUID) *memoryNode {
	if m.byID.len() > 0 {
		n, _ := m.byID.get(id)
		return n
	}
	n := m.first
	for n != nil && n.id != id {
		n = n.next
	}
	return n
}

func (m *memoryManyList) append(e memoryListed) {
	n := &memoryNode{memoryListed: e, prev: m.last}
	if m.last == nil {
		m.first = n
	} else {
		m.last.next = n
	}
	m.last = n
	m.n++
	switch {
	case m.byID.len() > 0:
		m.byID.put(n.id, n)
	case m.n > memoryFew:
		for n := m.first; n != nil; n = n.next {
			m.byID.put(n.id, n)
		}
	}
}

func (m *memoryManyList) remove(n *memoryNode) {
	if n.prev == nil {
		m.first = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		m.last = n.prev
	} else {
		n.next.prev = n.prev
	}
	m.n--
	m.byID.remove(n.id)
}

func (m *memoryManyList) giveBack(pause func()) {
	if m.n <= memoryFew/2 {
		m.byID = memoryMap[uuid.UUID, *memoryNode]{}
	}
	m.byID.giveBack(pause)
}

// A memoryMap is a map that gives back the room of a peak. Its zero value is an
// empty one. Where a map alone would do, Go's own only ever grows.
type memoryMap[K comparable, V any] struct {
	now    map[K]V
	former map[K]V // what now replaces, until all of it has moved
	peak   int     // of now
}

func (m *memoryMap[K, V]) len() int { return len(m.now) + len(m.former) }

func (m *memoryMap[K, V]) get(k K) (v V, found bool) {
	if v, found = m.now[k]; !found {
		v, found = m.former[k]
	}
	return v, found
}

func (m *memoryMap[K, V]) put(k K, v V) {
	if m.now == nil {
		m.now = make(map[K]V)
	}
	m.now[k] = v
	delete(m.former, k)
	m.peak = max(m.peak, len(m.now))
}

func (m *memoryMap[K, V]) remove(k K) {
	delete(m.now, k)
	delete(m.former, k)
}

// giveBack moves what is left of a peak to a map of its size. It pauses after
// every memorySweepStep moves: others may use the map meanwhile, and a range over
// one goes on where it was.
func (m *memoryMap[K, V]) giveBack(pause func()) {
	if m.len() == 0 {
		*m = memoryMap[K, V]{}
		return
	}
	if m.former == nil && m.peak > 64 && 8*len(m.now) < 5*m.peak {
		m.former, m.now = m.now, make(map[K]V, len(m.now))
		m.peak = len(m.former)
	}
	steps := 0
	for k, v := range m.former {
		m.put(k, v)
		if steps++; steps%memorySweepStep == 0 {
			pause()
		}
	}
	if len(m.former) == 0 {
		m.former = nil
	}
}
