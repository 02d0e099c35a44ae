package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

// Config says how a [Manager] keeps sessions. The zero value is a strict one on
// a new [MemoryStore].
type Config struct {
	// Store keeps the sessions. nil: a new MemoryStore, for one process.
	Store Store
	// Name names the application: letters, digits and punctuation, at most 64
	// bytes. Tokens are bound to it, so that two applications on one store never
	// accept each other's (T3). Required with a Store. Changing it logs everybody
	// out.
	Name string
	// Cookie carries the token.
	Cookie Cookie
	// Affinity tells a load balancer which server a visitor belongs to. The zero
	// value: nothing.
	Affinity Affinity
	// IdleTimeout ends a session that long after its last request, or up to a
	// tenth earlier (R4). 0: 30 minutes; 1 second to 400 days.
	IdleTimeout time.Duration
	// Lifetime ends a session that long after it began or was last logged in,
	// however busy (E1, E5). 0: 12 hours; 1 second to 400 days. The defaults keep
	// both limits that NIST SP 800-63B-4 gives for AAL2.
	Lifetime time.Duration
	// StoreTimeout bounds the load, and each commit with its retries, from its turn
	// among the commits of the same session. A store that answers nothing for half
	// of it is away: until it is back, requests are answered 503 at once. 0: 2
	// seconds; 1 ms to 1 minute.
	StoreTimeout time.Duration
	// MaxBytes bounds one record, its names and about 100 bytes of its own
	// included. Up to 860 bytes come on top while a session is written several
	// times a second (C5, C7). 0: 32 KiB; 512 bytes to 16 MiB.
	MaxBytes int
	// MaxPerUser is how many sessions a user may have at a time: a login beyond it
	// ends the oldest (ASVS 5.0, 7.1.2). It needs a [UserStore]. 0: any number.
	MaxPerUser int
	// RefuseLogins refuses a login beyond MaxPerUser with [ErrTooManySessions]
	// instead, which costs each login a round trip more. false: end the oldest.
	RefuseLogins bool
	// Skip names requests that go without a session, such as those for static
	// files. nil: none.
	Skip func(*http.Request) bool
	// ErrorHandler answers instead of the handler when a session cannot be
	// loaded, or cannot be saved before the response begins (R6). The request is
	// the one that the manager got, so it holds no session. nil: log, and answer
	// [ErrEnded] and [ErrTooManySessions] with 409, a value that cannot be encoded or is too large with
	// 500, and store failures with 503 and Retry-After. If it writes nothing, it
	// is answered for in the same way.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)
	// Logger gets what an operator has to act on. nil: slog.Default().
	Logger *slog.Logger
	// OnEvent hears what happens to sessions and to the store, from several
	// goroutines. It should be quick: most events come during a request. [Counters]
	// can listen. nil: nobody, and calls to the store are not timed.
	OnEvent func(context.Context, Event)
}

// A Manager loads a session before a handler runs and saves it before the first
// byte of the response. Make it with [New]; it is safe for concurrent use.
type Manager struct {
	store        Store
	users        UserStore // the store, if it is one; else nil
	name         string
	cookie       cookieHeader
	affinity     *affinityCookie // nil: none
	idle         time.Duration
	lifetime     time.Duration
	timeout      time.Duration
	maxBytes     int
	maxPerUser   int
	refuseLogins bool
	skip         func(*http.Request) bool
	errorHandler func(http.ResponseWriter, *http.Request, error)
	logger       *slog.Logger
	onEvent      func(context.Context, Event)
	queue        queue
	watch        watch
	cuts         cuts
	memory       *MemoryStore // the store, if it is one, which never waits; else nil
	guard        *guard       // around the store, if it is not
	writes       *writes
	life         context.Context // ends with Close
	endLife      context.CancelFunc
}

