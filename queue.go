package session

import (
	"slices"
	"sync"

	"github.com/google/uuid"
)

// A queue lets the commits of one session inside this process go one after the
// other, each beginning with the record that the last one left (C2). Without it
// a hundred parallel increments would be a hundred conflicts on the store.
// Waiters hang on channels, not on a mutex: a store may be slow, and a goroutine
// that waits for a channel is one that testing/synctest can see waiting.
type queue struct {
	shards [64]struct {
		mu sync.Mutex
		// lines are of those sessions that are being committed: few, so that looking at
		// them in turn is cheaper than a map.
		lines []line
		_     [32]byte // a cache line in all, so that two shards share no more than one
	}
}

// A line is who waits for one session.
type line struct {
	id      uuid.UUID
	waiting []waiter
}

// A handoff is what one commit tells the next.
type handoff struct {
	known bool    // base is the record that is there now, none if it is gone
	base  content // shared and immutable
	err   error   // the store is away: whoever waited need not find that out in their turn
}

// A waiter is a commit whose turn has not come.
type waiter struct {
	turn   chan handoff // has room for one
	logout bool         // is never sent away untried (C4)
}

// enter waits for its turn with id. Unless the handoff holds an error, leave
// must follow.
func (q *queue) enter(id uuid.UUID, logout bool) handoff {
	shard := &q.shards[id[0]%64]
	shard.mu.Lock()
	i := lineOf(shard.lines, id)
	if i < 0 {
		shard.lines = append(shard.lines, line{id: id})
		shard.mu.Unlock()
		return handoff{}
	}
	w := waiter{turn: make(chan handoff, 1), logout: logout}
	shard.lines[i].waiting = append(shard.lines[i].waiting, w)
	shard.mu.Unlock()
	return <-w.turn
}

// leave gives the turn to the next in line, or an error to all of them.
func (q *queue) leave(id uuid.UUID, from *committer) {
	shard := &q.shards[id[0]%64]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	i := lineOf(shard.lines, id)
	at := &shard.lines[i]
	if len(at.waiting) > 0 && at.pass(from.handoff(id)) {
		return
	}
	last := len(shard.lines) - 1
	*at, shard.lines[last] = shard.lines[last], line{}
	shard.lines = shard.lines[:last]
}

// pass gives what h holds to those in line, and reports whether one of them has
// the turn now.
func (at *line) pass(h handoff) bool {
	if h.err != nil {
		at.waiting = slices.DeleteFunc(at.waiting, func(w waiter) bool {
			if !w.logout {
				w.turn <- h
			}
			return !w.logout
		})
		h = handoff{}
	}
	if len(at.waiting) == 0 {
		return false
	}
	first := at.waiting[0]
	at.waiting = at.waiting[1:]
	first.turn <- h
	return true
}

func lineOf(lines []line, id uuid.UUID) int {
	for i := range lines {
		if lines[i].id == id {
			return i
		}
	}
	return -1
}
