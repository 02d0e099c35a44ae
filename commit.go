package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// commitMode says on whose behalf a commit runs.
type commitMode uint8

const (
	commitResponse  commitMode = iota // the response header is about to leave (R5)
	commitNow                         // Save
	commitConfirmed                   // UpdateNow: what it saw must have been the newest
	commitNoCookie                    // Hijack: no cookie can leave (R5)
	commitLate                        // after the response began, or instead of it (R7, R10)
)

// An attempt is one write, which may be sent several times and takes effect
// once: its version is what it is recognised by (C5).
type attempt struct {
	n       int // of the session's steps
	version uint64
	id      uuid.UUID // of the record that it creates, if it does
	hash    [hashSize]byte
	line    *string // the Set-Cookie line of the secret that it mints, if it does

	sent    bool      // under this version
	earlier []attempt // sends of the record that it creates, each with a secret of its own
}

// commit saves what this request did so far. One runs at a time.
func (s *Session) commit(ctx context.Context, mode commitMode) error {
	s.mu.Lock()
	unchanged, refusals := s.unchanged(), s.seldom().refusals
	s.mu.Unlock()
	if unchanged {
		return nil
	}
	return s.commitSteps(ctx, mode, refusals)
}

// unchanged reports whether there is nothing to commit.
func (s *Session) unchanged() bool {
	return len(s.steps()) == 0 && (s.rare == nil || s.rare.inDoubt == nil)
}

// commitSteps is commit for a session that had refusals commits refused when it
// was looked at, which only Save asks about.
func (s *Session) commitSteps(ctx context.Context, mode commitMode, refusals int) error {
	r := s.ownRoom()
	r.committing.Lock()
	defer r.committing.Unlock()
	if err := s.clearDoubt(ctx, mode); err != nil {
		return err
	}
	s.mu.Lock()
	n := len(s.steps())
	if n > 0 {
		s.room.frozen = n
	}
	// From here on another goroutine's Login is too late, and must be told so: the
	// header takes the cookie of this commit, and there is no further one (R7).
	s.begun = s.begun || mode == commitResponse
	var err error
	if is := s.seldom(); is.refusals != refusals && mode == commitNow {
		err = is.refusal // another goroutine's commit took our changes, and lost them
	}
	s.mu.Unlock()
	if n == 0 {
		return err
	}
	return errors.Join(s.try(ctx, mode, attempt{n: n}), err)
}

// updateNow adds an update and commits it, with no other commit in between that
// could take it away.
func (s *Session) updateNow(ctx context.Context, name string, survives bool, f update) error {
	if err := s.canSave(ctx); err != nil {
		return err
	}
	r := s.ownRoom()
	r.committing.Lock()
	defer r.committing.Unlock()
	if err := s.clearDoubt(ctx, commitNow); err != nil {
		return err
	}
	n, err := s.update(name, survives, f, true)
	if err != nil {
		return err
	}
	return s.try(ctx, commitConfirmed, attempt{n: n})
}

// clearDoubt finds out what became of a commit whose outcome the store did not
// tell, by sending it again (C5). If the session was destroyed since, that does
// not matter any more.
func (s *Session) clearDoubt(ctx context.Context, mode commitMode) error {
	s.mu.Lock()
	doubt := s.seldom().inDoubt
	moot := doubt != nil && slices.ContainsFunc(s.steps()[doubt.n:], func(st step) bool { return st.op == opDestroy })
	if moot {
		s.room.steps, s.room.frozen = s.room.steps[doubt.n:], 0
		s.rare.inDoubt, s.rare.moot = nil, doubt
	}
	s.mu.Unlock()
	if doubt == nil || moot {
		return nil
	}
	return s.try(ctx, mode, *doubt)
}

// commitHijack saves before a connection is handed over, which is the end of
// the header without its being sent.
func (s *Session) commitHijack(ctx context.Context) error {
	s.mu.Lock()
	unsent := s.room != nil && s.room.cookie != nil
	s.mu.Unlock()
	if unsent { // Save made it before
		return ErrCommitted
	}
	return s.commit(ctx, commitNoCookie)
}

