package session

import (
	"slices"
	"sync"
	"time"

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
		lines map[uuid.UUID][]waiter
		_     [48]byte // apart from the next shard's cache line
	}
}

// A handoff is what one commit tells the next.
type handoff struct {
	known bool    // base is the record that is there now, none if it is gone
	base  content // shared and immutable
	err   error   // the store is away: whoever waited as long as a commit may take need not try
}

// A waiter is a commit whose turn has not come.
type waiter struct {
	turn   chan handoff // has room for one
	since  time.Time
	logout bool // is never sent away untried (C4)
}

// enter waits for its turn with id. Unless the handoff holds an error, leave
// must follow.
func (q *queue) enter(id uuid.UUID, logout bool) handoff {
	shard := &q.shards[id[0]%16]
	shard.mu.Lock()
	waiting, busy := shard.lines[id]
	if !busy {
		if shard.lines == nil {
			shard.lines = make(map[uuid.UUID][]waiter)
		}
		shard.lines[id] = nil
		shard.mu.Unlock()
		return handoff{}
	}
	w := waiter{turn: make(chan handoff, 1), since: time.Now(), logout: logout}
	shard.lines[id] = append(waiting, w)
	shard.mu.Unlock()
	return <-w.turn
}

// leave gives the turn to the next in line. An error goes to those who waited
// for patience or longer, and ends their wait.
func (q *queue) leave(id uuid.UUID, h handoff, patience time.Duration) {
	shard := &q.shards[id[0]%16]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	waiting := shard.lines[id]
	if h.err != nil {
		waiting = slices.DeleteFunc(waiting, func(w waiter) bool {
			sent := !w.logout && time.Since(w.since) >= patience
			if sent {
				w.turn <- h
			}
			return sent
		})
		h = handoff{}
	}
	if len(waiting) == 0 {
		delete(shard.lines, id)
		return
	}
	shard.lines[id] = waiting[1:]
	waiting[0].turn <- h
}
