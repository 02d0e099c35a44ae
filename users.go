package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Sessions returns the live sessions of user, the one that was seen last first:
// what a page of "your devices" shows. They are read-only, as they were when the
// store was asked; values are read through their keys.
//
// It costs one round trip for the list, one for each 500 sessions on it, and two
// more when some of them have ended, which takes those off the list. The error is an [*Error],
// or wraps [errors.ErrUnsupported] if the store is no [UserStore].
func (m *Manager) Sessions(ctx context.Context, user string) ([]*Session, error) {
	if err := m.canList(user); err != nil {
		return nil, err
	}
	ids, err := m.listed(ctx, user)
	if err != nil {
		return nil, err
	}
	sessions := make([]*Session, 0, min(len(ids), listedAtOnce))
	for some := range slices.Chunk(ids, listedAtOnce) {
		found, err := m.lookUp(ctx, user, some)
		if err != nil {
			return nil, err
		}
		if len(found.gone) > 0 && m.writes.enter() {
			_ = m.end(ctx, user, found.gone) // or the next who looks does it
			m.writes.leave()
		}
		for _, stored := range found.live {
			if s := m.listedSession(ctx, stored); s != nil {
				sessions = append(sessions, s)
			}
		}
	}
	slices.SortStableFunc(sessions, func(a, b *Session) int { return b.LastSeen().Compare(a.LastSeen()) })
	return sessions, nil
}

// listedSession is a session without a request: nil if its record is not to be
// read (R15, T4), or past a lifetime that was lowered (E5).
func (m *Manager) listedSession(ctx context.Context, stored userRecord) *Session {
	base, err := parseRecord(stored.Record, stored.id)
	now := time.Now()
	if err != nil || now.UnixMilli() >= m.endOf(&base) {
		return nil
	}
	s := newExchange(m, noResponse{}, new(http.Request).WithContext(ctx)).use()
	s.present(base, live, stored.TTL, now.UnixNano())
	s.closed, s.listed = true, true
	return s
}

// RevokeUser ends every session of user but those in except: their tokens open
// nothing once it returned. A login whose request began before it did is void
// too, however far it has come: it is answered with [ErrEnded] and sends no
// cookie, or one that opens nothing, unless its session is in except. A login that begins later is none of
// its business; change the password first. Nor is one of the request that calls
// this, if ctx is the request's: a page that sets a new password may revoke
// everything and log in. (Its login counts as begun then, also for a revocation
// that somebody else had asked for shortly before.)
//
// It is not begun when ctx is done, and goes on when ctx ends later (R11). Call it
// again after an error: what it ended stays ended.
func (m *Manager) RevokeUser(ctx context.Context, user string, except ...uuid.UUID) error {
	return m.revokeUser(ctx, nil, user, except)
}

// revokeUser may be asked for by s, whatever the context is, or by nobody.
func (m *Manager) revokeUser(ctx context.Context, s *Session, user string, except []uuid.UUID) error {
	if err := m.canList(user); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("session: nothing was sent: %w", context.Cause(ctx))
	}
	ctx = context.WithoutCancel(ctx)
	if !m.writes.enter() {
		return &Error{Op: "save", Err: errManagerClosed}
	}
	defer m.writes.leave()
	call, cancel := context.WithTimeout(ctx, m.timeout)
	ids, cut, err := m.users.CutOff(call, m.list(user), except...)
	cancel()
	if err != nil {
		return &Error{Op: "save", Err: err}
	}
	m.cuts.note(m.list(user), cut.ID)
	for _, asks := range []*Session{s, m.sessionIn(ctx)} {
		if asks != nil {
			asks.beganAgain(user)
		}
	}
	ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return slices.Contains(except, id) })
	for some := range slices.Chunk(ids, listedAtOnce) {
		found, err := m.lookUp(ctx, user, some)
		if err != nil {
			return err
		}
		if err := m.end(ctx, user, slices.Concat(idsOf(found.live), found.over, found.gone)); err != nil {
			return err
		}
		m.tellEnded(ctx, EventRevoked, user, found.live)
	}
	return nil
}

// listedAtOnce is how many sessions of a list are looked up and ended, or looked
// after for their streams, under one StoreTimeout each, so that the longest list
// comes to its end.
const listedAtOnce = 1000

// RevokeOthers ends every other session of this session's user: "sign out
// everywhere else". See [Manager.RevokeUser]. It needs a user. A Login of this
// request may still be unsaved.
func (s *Session) RevokeOthers(ctx context.Context) error {
	s.look()
	now := s.identity()
	s.mu.Unlock()
	return s.x.m.revokeUser(ctx, s, now.user, []uuid.UUID{now.id})
}

// list names the list of a user's sessions. A name holds no NUL, so no two
// applications share one (T3).
func (m *Manager) list(user string) string { return m.name + "\x00" + user }

func (m *Manager) canList(user string) error {
	switch {
	case m.users == nil:
		return fmt.Errorf("session: a %T keeps no lists of a user's sessions; use a store that implements session.UserStore: %w", m.configured(), errors.ErrUnsupported)
	case user == "":
		return errors.New("session: the user is missing; anonymous sessions are on no list, RevokeAny ends one by its ID")
	}
	return nil
}