func (s *Session) try(ctx context.Context, mode commitMode, a attempt) error {
	var c committer // not a literal: those 600 bytes would be made and then copied
	c.s, c.m, c.request, c.mode, c.attempt = s, s.x.m, ctx, mode, a
	s.mu.Lock()
	c.plan, c.base, c.standing, c.before = s.room.steps[:a.n], s.base, s.standing, s.identity()
	c.cookie = (!s.begun || mode == commitResponse) && mode != commitNoCookie
	c.freshID, c.freshAt = s.room.freshID, s.room.freshAt
	s.mu.Unlock()
	if c.base.exists() {
		copy(c.presented[:], c.base.hash())
	}
	err := c.inTurn()
	c.settle(err)
	c.report(err)
	return err
}

// A committer carries one attempt to the store.
type committer struct {
	s        *Session
	m        *Manager
	request  context.Context
	began    time.Time // its turn in the queue
	deadline time.Time // StoreTimeout from then
	mode     commitMode
	plan     []step
	cookie   bool // one can still leave
	freshID  uuid.UUID
	freshAt  int64

	attempt
	base      content
	standing  standing
	presented [hashSize]byte
	newest    bool // base came from the store during this commit
	handed    bool // base came from the commit before this one
	before    identity

	known   bool // base is what the store holds now, none if the record is gone
	deleted uuid.UUID
	owner   string // of the record that was deleted
	clear   bool   // the cookie that the request presented
	wrote   bool
	outcome outcome // of what was written
	left    time.Duration
	at      time.Time
	merged  bool
	moved   bool  // to a new record, with the old one untouched (L4)
	undone  bool  // the login was taken back, or not begun, for its user's sake
	asked   bool  // whether the login is one too many (Config.RefuseLogins)
	gaveUp  error // on the store, which spares those in the queue the same

	early  bool        // the session that logs in again was moved up before its save
	listed []uuid.UUID // its user's list when it got its place there, if that is too long
}

// inTurn runs the commit when those of the same session before it have ended.
func (c *committer) inTurn() error {
	if !c.m.writes.enter() {
		return &Error{Op: "save", Err: errManagerClosed}
	}
	defer c.m.writes.leave()
	if c.base.exists() {
		id := c.base.id()
		h := c.m.queue.enter(id, drops(c.plan))
		if h.err != nil {
			return h.err
		}
		defer c.m.queue.leave(id, c)
		// A write that is sent again must go to the record that it was made for, and a
		// logout does not care for newer values. What is handed over may be older than
		// what this request loaded, if the answer to its save was late: so it refuses
		// nothing (C3), and write asks the store before it finds nothing to do.
		if h.known && c.version == 0 && h.base.version != c.base.version && !drops(c.plan) &&
			(!h.base.exists() || equalHash(h.base.hash(), &c.presented)) {
			c.rebase(h.base)
			c.newest, c.handed = false, h.base.exists()
		}
	}
	c.began = time.Now()
	c.deadline = c.began.Add(c.m.timeout)
	return c.run()
}

// now is when the commit began, if its store answers at once: reading the clock at
// each step was a twentieth of a write in memory.
func (c *committer) now() time.Time {
	if c.m.memory != nil {
		return c.began
	}
	return time.Now()
}

// handoff is what the next commit of id may take for granted.
func (c *committer) handoff(id uuid.UUID) handoff {
	switch {
	case c.gaveUp != nil:
		return handoff{err: c.gaveUp}
	case c.moved:
		return handoff{}
	case c.known && c.base.exists() && c.base.id() == id:
		return handoff{known: true, base: c.base}
	case c.known:
		return handoff{known: true} // gone
	}
	return handoff{}
}

func drops(plan []step) bool {
	for i := range plan {
		if plan[i].op == opDestroy || plan[i].op == opReplace {
			return true
		}
	}
	return false
}

