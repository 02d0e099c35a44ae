package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// An exchange is one request on its way through a manager: its response, its
// context, the handler's copy of it, and its session if it brought a token, in one
// allocation. It is never reused, so whoever keeps a part of it for too long reaches
// nobody else's (R14).
type exchange struct {
	m        *Manager
	request  *http.Request           // as the manager got it
	inner    http.Request            // as the handler gets it
	session  atomic.Pointer[Session] // see use
	canceler atomic.Pointer[canceler]
	began    time.Duration // when the request did, since started; set before the handler runs
	writer   response
}

type exchangeKey struct{}

// newExchange makes one for a visitor who is not known. The session is made when
// somebody asks for it: most pages for strangers never do.
func newExchange(m *Manager, w http.ResponseWriter, r *http.Request) *exchange {
	x := new(exchange)
	x.enter(m, w, r, sinceStart())
	return x
}

func (x *exchange) enter(m *Manager, w http.ResponseWriter, r *http.Request, began time.Duration) {
	x.m, x.request, x.began = m, r, began
	x.writer.x, x.writer.rw = x, w
}

// A visit is an exchange with its session.
type visit struct {
	exchange
	own Session
}

func newVisit(m *Manager, w http.ResponseWriter, r *http.Request, began time.Duration) *exchange {
	v := new(visit)
	v.enter(m, w, r, began)
	v.own.x = &v.exchange
	v.session.Store(&v.own)
	return &v.exchange
}

// What stands in the place of a session that nobody asked for, nil at first: so
// that whoever asks later gets one that takes no cookie any more (R7), or no change
// (R14). They belong to no exchange.
var headerGone, requestOver = new(Session), new(Session)

// asked is the session, or nil if nobody asked for it.
func (x *exchange) asked() *Session {
	if s := x.session.Load(); s != nil && s.x != nil {
		return s
	}
	return nil
}

// use is the session, made if need be. Several goroutines of the request may ask at
// once (R14).
func (x *exchange) use() *Session {
	for {
		was := x.session.Load()
		if was != nil && was.x != nil {
			return was
		}
		s := &Session{x: x, begun: was != nil, closed: was == requestOver}
		if x.session.CompareAndSwap(was, s) {
			return s
		}
	}
}

// passBy notes that the header is gone, or the request over, for a session that
// nobody asked for. It reports whether nobody has. A request that is over stays so.
func (x *exchange) passBy(is *Session) bool {
	was := x.session.Load()
	return was == requestOver || (was == nil || was.x == nil) && x.session.CompareAndSwap(was, is)
}

// parent is the request's context as the manager got it.
func (x *exchange) parent() context.Context { return x.request.Context() }

// A canceler is what it takes to cancel the request's context with a cause (R6).
// It is made when somebody asks for Done, because most handlers never do.
type canceler struct {
	context.Context
	cancel context.CancelCauseFunc
}

func (x *exchange) cancelable() *canceler {
	if c := x.canceler.Load(); c != nil {
		return c
	}
	c := new(canceler)
	c.Context, c.cancel = context.WithCancelCause(x.parent())
	if !x.canceler.CompareAndSwap(nil, c) {
		c.cancel(context.Canceled)
		c = x.canceler.Load()
	}
	return c
}

// The exchange is the request's context. Once there is a canceler it answers,
// because context.Cause and derived contexts find theirs by a key.

func (x *exchange) current() context.Context {
	if c := x.canceler.Load(); c != nil {
		return c.Context
	}
	return x.parent()
}

func (x *exchange) Deadline() (time.Time, bool) { return x.parent().Deadline() }
func (x *exchange) Done() <-chan struct{}       { return x.cancelable().Done() }
func (x *exchange) Err() error                  { return x.current().Err() }
func (x *exchange) String() string              { return "session.Context" }

// Format keeps %#v from printing what is inside (T2).
func (x *exchange) Format(f fmt.State, _ rune) { fmt.Fprint(f, x.String()) }

func (x *exchange) Value(key any) any {
	switch {
	case key == (contextKey{}), key == x.m:
		return x.use()
	case key == (exchangeKey{}):
		return x
	}
	return x.current().Value(key)
}

// arrive makes the exchange of a request, with the session that its cookies open.
// An error means that the store could not tell.
func (m *Manager) arrive(w http.ResponseWriter, r *http.Request) (*exchange, error) {
	lines := r.Header["Cookie"]
	if len(lines) == 0 {
		return newExchange(m, w, r), nil // R1
	}
	var buf [maxCandidates]token
	candidates := m.cookie.find(lines, buf[:0])
	if len(candidates) == 0 {
		return newExchange(m, w, r), nil // R3
	}
	now := time.Now() // read once: four readings were a sixth of a whole request in memory
	x := newVisit(m, w, r, now.Sub(started))
	return x, x.load(candidates, now)
}

