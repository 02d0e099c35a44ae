package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// A Session is one visitor's state, as one request sees it: what was stored
// when the request began, and on top of it what the request did. [FromContext]
// gives it to handlers; values are read and written through a [Key].
//
// All methods are safe for use by several goroutines of the request (R14). Once
// the handler has returned, a Session can be read, but refuses changes.
type Session struct {
	x *exchange

	mu sync.Mutex // guards what follows, but updating; never held during I/O
	// updating counts the functions given to Update that are running now.
	updating atomic.Int32

	standing  standing
	looked    bool // the handler consulted the session (R12)
	cookied   bool // the request's cookie opened a session
	returning bool // and it is still that one
	saved     bool // a commit wrote it, so no touch is due
	begun     bool // the response header is gone: no cookie can leave (R7)
	closed    bool // the request is over (R14)
	listed    bool // it never had one: Manager.Sessions made it

	base   content       // as loaded or last committed; none for a new session
	loaded int64         // when base was loaded or committed, in nanoseconds since 1970
	left   time.Duration // what base had left then

	room *room // nil until the request changes something; then it stays
	rare *rare
}

// loadedAt is when base was loaded or committed.
func (s *Session) loadedAt() time.Time { return time.Unix(0, s.loaded) }

// standing is what the presented token was good for.
type standing uint8

const (
	anonymous  standing = iota
	live                // base is the session that it opened
	ended               // it opened base until somebody else ended that (C3): only a Login writes
	superseded          // it opened a session until a moment ago (C7): likewise
	unreadable          // its record is not ours to judge (R15): nothing writes
)

type contextKey struct{}

// FromContext returns the session of the innermost [Manager] around the
// handler. It panics if there is none, because every use of the result would
// be a mistake that no visitor should meet.
func FromContext(ctx context.Context) *Session {
	if s, ok := ctx.Value(contextKey{}).(*Session); ok {
		return s
	}
	panic("session: no session in this context: wrap the handler in Manager.Handler, and check that Config.Skip does not pass over this request")
}

var errUsedInUpdate = errors.New("session: the function given to Update or UpdateNow used the session; it may only compute a new value from the old one, because it can run again")

// lock takes s.mu. A function given to Update would wait here for itself, or,
// run by a commit, see a state that is on its way out: it is told instead.
func (s *Session) lock() {
	if s.updating.Load() > 0 && insideUpdate() {
		panic(errUsedInUpdate)
	}
	s.mu.Lock()
}

// look is lock for methods that make the response depend on the cookie (R12).
func (s *Session) look() {
	s.lock()
	s.looked = true
}

// runUpdate calls the function of an Update. Its name is what insideUpdate
// looks for on the stack.
//
//go:noinline
func (s *Session) runUpdate(f update, old []byte) ([]byte, error) {
	s.updating.Add(1)
	defer s.updating.Add(-1)
	return f(old)
}