// run folds the plan over the record that is there and writes what comes of it,
// until the store agrees.
func (c *committer) run() error {
	for round := 0; ; {
		if done, err := c.stand(); done || err != nil {
			return err
		}
		o := fold(&c.base, c.plan, c.s.runUpdate)
		if o.drops {
			// A logout happens even if what comes after it cannot (R7, R10); leaving a
			// session for another user's (L3) does not.
			if err := c.possible(&o); err != nil && !o.destroyed {
				return err
			}
			if !o.destroyed {
				if err := c.fits(&o); err != nil {
					return err
				}
			}
			if err := c.drop(); err != nil {
				return err
			}
			continue
		}
		if done, err := c.write(&o); done || err != nil {
			if err == nil && c.wrote && c.outcome.login {
				return c.enlist()
			}
			return err
		}
		if round++; !c.breathe(round) {
			return c.failed("save", ErrConflict)
		}
	}
}

// write does what the outcome asks for. It is done when nothing is left to do;
// otherwise the plan is to be folded again over what the store holds.
func (c *committer) write(o *outcome) (done bool, err error) {
	if err := c.possible(o); err != nil {
		return false, err
	}
	switch {
	case o.alters(&c.base):
		if err := c.fits(o); err != nil {
			return false, err
		}
		if err := c.moveUp(o); err != nil {
			return false, err
		}
		return c.save(o)
	case (c.handed || c.mode == commitConfirmed && !c.newest) && c.base.exists():
		return c.reload()
	}
	return true, nil
}

// possible names what keeps the outcome from being stored, if something does.
func (c *committer) possible(o *outcome) error {
	if err := o.err(); err != nil {
		return &Error{Op: "encode", Err: err}
	}
	return c.mayMint(o)
}

// stand judges what the session's standing allows: nothing (R15), only a Login
// (C3, L4), or all. A logout comes before all that (C4). It is done when the
// plan was to end what has ended.
func (c *committer) stand() (done bool, err error) {
	if c.standing == unreadable {
		return false, &Error{Op: "load", Err: errUnreadable}
	}
	if c.base.exists() {
		if drops(c.plan) {
			return false, nil
		}
		if c.now().UnixMilli() >= c.m.endOf(&c.base) {
			c.standing = ended // the lifetime is over (E3)
		}
	}
	switch c.standing {
	case ended:
		last := c.plan[len(c.plan)-1]
		if last.op == opDestroy && len(last.changes) == 0 {
			return true, nil
		}
		return false, c.relogin()
	case superseded:
		return false, c.relogin()
	}
	return false, nil
}

// relogin begins anew with the last Login and what came after it, because a
// login does not depend on the secret that was presented (L4). Everything else
// is refused (C3).
func (c *committer) relogin() error {
	for i := len(c.plan) - 1; i >= 0; i-- {
		if c.plan[i].op != opLogin {
			continue
		}
		if c.before.id != c.freshID { // the ID that the handler saw was the old session's
			c.freshID, c.freshAt = uuid.Nil, 0
		}
		c.plan, c.base, c.standing = c.plan[i:], content{}, anonymous
		c.attempt = attempt{n: c.n}
		c.moved, c.merged, c.early = true, false, false
		return nil
	}
	return ErrEnded
}

// mayMint refuses a new secret that could not reach the visitor (R7, R11).
func (c *committer) mayMint(o *outcome) error {
	switch {
	case !o.mints():
		return nil
	case !c.cookie:
		return ErrCommitted
	case c.line != nil:
		return nil // sent before, with an outcome that we are about to learn
	case c.s.x.parent().Err() != nil:
		return &Error{Op: "save", Err: fmt.Errorf("nobody is there to receive the cookie: %w", context.Cause(c.s.x.parent()))}
	}
	return nil
}

