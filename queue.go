package session

import (
	"sync"

	"github.com/google/uuid"
)

// A queue lets the commits of one session inside this process go one after the
// other, each beginning with the record that the last one left (C2). Without it
// a hundred parallel increments would be a hundred conflicts on the store.
// Waiters hang on channels, not on a mutex: a store may be slow, and a goroutine
// that waits for a channel is one that testing/synctest can see waiting.
type queue struct {
	shards [16]struct {
		mu sync.Mutex
		// lines holds an entry for each session that is being committed: who waits.
		lines map[uuid.UUID][]chan handoff
		_     [48]byte // apart from the next shard's cache line
	}
}

// A handoff is what one commit tells the next.
type handoff struct {
	known bool    // base is the record that is there now, none if it is gone
	base  content // shared and immutable
	err   error   // the store is away: whoever waited need not find that out in their turn
}

// enter waits for its turn with id. Unless the handoff holds an error, leave
// must follow.
func (q *queue) enter(id uuid.UUID) handoff {
	shard := &q.shards[id[0]%16]
	shard.mu.Lock()
	waiting, busy := shard.lines[id]
	if !busy {
		if shard.lines == nil {
			shard.lines = make(map[uuid.UUID][]chan handoff)
		}
		shard.lines[id] = nil
		shard.mu.Unlock()
		return handoff{}
	}
	turn := make(chan handoff, 1)
	shard.lines[id] = append(waiting, turn)
	shard.mu.Unlock()
	return <-turn
}

// leave gives the turn to the next in line, or an error to all of them.
func (q *queue) leave(id uuid.UUID, h handoff) {
	shard := &q.shards[id[0]%16]
	shard.mu.Lock()
	waiting := shard.lines[id]
	next := waiting
	if len(waiting) == 0 || h.err != nil {
		delete(shard.lines, id)
	} else {
		shard.lines[id], next = waiting[1:], waiting[:1]
	}
	shard.mu.Unlock()
	for _, turn := range next {
		turn <- h
	}
}