// insideUpdate reports whether the calling goroutine is inside runUpdate. It
// walks the stack, and so is asked only while some update is running.
func insideUpdate() bool {
	var pcs [64]uintptr
	for skip := 3; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		for frames := runtime.CallersFrames(pcs[:n]); ; {
			frame, more := frames.Next()
			if frame.Entry == runUpdateEntry() {
				return true
			}
			if !more {
				break
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

func runUpdateEntry() uintptr { return reflect.ValueOf((*Session).runUpdate).Pointer() }

// identity is who and what the session is after the steps so far.
type identity struct {
	id                          uuid.UUID
	user                        string
	created, authenticated, end int64
}

func (s *Session) identity() identity {
	var now identity
	if s.base.exists() {
		now = identity{s.base.id(), s.base.user, s.base.created, s.base.authenticated, s.x.m.endOf(&s.base)}
	}
	steps := s.steps()
	for i := range steps {
		switch st := &steps[i]; st.op {
		case opDestroy, opReplace:
			now = identity{}
		case opLogin:
			now.user, now.authenticated = st.user, st.at
		}
	}
	if now.id == uuid.Nil && s.freshID() != uuid.Nil {
		now.id, now.created = s.room.freshID, s.room.freshAt
	}
	return now
}

// ID returns the session's public name: safe in logs, useless as a credential.
// It is uuid.Nil until the first value is set or the first Login.
func (s *Session) ID() uuid.UUID {
	s.look()
	defer s.mu.Unlock()
	return s.identity().id
}

// IsNew reports whether this request presented no session that is still the
// visitor's: there is none, or it began with this request.
func (s *Session) IsNew() bool {
	s.look()
	defer s.mu.Unlock()
	return !s.returning || !s.base.exists() || s.identity().id != s.base.id()
}

// Created returns when the session began, to the millisecond, or the zero Time
// if it has not.
func (s *Session) Created() time.Time {
	s.look()
	defer s.mu.Unlock()
	return timeOf(s.identity().created)
}

// Expires returns when the session ends if no further request comes (E1): after
// the idle timeout or with the lifetime, whichever is first. It is the zero Time
// if there is no session.
func (s *Session) Expires() time.Time {
	s.look()
	defer s.mu.Unlock()
	switch now := s.identity(); {
	case now.id == uuid.Nil:
		return time.Time{}
	case s.base.exists() && now.id == s.base.id() && len(s.steps()) == 0:
		return s.expires()
	default: // a save will start both clocks that it may start
		at := time.Now()
		end := now.end
		if now.end == 0 || now.authenticated > s.base.authenticated {
			end = at.Add(s.x.m.lifetime).UnixMilli()
		}
		return earlier(at.Add(s.x.m.idle), timeOf(end))
	}
}

// expires is when base ends, the touch at the end of this request included.
func (s *Session) expires() time.Time {
	end := timeOf(s.x.m.endOf(&s.base))
	if !s.listed && s.x.m.touchDue(s.left, end.Sub(s.loadedAt())) {
		return earlier(s.loadedAt().Add(s.x.m.idle), end)
	}
	return earlier(s.loadedAt().Add(s.left), end)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a.Round(0) // without the monotonic clock, which means nothing to a caller
	}
	return b
}

func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}

// LastSeen returns when the session's last request before this one came, to
// within a tenth of the idle timeout (R4), or the zero Time if there was none.
// During the last idle timeout of its lifetime it may be earlier than that.
func (s *Session) LastSeen() time.Time {
	s.look()
	defer s.mu.Unlock()
	if !s.base.exists() || s.identity().id != s.base.id() {
		return time.Time{}
	}
	// A touch, or a save, left it the idle timeout, unless its lifetime had less.
	at := timeOf(s.loadedAt().Add(s.left - s.x.m.idle).UnixMilli())
	if written := timeOf(s.base.written()); at.Before(written) {
		return written
	}
	return earlier(at, s.loadedAt())
}

// User returns the user that the session is bound to, "" if it is anonymous.
func (s *Session) User() string {
	s.look()
	defer s.mu.Unlock()
	return s.identity().user
}

// AuthenticatedAt returns when Login last ran, to the millisecond, or the zero
// Time if it never did.
func (s *Session) AuthenticatedAt() time.Time {
	s.look()
	defer s.mu.Unlock()
	return timeOf(s.identity().authenticated)
}

// Names yields the names of all values, sorted.
func (s *Session) Names() iter.Seq[string] {
	s.look()
	defer s.mu.Unlock()
	var names []string
	for in := s.base.values(); in.more(); {
		names = append(names, string(in.value().name))
	}
	steps := s.steps()
	for i := range steps {
		for j := range steps[i].changes {
			names = append(names, steps[i].changes[j].name)
		}
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		_, found := visible(&s.base, steps, name)
		return !found
	})
	return slices.Values(names)
}