// New makes a Manager. The error joins every fault in cfg. It asks the store
// nothing.
func New(cfg Config) (*Manager, error) {
	m := &Manager{
		store:        cfg.Store,
		name:         cfg.Name,
		idle:         cfg.IdleTimeout,
		lifetime:     cfg.Lifetime,
		timeout:      cfg.StoreTimeout,
		maxBytes:     cfg.MaxBytes,
		maxPerUser:   cfg.MaxPerUser,
		refuseLogins: cfg.RefuseLogins,
		skip:         cfg.Skip,
		errorHandler: cfg.ErrorHandler,
		logger:       cfg.Logger,
		onEvent:      cfg.OnEvent,
	}
	if m.store == nil {
		m.store = new(MemoryStore)
	}
	if m.errorHandler == nil {
		m.errorHandler = m.logError
	}
	if m.logger == nil {
		m.logger = slog.Default()
	}
	if m.memory = asMemory(m.store); m.memory == nil {
		m.setGuard()
	}
	m.writes = &writes{drained: make(chan struct{})}
	m.life, m.endLife = context.WithCancel(context.Background())
	m.users, _ = m.store.(UserStore)
	var cookieErr, affinityErr error
	m.cookie, cookieErr = cfg.Cookie.compile()
	m.affinity, affinityErr = cfg.Affinity.compile(cfg.Cookie, &m.cookie)
	err := errors.Join(
		checkName(cfg.Name, cfg.Store != nil),
		setDuration("IdleTimeout", &m.idle, 30*time.Minute, time.Second, maxAge),
		setDuration("Lifetime", &m.lifetime, 12*time.Hour, time.Second, maxAge),
		setDuration("StoreTimeout", &m.timeout, 2*time.Second, time.Millisecond, time.Minute),
		setBytes(&m.maxBytes),
		checkPerUser(&cfg, m.users),
		cookieErr,
		affinityErr,
	)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Format prints the application's name, whatever the verb: nothing inside is for
// logs, and it changes while it would be read (T2).
func (m *Manager) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "session.Manager(%s)", m.name) }

func checkName(name string, required bool) error {
	switch {
	case name == "" && required:
		return errors.New("session: Config.Name is missing: name the application, so that no other one on the same store accepts its tokens (T3)")
	case len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }):
		return fmt.Errorf("session: Config.Name %q: use letters, digits and punctuation, at most 64 bytes", name)
	}
	return nil
}

func setDuration(field string, d *time.Duration, zero, least, most time.Duration) error {
	if *d == 0 {
		*d = zero
	}
	if *d < least || *d > most {
		return fmt.Errorf("session: Config.%s is %v: choose %v to %v, or 0 for %v", field, *d, least, most, zero)
	}
	return nil
}

func setBytes(n *int) error {
	const zero, least, most = 32 << 10, 512, 16 << 20
	if *n == 0 {
		*n = zero
	}
	if *n < least || *n > most {
		return fmt.Errorf("session: Config.MaxBytes is %d: choose %d to %d, or 0 for %d", *n, least, most, zero)
	}
	return nil
}

// Handler wraps next, which then finds the visitor's session with
// [FromContext]. Mount it inside of whatever replaces the response as a whole
// (recovery, http.TimeoutHandler, logging) and around the routes that have
// sessions. A manager that is met twice on the way works once.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.skip != nil && m.skip(r) || m.wrapsAlready(r.Context()) {
			next.ServeHTTP(w, r)
			return
		}
		x, err := m.arrive(w, r)
		if err != nil {
			m.answer(w, r, err)
			return
		}
		x.serve(next)
	})
}

// wrapsAlready reports whether the request is on its second way through m (R13).
// It panics if a manager around this one writes a cookie of the same name: that
// one would strip ours as not its own, and every visitor would lose the inner
// session with each answer.
func (m *Manager) wrapsAlready(ctx context.Context) bool {
	for outer, nested := ctx.Value(exchangeKey{}).(*exchange); nested; outer, nested = outer.parent().Value(exchangeKey{}).(*exchange) {
		if outer.m == m {
			return true
		}
		if outer.m.cookie.name != m.cookie.name {
			continue
		}
		panic(fmt.Sprintf("session: one Manager wraps another and both write the cookie %q: give each a Cookie.Name of its own", m.cookie.name))
	}
	return false
}

// FromContext returns this manager's session, never another one's. It panics if
// this manager does not wrap the handler.
func (m *Manager) FromContext(ctx context.Context) *Session {
	if s := m.sessionIn(ctx); s != nil {
		return s
	}
	panic("session: no session of this Manager in this context: wrap the handler in its Handler method, and check that its Config.Skip does not pass over this request")
}

func (m *Manager) sessionIn(ctx context.Context) *Session {
	s, _ := ctx.Value(m).(*Session)
	return s
}