// load looks up the tokens that the request brought.
func (x *exchange) load(candidates []token, now time.Time) error {
	ctx, release := x.m.storeContext(x.parent(), now, x.m.timeout)
	defer release()
	opened := 0
	for i := range candidates {
		standing, err := x.try(ctx, &candidates[i], opened == 0, now.UnixNano())
		if err != nil {
			return err
		}
		if standing == live {
			opened++
		}
	}
	if opened > 1 {
		x.m.event(x.parent(), Event{Kind: EventAmbiguousCookie})
		x.use().present(content{}, anonymous, 0, 0)
	}
	return nil
}

// try looks up one token. The session takes what it opens, or, while nothing
// better is known, why it opens nothing.
func (x *exchange) try(ctx context.Context, t *token, first bool, now int64) (standing, error) {
	id, s := t.id(), x.use()
	stored, err := x.m.load(ctx, id, now)
	if errors.Is(err, ErrNotFound) {
		x.m.event(x.parent(), Event{Kind: EventUnknownToken})
		return anonymous, nil
	}
	if err != nil {
		x.m.event(x.parent(), Event{Kind: EventStoreFailed, ID: id, Err: err})
		return anonymous, &Error{Op: "load", Err: err}
	}
	var base content
	if err := base.parse(&stored, &id); err != nil {
		x.m.event(x.parent(), Event{Kind: EventRecordRefused, ID: id, Err: err})
		if errors.Is(err, errUnreadable) && s.standing != live {
			s.standing = unreadable
		}
		return anonymous, nil
	}
	hash := hashSecret(x.m.name, t)
	switch is := x.judge(&base, &hash, now/int64(time.Millisecond)); {
	case is == live && first:
		s.present(base, live, stored.TTL, now)
		return live, nil
	case is == superseded && s.standing == anonymous:
		s.standing = superseded
		return superseded, nil
	default:
		return is, nil
	}
}

// judge says what a secret with this hash is good for.
func (x *exchange) judge(base *content, hash *[hashSize]byte, now int64) standing {
	switch {
	case now >= x.m.endOf(base): // E3
		x.m.event(x.parent(), Event{Kind: EventExpired, ID: base.id(), User: base.user})
		return anonymous
	case equalHash(base.hash(), hash):
		return live
	case base.wasSuperseded(hash, now): // C7
		x.m.event(x.parent(), Event{Kind: EventSuperseded, ID: base.id(), User: base.user})
		return superseded
	}
	x.m.event(x.parent(), Event{Kind: EventUnknownToken}) // whoever holds it need not be the session's visitor
	return anonymous
}

// present gives the session what the request's token opened, at in nanoseconds
// since 1970.
func (s *Session) present(base content, is standing, left time.Duration, at int64) {
	s.base, s.standing, s.left = base, is, left
	s.cookied, s.returning, s.loaded = is == live, is == live, at
}

// serve runs the handler and saves what it left.
func (x *exchange) serve(next http.Handler) {
	finished, closed := false, false
	defer func() {
		if !finished {
			x.abandon()
		}
		if !closed {
			x.close()
		}
		if c := x.canceler.Load(); c != nil {
			c.cancel(context.Canceled)
		}
	}()
	if h := x.writer.rw.Header(); len(h) > 0 {
		x.writer.aside = &headers{before: h.Clone()}
	}
	if a := x.m.affinity; a != nil { // before the handler, which may change the header
		s := x.asked()
		x.writer.moved = s != nil && s.cookied && !a.sent(x.request.Header["Cookie"])
	}
	x.inner = *x.request.WithContext(x)
	next.ServeHTTP(&x.writer, &x.inner)
	if x.request.MultipartForm == nil {
		x.request.MultipartForm = x.inner.MultipartForm // whose files the server removes, of its own request only
	}
	closed = x.finish()
	finished = true
}

// finish commits a response that has not begun (R5), or what was changed after
// it had (R7), and touches a session that was only read (R4). It reports whether
// there is nothing left for close to do. First of all it refuses further changes: one
// that a goroutine made during the last commit would be lost without a word (R14).
func (x *exchange) finish() (closed bool) {
	closed = x.refuseChanges()
	began := x.writer.phase == begun
	switch x.writer.phase {
	case open:
		if x.writer.begin() != nil {
			return false
		}
	case failed:
		if x.use().logoutPending() {
			x.abandon()
		}
		x.writer.settleHeader()
		return false
	}
	if !closed {
		if began {
			x.commitLate("session: changes made after the response began are lost")
		}
		x.use().touch(x.parent())
	}
	if began {
		x.writer.settleHeader()
	}
	return closed
}

// commitLate commits when no answer can tell of a failure: the log does.
func (x *exchange) commitLate(failure string) {
	if err := x.use().commit(x.parent(), commitLate); err != nil {
		x.m.logger.LogAttrs(x.parent(), slog.LevelError, failure, slog.String("err", err.Error()))
	}
}