// settle tells the session what became of the attempt.
func (c *committer) settle(err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !refused(err) {
		c.leaveInDoubt()
		return
	}
	if err != nil {
		r := s.rarely()
		r.refusals, r.refusal = r.refusals+1, err
		if c.moved && !c.wrote {
			c.standing = ended // as before, for relogin
		}
	}
	r := s.room
	r.frozen = 0
	s.cleared()
	if r.steps = r.steps[c.n:]; len(r.steps) == 0 {
		r.steps = nil
	}
	if c.deleted != uuid.Nil || c.standing != ended { // else base stays, for reads
		s.base = c.base
	}
	s.standing = c.standing
	s.setCookie(c)
	c.tellStreams()
	if !c.wrote {
		s.forgetFresh()
		return
	}
	s.standing, s.saved = live, true
	s.loaded, s.left = c.at.UnixNano(), c.left
	if c.outcome.fresh {
		r.freshID, r.freshAt, s.returning = uuid.Nil, 0, false
	}
}

// tellStreams closes what hangs on a secret that this commit ended.
func (c *committer) tellStreams() {
	if c.deleted != uuid.Nil {
		c.m.watch.gone(c.deleted)
	}
	if c.wrote && !c.outcome.fresh && c.outcome.mints() {
		c.m.watch.replaced(c.base.id(), &c.presented)
	}
}

// leaveInDoubt keeps the attempt, and what it was made from, to be sent again. A
// login whose record is stored, and whose place on its user's list is not, is in
// doubt too: no RevokeUser would find what its cookie opens.
func (c *committer) leaveInDoubt() {
	s := c.s
	if c.wrote {
		c.wrote, c.base = false, content{} // kept below only if it made a new record
	}
	inDoubt := c.attempt // a copy, so that c itself need not be on the heap
	inDoubt.n = len(c.plan)
	s.room.steps = s.room.steps[c.n-inDoubt.n:]
	s.rarely().inDoubt, s.room.frozen = &inDoubt, inDoubt.n
	if c.deleted != uuid.Nil || c.moved {
		s.base, s.standing = c.base, c.standing
		s.room.freshID, s.room.freshAt = c.freshID, c.freshAt
		s.setCookie(c)
	}
}

// forgetFresh takes the ID back that a session was to get which did not come to be.
func (s *Session) forgetFresh() {
	if len(s.room.steps) == 0 {
		s.room.freshID, s.room.freshAt = uuid.Nil, 0
	}
}

// setCookie leaves one line for the header: that of the newest secret, or the
// one that clears the cookie which the request presented.
func (s *Session) setCookie(c *committer) {
	switch {
	case c.wrote && c.line != nil:
		s.room.cookie = c.line
	case c.deleted != uuid.Nil && c.clear:
		line := c.m.cookie.clear()
		s.room.cookie = &line
	case c.deleted != uuid.Nil, c.standing == ended && s.base.exists():
		s.room.cookie = nil // what it opened is gone
	}
}

// report tells the event hook.
func (c *committer) report(err error) {
	m := c.m
	if c.deleted != uuid.Nil {
		m.event(c.request, Event{Kind: EventDestroyed, ID: c.deleted, User: c.owner})
	}
	if err != nil && !c.undone && (errors.Is(err, ErrEnded) || errors.Is(err, ErrCommitted)) {
		m.event(c.request, Event{Kind: EventWriteRefused, ID: c.before.id, User: c.before.user, Err: err})
	}
	if !c.wrote || m.onEvent == nil {
		return
	}
	e := Event{ID: c.base.id(), User: c.base.user}
	kinds := [...]struct {
		kind     EventKind
		happened bool
	}{
		{EventConflictMerged, c.merged},
		{EventCreated, c.outcome.fresh},
		{EventLogin, c.outcome.login},
		{EventRenewed, c.outcome.renewed && !c.outcome.login && !c.outcome.fresh},
	}
	for _, k := range kinds {
		if k.happened {
			e.Kind = k.kind
			m.event(c.request, e)
		}
	}
}