// Revoke ends one session of user, known by its ID: its token opens nothing from
// then on. It returns [ErrNotFound] unless the session is that user's, so an ID
// from a form needs no other check.
func (m *Manager) Revoke(ctx context.Context, user string, id uuid.UUID) error {
	if user == "" {
		return ErrNotFound
	}
	return m.revoke(ctx, id, func(owner string) bool { return owner == user })
}

// RevokeAny ends a session, whoever's it is: for operators. It returns
// [ErrNotFound] if there is none.
func (m *Manager) RevokeAny(ctx context.Context, id uuid.UUID) error {
	return m.revoke(ctx, id, func(string) bool { return true })
}

// revoke may look first and delete later: once bound, an ID's user does not
// change (L3).
func (m *Manager) revoke(ctx context.Context, id uuid.UUID, may func(owner string) bool) error {
	if !m.writes.enter() {
		return &Error{Op: "delete", Err: errManagerClosed}
	}
	defer m.writes.leave()
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	stored, err := m.store.Load(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return ErrNotFound
	case err != nil:
		return &Error{Op: "load", Err: err}
	case !may(stored.Owner):
		return ErrNotFound
	}
	if err := m.store.Delete(ctx, id, 0); err != nil {
		return &Error{Op: "delete", Err: err}
	}
	m.watch.gone(id)
	m.event(ctx, Event{Kind: EventRevoked, ID: id, User: stored.Owner})
	return nil
}

// load asks the store. A MemoryStore is asked about now, in nanoseconds since 1970.
func (m *Manager) load(ctx context.Context, id uuid.UUID, now int64) (Record, error) {
	if m.memory != nil {
		return m.memory.loadAt(id, now)
	}
	return m.store.Load(ctx, id)
}

// endOf is the end of the record's lifetime in milliseconds. A configuration
// that was lowered reaches it, one that was raised does not (E5).
func (m *Manager) endOf(c *content) int64 {
	return min(c.end, c.start()+m.lifetime.Milliseconds())
}

// touchDue reports whether a session with left to live, and untilEnd of its
// lifetime, is worth a touch: at most once per tenth of the idle timeout (R4),
// and at once if the configuration was lowered (E5).
func (m *Manager) touchDue(left, untilEnd time.Duration) bool {
	return left > m.idle || min(m.idle, untilEnd)-left >= m.idle/10
}

// answer lets the error handler speak, and speaks for it if it does not: an
// empty 200 would look like success (R6).
func (m *Manager) answer(w http.ResponseWriter, r *http.Request, err error) {
	heard := &heardWriter{ResponseWriter: w}
	m.errorHandler(heard, r, err)
	if !heard.wrote {
		writeError(w, err)
	}
}

// heardWriter notes whether anything was written.
type heardWriter struct {
	http.ResponseWriter
	wrote bool
}

func (w *heardWriter) WriteHeader(status int) {
	w.wrote = w.wrote || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *heardWriter) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// FlushError sends a header, so it counts.
func (w *heardWriter) FlushError() error {
	w.wrote = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *heardWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// logError is the default error handler. A client that left is no news.
func (m *Manager) logError(w http.ResponseWriter, r *http.Request, err error) {
	level := slog.LevelError
	if r.Context().Err() != nil || statusOf(err) == http.StatusConflict {
		level = slog.LevelInfo
	}
	m.logger.LogAttrs(r.Context(), level, "session: request refused", slog.Int("status", statusOf(err)), slog.String("err", err.Error()))
	writeError(w, err)
}

func statusOf(err error) int {
	var e *Error
	switch {
	case errors.Is(err, ErrEnded), errors.Is(err, ErrTooManySessions):
		return http.StatusConflict
	case errors.Is(err, ErrCommitted), errors.As(err, &e) && e.Op == "encode":
		return http.StatusInternalServerError
	}
	return http.StatusServiceUnavailable
}

func writeError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	text := "Your session could not be saved."
	switch {
	case errors.Is(err, ErrTooManySessions):
		text = "You are logged in on too many devices. Log out on one of them first."
	case status == http.StatusConflict:
		text = "Your session ended while this request ran. Reload the page and try again."
	case status == http.StatusServiceUnavailable:
		text = "Sessions are not available at the moment. Try again soon."
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}