// Login binds the session to user, mints a new secret and restarts the lifetime
// (L1). Call it before you set values: every value that is there, those set
// earlier in the same request included, may have been planted by somebody else,
// and is dropped unless its key [Key.SurvivesLogin] (L2). Logging in as another
// user than the one bound drops the survivors too and takes a new ID (L3).
//
// The old cookie is dead as soon as the login is saved, which happens before
// the first byte of the response. Login returns [ErrCommitted] after that byte,
// and an error for a user that is empty, longer than 1,024 bytes or not UTF-8.
func (s *Session) Login(user string) error {
	if err := checkUser(user); err != nil {
		return err
	}
	s.look()
	defer s.mu.Unlock()
	if err := s.cookieCanLeave(); err != nil {
		return err
	}
	if bound := s.identity().user; bound != "" && bound != user {
		s.dropSteps(opReplace)
	}
	s.begin()
	s.addStep(step{op: opLogin, user: user, at: time.Now().UnixMilli()})
	return nil
}

func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("session: Login needs a user; Destroy logs out")
	case len(user) > maxUserBytes:
		return fmt.Errorf("session: Login: the user has %d bytes, at most %d fit; use its identifier", len(user), maxUserBytes)
	case !utf8.ValidString(user):
		return errors.New("session: Login: the user is not UTF-8; use its identifier")
	}
	return nil
}

// cookieCanLeave is nil while the response can still carry a cookie (R7).
func (s *Session) cookieCanLeave() error {
	switch {
	case s.closed:
		return errClosed
	case s.begun:
		return ErrCommitted
	}
	return nil
}

var errClosed = fmt.Errorf("session: used after its request ended, nothing was changed: %w", ErrCommitted)

// Renew mints a new secret and keeps everything else, for a change of privilege
// that is not a login. The lifetime goes on (E5). It returns [ErrCommitted] after
// the response began. Without a session there is nothing to renew, and no error.
func (s *Session) Renew() error {
	s.look()
	defer s.mu.Unlock()
	if err := s.cookieCanLeave(); err != nil {
		return err
	}
	if s.identity().id != uuid.Nil {
		s.addStep(step{op: opRenew})
	}
	return nil
}

// Destroy logs out: the record is deleted, whatever else happens to the response
// (R10), and the cookie cleared. A value set afterwards begins a new session. A
// request whose token was replaced a moment ago (C7) is told with [ErrEnded] that
// it logged nobody out.
func (s *Session) Destroy() {
	s.look()
	defer s.mu.Unlock()
	if s.refuse("Destroy") {
		return
	}
	s.dropSteps(opDestroy)
}

// Clear drops every value and keeps the session, its user and its cookie.
func (s *Session) Clear() {
	s.look()
	defer s.mu.Unlock()
	if s.refuse("Clear") || s.identity().id == uuid.Nil {
		return
	}
	s.addStep(step{op: opClear})
}

// Save stores what the request changed so far, now instead of with the response.
// It is not begun when ctx is done, and goes on when ctx ends later (R11).
//
// The error is [ErrEnded] if the session ended meanwhile or its login was revoked,
// [ErrTooManySessions] if it was one too many, [ErrCommitted] if a cookie is needed
// and the response began, or if the request is over, or an [*Error]. After the first
// three, and after an Error of op encode or one that says that the record cannot be
// read (R15), the changes are dropped. After any other Error the outcome is unknown,
// and the changes are sent once more, as the same write, with the response (C5). If
// ctx was done nothing was sent.
func (s *Session) Save(ctx context.Context) error {
	if err := s.canSave(ctx); err != nil {
		return err
	}
	return s.commit(ctx, commitNow)
}

// canSave is nil while a save may begin.
func (s *Session) canSave(ctx context.Context) error {
	s.look()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if ctx.Err() != nil {
		return fmt.Errorf("session: nothing was sent: %w", context.Cause(ctx))
	}
	return nil
}