// abandon drops what a panicking handler had not saved, except a logout (R10).
// The panic is not recovered, so its value and stack stay as they are.
func (x *exchange) abandon() {
	if !x.passBy(requestOver) && x.use().abandon() {
		x.commitLate("session: a logout was not saved")
	}
	if x.writer.phase == open {
		// For whoever recovers and writes an error page with our header: it carries
		// the cookie that a logout clears, or that Save made before the panic.
		x.writer.seal(x.writer.markBegun())
	}
}

// logoutPending reports whether Destroy was called after the commit that failed.
func (s *Session) logoutPending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.steps()[s.frozen():], func(st step) bool { return st.op == opDestroy })
}

// abandon drops all steps and refuses others, and reports whether a Destroy was one
// of them, which it leaves. It waits for the commit of another goroutine of the
// request, whose steps they may be.
func (s *Session) abandon() (destroys bool) {
	r := s.ownRoom()
	r.committing.Lock()
	defer r.committing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	destroys = slices.ContainsFunc(r.steps, func(st step) bool { return st.op == opDestroy })
	r.steps, r.frozen = nil, 0
	s.cleared()
	if destroys {
		s.addStep(step{op: opDestroy})
	}
	return destroys
}

// close ends the session's use (R14).
func (x *exchange) close() {
	if x.passBy(requestOver) {
		return
	}
	s := x.use()
	s.mu.Lock()
	s.closed = true
	w := s.seldom().watcher
	s.mu.Unlock()
	if w != nil {
		x.m.watch.leave(w)
	}
}

// refuseChanges ends the session's changes. It reports whether nobody asked for it,
// or nothing was changed.
func (x *exchange) refuseChanges() (unchanged bool) {
	return x.passBy(requestOver) || x.use().refuseChanges()
}

// refuseChanges reports whether the session needs no commit, is not due for a touch
// and has no watcher, as most: what commit, touch and close would find, under one
// lock.
func (s *Session) refuseChanges() (unchanged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.unchanged() && !s.touchDue() && (s.rare == nil || s.rare.watcher == nil)
}

// touchDue reports whether base was only read, for long enough (R4).
func (s *Session) touchDue() bool {
	return s.standing == live && !s.saved && s.x.m.touchDue(s.left, until(s.x.m.endOf(&s.base), s.loaded))
}

// until is how long it is from at, in nanoseconds since 1970, to end, in
// milliseconds. It saturates in the year 2262.
func until(end, at int64) time.Duration {
	const ms = int64(time.Millisecond)
	return time.Duration(min(end, math.MaxInt64/ms)*ms - at)
}

// touch extends the idle time of a session that was not saved, if that is due
// (R4). It changes nothing but the end (E4), and a failure is no error page.
func (s *Session) touch(ctx context.Context) {
	s.mu.Lock()
	due, base := s.touchDue(), s.base
	s.mu.Unlock()
	if !due || !s.x.m.writes.enter() {
		return
	}
	defer s.x.m.writes.leave()
	call, release := s.x.m.storeContext(ctx, time.Now(), s.x.m.timeout)
	defer release()
	ttl, err := s.touchTTL(call, &base)
	if err == nil && ttl >= time.Millisecond {
		err = s.x.m.store.Touch(call, base.id(), base.version, ttl)
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
		s.x.m.event(ctx, Event{Kind: EventTouchFailed, ID: base.id(), User: base.user, Err: err})
	}
}

// touchTTL is what a touch should leave. A stream that stayed open does not
// count as activity: its idle time began with the request, and it looks again
// first, so that it takes nothing from a touch that came after (R4, E4).
func (s *Session) touchTTL(ctx context.Context, base *content) (time.Duration, error) {
	untilEnd := time.Until(timeOf(s.x.m.endOf(base)))
	since := sinceStart() - s.x.began
	if since < s.x.m.idle/10 {
		return min(s.x.m.idle, untilEnd), nil
	}
	ttl := min(s.x.m.idle-since, untilEnd)
	stored, err := s.x.m.store.Load(ctx, base.id())
	switch {
	case err == nil && stored.TTL > s.x.m.idle:
		return max(ttl, time.Millisecond), nil // the configuration was lowered (E5)
	case err == nil && ttl-stored.TTL < s.x.m.idle/10:
		return 0, nil
	}
	return ttl, err
}

// valueRefused tells of stored bytes that are not of their key's type (R9). What
// encoding/json says of them would quote them.
func (s *Session) valueRefused(name string) {
	s.lock()
	now := s.identity()
	s.mu.Unlock()
	s.x.m.event(s.x.parent(), Event{Kind: EventValueRefused, ID: now.id, User: now.user, Key: name, Err: errValueRefused})
}

var errValueRefused = &Error{Op: "decode", Err: errors.New("the stored bytes are not of the key's type; they are kept until the key is set")}
