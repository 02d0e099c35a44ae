package session_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// What the tests of the response keep in a session.
var (
	note  = session.NewKey[string]("note")
	other = session.NewKey[string]("other")
	ratio = session.NewKey[float64]("ratio")
)

var errAway = errors.New("the store is away")

// A wire serves one manager over real TCP, in one version of HTTP.
type wire struct {
	*testing.T
	store *faultStore
	cfg   session.Config
	m     *session.Manager
	logs  *logBuffer
	http2 bool
}

// eachWire runs a test on every store, in HTTP/1.1 and in HTTP/2, both over TLS
// because the cookie is Secure.
func eachWire(t *testing.T, test func(w *wire)) {
	t.Helper()
	eachStore(t, func(t *testing.T, store session.Store) {
		t.Run("http1", func(t *testing.T) { test(newWire(t, store, false)) })
		t.Run("http2", func(t *testing.T) { test(newWire(t, store, true)) })
	})
}

// eachHTTP1Wire is eachWire for what HTTP/2 does not have.
func eachHTTP1Wire(t *testing.T, test func(w *wire)) {
	t.Helper()
	eachStore(t, func(t *testing.T, store session.Store) { test(newWire(t, store, false)) })
}

func newWire(t *testing.T, store session.Store, http2 bool) *wire {
	w := &wire{T: t, store: &faultStore{Store: store}, logs: new(logBuffer), http2: http2}
	w.configure(session.Config{})
	return w
}

// storeAway makes calls of one kind fail, for a manager that soon gives up.
func (w *wire) storeAway(op string) {
	w.Helper()
	cfg := w.cfg
	cfg.StoreTimeout = time.Millisecond
	w.configure(cfg)
	w.store.on(func(called string) error {
		if called == op {
			return errAway
		}
		return nil
	})
}

// row runs a subtest on a wire that has stored nothing yet.
func (w *wire) row(name string, test func(w *wire)) {
	w.Helper()
	w.Run(name, func(t *testing.T) { test(newWire(t, w.store.Store, w.http2)) })
}

// configure makes the manager anew.
func (w *wire) configure(cfg session.Config) {
	w.Helper()
	cfg.Store, cfg.Name, cfg.Logger = w.store, "wire", slog.New(slog.NewTextHandler(w.logs, nil))
	m, err := session.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.cfg, w.m = cfg, m
}

// visitor is somebody whose session holds note=before.
func (w *wire) visitor() *http.Cookie {
	w.Helper()
	return sessiontest.Cookie(w.T, w.m, func(s *session.Session) { note.Set(s, "before") })
}

// probe reads what is stored under the cookie.
func (w *wire) probe(cookie *http.Cookie) (user, text string) {
	w.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookie)
	w.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		user, text = s.User(), note.Get(s)
	})).ServeHTTP(httptest.NewRecorder(), r)
	return user, text
}

func (w *wire) wantStored(cookie *http.Cookie, want string) {
	w.Helper()
	if _, got := w.probe(cookie); got != want {
		w.Errorf("stored note is %q, want %q", got, want)
	}
}

// wantPair checks that cookie and record are both there and belong together.
func (w *wire) wantPair(a *tcpAnswer) *http.Cookie {
	w.Helper()
	granted, stored := a.granted(), w.store.live(w.T)
	if len(granted) != 1 || len(stored) != 1 || tokenID(granted[0]) != stored[0] {
		w.Fatalf("cookies %v, records %v: want one of each, of one session", granted, stored)
	}
	return granted[0]
}

// wantNeither checks that there is no cookie and no record.
func (w *wire) wantNeither(a *tcpAnswer) {
	w.Helper()
	if a != nil && len(a.granted()) != 0 {
		w.Errorf("cookies %v, want none", a.granted())
	}
	if stored := w.store.live(w.T); len(stored) != 0 {
		w.Errorf("records %v, want none", stored)
	}
}

