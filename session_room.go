package session

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// What a Session has only when it needs it: room for changes, and for what is rare.

// A room is what a request needs that changes something: apart, because every
// request carries what is in a Session.
type room struct {
	// committing is held by the one commit of this session that runs.
	committing sync.Mutex

	steps  []step
	frozen int // so many steps are part of a commit and no longer change

	freshID uuid.UUID // of the session that steps begin
	freshAt int64

	cookie *string // the Set-Cookie line that waits for the header; the token is nowhere else (T2)

	step   [1]step // room for what most requests need
	change [1]change
}

// making is for changing it.
func (s *Session) making() *room {
	if s.room == nil {
		s.room = new(room)
	}
	return s.room
}

// ownRoom is making for who does not hold s.mu.
func (s *Session) ownRoom() *room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.making()
}

// steps are what the request did and did not save yet.
func (s *Session) steps() []step {
	if s.room == nil {
		return nil
	}
	return s.room.steps
}

func (s *Session) frozen() int {
	if s.room == nil {
		return 0
	}
	return s.room.frozen
}

// freshID is that of the session that steps begin, uuid.Nil if they begin none.
func (s *Session) freshID() uuid.UUID {
	if s.room == nil {
		return uuid.Nil
	}
	return s.room.freshID
}

// A rare is what few requests come to need: apart, because every request carries
// what is in a Session.
type rare struct {
	inDoubt  *attempt                 // a commit whose outcome the store did not tell
	moot     *attempt                 // one that a Destroy made unimportant
	refusals int                      // commits that were refused
	refusal  error                    // the last one's
	revoked  map[string]time.Duration // users that the request revoked, and when
	watcher  *watcher                 // what Done returned last
}

// rarely is for changing it; s.rare is nil as long as nobody did.
func (s *Session) rarely() *rare {
	if s.rare == nil {
		s.rare = new(rare)
	}
	return s.rare
}

// seldom is a copy, for looking at it.
func (s *Session) seldom() (r rare) {
	if s.rare != nil {
		r = *s.rare
	}
	return r
}

// cleared forgets a commit that was in doubt.
func (s *Session) cleared() {
	if s.rare != nil {
		s.rare.inDoubt = nil
	}
}