func (m *Manager) listed(ctx context.Context, user string) ([]uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	ids, err := m.users.List(ctx, m.list(user))
	if err != nil {
		return nil, &Error{Op: "load", Err: err}
	}
	return ids, nil
}

// A userRecord is a live record with the ID that it was asked for by.
type userRecord struct {
	Record
	id uuid.UUID
}

// lookedUp is what became of the sessions on a user's list. What is on the list
// and somebody else's is not in here: no list can make it the user's.
type lookedUp struct {
	live []userRecord // in the list's order
	gone []uuid.UUID  // there is no record any more, and never will be
	// Past their lifetime here, though the store holds them (E3, E5). A server with
	// another clock, or with the longer lifetime of before, may let them log in again.
	over []uuid.UUID
}

func (m *Manager) lookUp(ctx context.Context, user string, ids []uuid.UUID) (lookedUp, error) {
	if len(ids) == 0 {
		return lookedUp{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	records, err := m.users.LoadAll(ctx, ids)
	if err == nil && len(records) != len(ids) {
		err = fmt.Errorf("session: LoadAll of %d sessions gave %d records", len(ids), len(records))
	}
	if err != nil {
		return lookedUp{}, &Error{Op: "load", Err: err}
	}
	var found lookedUp
	now := time.Now().UnixMilli()
	for i, rec := range records {
		switch {
		case rec.Version == 0:
			found.gone = append(found.gone, ids[i])
		case rec.Owner != user:
		case m.isOver(rec, ids[i], now):
			found.over = append(found.over, ids[i])
		default:
			found.live = append(found.live, userRecord{rec, ids[i]})
		}
	}
	return found, nil
}

func (m *Manager) isOver(rec Record, id uuid.UUID, now int64) bool {
	base, err := parseRecord(rec, id)
	return err == nil && now >= m.endOf(&base)
}

func (m *Manager) end(ctx context.Context, user string, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if err := m.users.End(ctx, m.list(user), ids...); err != nil {
		return &Error{Op: "delete", Err: err}
	}
	return nil
}

// tellEnded tells the hook, and the streams of this process, what was ended.
func (m *Manager) tellEnded(ctx context.Context, kind EventKind, user string, ended []userRecord) {
	for _, stored := range ended {
		m.watch.gone(stored.id)
		m.event(ctx, Event{Kind: kind, ID: stored.id, User: user})
	}
}

func idsOf(records []userRecord) []uuid.UUID {
	ids := make([]uuid.UUID, len(records))
	for i, rec := range records {
		ids[i] = rec.id
	}
	return ids
}

// What a login owes to the list of its user. The record is saved before it is
// enlisted, and the cookie is sent after that (but see moveUp). So RevokeUser either finds it on
// the list, or comes before it and is found by it; and a crash in between leaves
// a record whose secret nobody has.

const (
	// cutMemory is how long a store remembers a CutOff at least.
	cutMemory = time.Hour
	// clockSkew is how far clocks may be apart: a session lives on for so long, and
	// stays on its list, on a server whose clock is behind the one that made it.
	clockSkew = time.Minute
)

// enlist puts the session that a Login just saved on its user's list, refuses it
// if it was revoked meanwhile, and makes it fit Config.MaxPerUser.
func (c *committer) enlist() error {
	if c.m.users == nil {
		return nil
	}
	id, user := c.base.id(), c.base.user
	if !c.early {
		if err := c.takePlace(id, user, time.Until(timeOf(c.base.end))); err != nil {
			return err
		}
	}
	if c.m.maxPerUser == 0 || len(c.listed) <= c.m.maxPerUser {
		return nil
	}
	return c.trim(id, user)
}

// hasPlace reports whether a login is of a session that is on the user's list.
func (c *committer) hasPlace(o *outcome) bool {
	return o.login && !o.fresh && c.base.user == o.user
}

// moveUp puts a session that logs in again at the end of its user's list before it
// is saved, if Config.MaxPerUser makes places matter: other logins must not take it
// for as old as its place. RevokeUser finds it there anyway, before the save, which
// then finds no record, or after it.
func (c *committer) moveUp(o *outcome) error {
	if c.early || c.m.maxPerUser == 0 || !c.hasPlace(o) {
		return nil
	}
	// The lifetime begins with the save, which may take what is left of StoreTimeout.
	if err := c.takePlace(c.base.id(), o.user, c.m.lifetime+c.m.timeout); err != nil {
		return err
	}
	c.early = true
	return nil
}

// takePlace enlists, and undoes the login if a CutOff came after this request began.
func (c *committer) takePlace(id uuid.UUID, user string, lives time.Duration) error {
	began, ttl, list := c.s.beganAt(user), lives+clockSkew, c.m.list(user)
	for asked := 1; ; asked++ {
		var last Cut
		sent := sinceStart()
		err := c.sendLogin(func(ctx context.Context) (err error) {
			sent = sinceStart()
			c.listed, last, err = c.m.users.Enlist(ctx, list, id, ttl, c.m.maxPerUser)
			return err
		})
		if err != nil {
			return err
		}
		switch was := c.m.order(list, last, began, sent); {
		case sinceStart()-began >= cutMemory-clockSkew: // the store may have forgotten
			return c.undo(id, user, ErrEnded)
		case was == cutBefore:
			return nil
		case was == cutAfter || asked == 3: // a visitor can log in again
			return c.undo(id, user, ErrEnded)
		}
	}
}

// What a cut-off was to the beginning of a request.
type order uint8

const (
	cutUnclear order = iota
	cutBefore
	cutAfter
)

// order tells whether a cut-off came before or after a request began, without
// comparing two clocks: the store says how long ago it was at some instant
// between sent and now. If that leaves it open, it may be one of this process's
// own, of which the end is known.
func (m *Manager) order(list string, cut Cut, began, sent time.Duration) order {
	switch {
	case cut.ID == 0 || began >= sinceStart()-cut.Ago:
		return cutBefore
	case began < sent-cut.Ago-time.Microsecond: // Ago is rounded down
		return cutAfter
	case m.cuts.doneBy(list, cut.ID, began):
		return cutBefore
	}
	return cutUnclear
}

// cuts are the last cut-offs of this process. The zero value has none.
type cuts struct {
	mu   sync.Mutex
	last [64]struct {
		list string
		id   uint64
		done time.Duration // since started
	}
	next int
}

func (c *cuts) note(list string, id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	noted := &c.last[c.next%len(c.last)]
	noted.list, noted.id, noted.done = list, id, sinceStart()
	c.next++
}

// doneBy reports whether a cut-off is known to have been made by then.
func (c *cuts) doneBy(list string, id uint64, then time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.last {
		if noted := &c.last[i]; noted.id == id && noted.list == list {
			return noted.done <= then
		}
	}
	return false
}

// started is what requests count their beginnings from, on the monotonic clock.
var started = time.Now()

func sinceStart() time.Duration { return time.Since(started) }

// beganAt is when the request began, or had called RevokeUser for this user.
func (s *Session) beganAt(user string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revoked, did := s.seldom().revoked[user]; did {
		return revoked
	}
	return s.x.began
}

// beganAgain lets a login of this request count as after the revocation that the
// request itself asked for. What it knows of other users it has known for longer.
func (s *Session) beganAgain(user string) {
	s.lock()
	defer s.mu.Unlock()
	r := s.rarely()
	if r.revoked == nil {
		r.revoked = make(map[string]time.Duration, 1)
	}
	r.revoked[user] = sinceStart()
}

// sendLogin sends one of the calls to lists that belong to a login, again if need
// be: all of them may be repeated.
func (c *committer) sendLogin(call func(context.Context) error) error {
	for failures := 0; ; {
		ctx, release := c.sendContext(failures)
		err := call(ctx)
		release()
		if err == nil {
			return nil
		}
		failures++
		id := c.before.id
		if c.base.exists() { // fits comes before anything is saved
			id = c.base.id()
		}
		c.m.event(c.request, Event{Kind: EventStoreFailed, ID: id, User: c.base.user, Err: err})
		if !c.again(failures) {
			return c.failed("save", err)
		}
	}
}

// undo takes back a login that nobody was told of. What the visitor had before is
// gone with it: its secret died when the login was saved, or the cut-off that the
// login came too late for concerns it as well.
func (c *committer) undo(id uuid.UUID, user string, why error) error {
	err := c.sendLogin(func(ctx context.Context) error {
		return c.m.users.End(ctx, c.m.list(user), id)
	})
	if err != nil {
		return err
	}
	c.m.watch.gone(id)
	c.m.event(c.request, Event{Kind: EventLoginRefused, ID: id, User: user, Err: why})
	c.wrote, c.undone, c.known = false, true, true
	c.base, c.standing = content{}, ended
	return why
}

// RequireRecentLogin wraps what asks for more than a session (ASVS 5.0, 7.5.1
// and 7.5.3: changing the password, or paying): handlers run only while the
// visitor's last Login is less than d ago. Others get otherwise, which
// typically shows the login form; nil: a 403 that says so. It panics if d is not
// positive, or, with the sentence of [FromContext], where no manager wraps it.
func RequireRecentLogin(d time.Duration, otherwise http.Handler) func(http.Handler) http.Handler {
	if d <= 0 {
		panic(fmt.Sprintf("session: RequireRecentLogin(%v): no login is that recent; give a positive duration", d))
	}
	if otherwise == nil {
		otherwise = http.HandlerFunc(askForLogin)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := FromContext(r.Context())
			if s.User() != "" && time.Since(s.AuthenticatedAt()) < d {
				next.ServeHTTP(w, r)
				return
			}
			otherwise.ServeHTTP(w, r)
		})
	}
}

func askForLogin(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "Please log in again to do this.", http.StatusForbidden)
}