// A tcpSite is a server of a wire, and a client that follows no redirect.
type tcpSite struct {
	*httptest.Server
	w *wire
}

// serve runs h, which has to contain the manager, until the test ends. A status
// written twice is an error of the wrapper.
func (w *wire) serve(h http.Handler) *tcpSite {
	w.Helper()
	server, serverLog := httptest.NewUnstartedServer(h), new(logBuffer)
	server.EnableHTTP2 = w.http2
	server.Config.ErrorLog = log.New(serverLog, "", 0)
	server.StartTLS()
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.Cleanup(func() {
		server.Close()
		if strings.Contains(serverLog.String(), "superfluous") {
			w.Errorf("the server complains: %s", serverLog)
		}
	})
	return &tcpSite{Server: server, w: w}
}

// handle serves f behind the manager.
func (w *wire) handle(f http.HandlerFunc) *tcpSite {
	w.Helper()
	return w.serve(w.m.Handler(f))
}

func (s *tcpSite) request(method string, cookie *http.Cookie) *http.Request {
	r, err := http.NewRequestWithContext(s.w.Context(), method, s.URL+"/", nil)
	if err != nil {
		s.w.Fatal(err)
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return r
}

// get asks for the page as the visitor with the cookie, nil for nobody.
func (s *tcpSite) get(cookie *http.Cookie) *tcpAnswer {
	s.w.Helper()
	return s.do(s.request(http.MethodGet, cookie))
}

func (s *tcpSite) do(r *http.Request) *tcpAnswer {
	s.w.Helper()
	resp := s.begin(r)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.w.Fatal(err)
	}
	return &tcpAnswer{Response: resp, body: string(body)}
}

// begin waits for the header only.
func (s *tcpSite) begin(r *http.Request) *http.Response {
	s.w.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		s.w.Fatal(err)
	}
	s.w.Cleanup(func() { _ = resp.Body.Close() })
	if (resp.ProtoMajor == 2) != s.w.http2 {
		s.w.Fatalf("the connection speaks %s", resp.Proto)
	}
	return resp
}

type tcpAnswer struct {
	*http.Response
	body string
}

// granted are the cookies of our name that the tcpAnswer sets.
func (a *tcpAnswer) granted() []*http.Cookie {
	var out []*http.Cookie
	for _, c := range a.Cookies() {
		if c.Name == "__Host-sid" {
			out = append(out, c)
		}
	}
	return out
}

// tokenID is the public half of a token (T1), uuid.Nil if it is none.
func tokenID(c *http.Cookie) (id uuid.UUID) {
	token, _ := base64.RawURLEncoding.DecodeString(c.Value)
	copy(id[:], token)
	return id
}

// A faultStore does what its hook says before each call, and remembers which
// records its manager made.
type faultStore struct {
	session.Store
	mu   sync.Mutex
	hook func(op string) error // may wait; an error is the store's tcpAnswer
	ids  map[uuid.UUID]bool
}

// on sets the hook.
func (s *faultStore) on(hook func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

func (s *faultStore) before(op string) error {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

// live lists the records that the manager saved and that are there now.
func (s *faultStore) live(t *testing.T) (ids []uuid.UUID) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ids {
		if _, err := s.Store.Load(context.Background(), id); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *faultStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	if err := s.before("load"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Load(context.WithoutCancel(ctx), id) // however impatient the manager is made
}

func (s *faultStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.mu.Lock()
	if s.ids == nil {
		s.ids = make(map[uuid.UUID]bool)
	}
	s.ids[id] = true
	s.mu.Unlock()
	if err := s.before("save"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Save(ctx, id, prev, next, ttl)
}

func (s *faultStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	if err := s.before("touch"); err != nil {
		return err
	}
	return s.Store.Touch(ctx, id, version, ttl)
}

func (s *faultStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if err := s.before("delete"); err != nil {
		return err
	}
	return s.Store.Delete(ctx, id, version)
}

// A logBuffer takes what several goroutines log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