// dropSteps forgets what was not yet saved and leaves o in its place, if there
// is something for it to act on.
func (s *Session) dropSteps(o op) {
	if r := s.room; r != nil {
		r.steps = r.steps[:r.frozen]
		r.freshID, r.freshAt = uuid.Nil, 0
	}
	if s.base.exists() || s.frozen() > 0 || s.standing == superseded || s.standing == unreadable {
		s.addStep(step{op: o}) // the last two to be told that nothing was destroyed
	}
}

// begin gives the session an ID if it has none.
func (s *Session) begin() {
	if s.base.exists() && !drops(s.steps()) {
		return // it has that of its record
	}
	if s.identity().id == uuid.Nil {
		r := s.making()
		r.freshID, r.freshAt = newID(), time.Now().UnixMilli()
	}
}

func (s *Session) addStep(st step) {
	r := s.making()
	if r.steps == nil {
		r.steps = r.step[:0]
	}
	r.steps = append(r.steps, st)
}

// refuse reports, and logs, a change after the request's end (R14).
func (s *Session) refuse(what string) bool {
	if s.closed {
		s.x.m.logger.LogAttrs(context.Background(), slog.LevelError, errClosed.Error(), slog.String("call", what))
	}
	return s.closed
}

// change finds or makes the place for a change of name. It returns nil when the
// session takes no changes any more.
func (s *Session) change(name string) *change {
	if s.refuse("a change of a value") {
		return nil
	}
	if len(s.steps()) == s.frozen() {
		s.addStep(step{})
	}
	r := s.room
	st := &r.steps[len(r.steps)-1]
	if st.changes == nil && len(r.steps) == 1 {
		st.changes = r.change[:0]
	}
	return st.put(name)
}

func (s *Session) get(name string) ([]byte, bool) {
	s.look()
	defer s.mu.Unlock()
	return visible(&s.base, s.steps(), name)
}

func (s *Session) set(name string, data []byte, survives bool, err error) {
	s.look()
	defer s.mu.Unlock()
	if c := s.change(name); c != nil {
		*c = change{name: name, data: data, survives: survives, err: err, known: true}
		s.begin()
	}
}

func (s *Session) delete(name string) {
	s.look()
	defer s.mu.Unlock()
	s.remove(name)
}

func (s *Session) remove(name string) {
	if _, found := visible(&s.base, s.steps(), name); !found && len(s.steps()) == 0 && !s.base.exists() {
		return // nothing there, and no session to take it from
	}
	if c := s.change(name); c != nil {
		*c = change{name: name, known: true}
	}
}

// take removes a value that wanted accepts.
func (s *Session) take(name string, wanted func([]byte) bool) (found bool) {
	s.look()
	defer s.mu.Unlock()
	data, found := visible(&s.base, s.steps(), name)
	if found && wanted(data) {
		s.remove(name)
	}
	return found
}

// update adds f to what is done to name. Behind a Set or Delete of this request
// f has its final input and is folded in; otherwise it is kept, to run again on
// what a commit finds (C2). With freeze the steps so far, n of them, are a commit's.
func (s *Session) update(name string, survives bool, f update, freeze bool) (n int, err error) {
	s.look()
	defer s.mu.Unlock()
	old, _ := visible(&s.base, s.steps(), name)
	data, failure := s.runUpdate(f, old)
	c := s.change(name)
	if c == nil {
		return 0, errClosed
	}
	if !c.known {
		c.updates = append(c.updates, f)
	}
	if c.err == nil { // a value that could not be encoded is not healed by an update (R8)
		c.data, c.survives, c.err = data, survives, failure
	}
	s.begin()
	if freeze {
		s.room.frozen = len(s.room.steps)
	}
	return s.room.frozen, nil
}

// Format keeps every verb of fmt, %#v included, from printing what is inside (T2).
func (s *Session) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "session.Session(%s)", s.label()) }

// LogValue shows the public ID.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.label()) }

func (s *Session) label() string {
	if s == nil {
		return "nil"
	}
	s.lock()
	defer s.mu.Unlock()
	return s.identity().id.String()
}
