package session_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

const cookieName = "__Host-sid"

// A site is one application on a server of its own. Its only handler does what
// the request's query says, so that each test reads as a list of requests.
type site struct {
	t         testing.TB
	url       string
	manager   *session.Manager
	server    *httptest.Server
	transport *http.Transport // shared by its visitors
	events    eventLog
}

// newSite runs a site until the test ends. StoreTimeout is long, because calls
// to the store are held on purpose; tests of timeouts set their own.
func newSite(t testing.TB, cfg session.Config) *site {
	t.Helper()
	a := &site{t: t}
	if cfg.Name == "" {
		cfg.Name = "site"
	}
	if cfg.StoreTimeout == 0 {
		cfg.StoreTimeout = 20 * time.Second
	}
	cfg.Logger, cfg.OnEvent = quiet, a.events.note
	manager, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.manager = manager
	a.server = httptest.NewUnstartedServer(manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page(w, r.WithContext(context.WithValue(r.Context(), siteManager{}, manager)))
	})))
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.StartTLS()
	a.url = a.server.URL
	a.transport = a.server.Client().Transport.(*http.Transport).Clone()
	a.transport.MaxIdleConnsPerHost = 128
	a.transport.TLSClientConfig.CurvePreferences = []tls.CurveID{tls.X25519} // a crowd's handshakes cost most of a test
	a.transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	t.Cleanup(func() {
		a.server.Close()
		a.transport.CloseIdleConnections()
		if err := manager.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return a
}

// The keys of a site: a and b go with a Login, kept survives it, n counts.
var (
	words = map[string]session.Key[string]{
		"a":    session.NewKey[string]("a"),
		"b":    session.NewKey[string]("b"),
		"kept": session.NewKey[string]("kept").SurvivesLogin(),
	}
	count  = session.NewKey[int]("n").SurvivesLogin()
	ticket = session.NewKey[bool]("ticket")
)

// siteManager is the key of a request's manager.
type siteManager struct{}

func managerOf(r *http.Request) *session.Manager {
	return r.Context().Value(siteManager{}).(*session.Manager)
}

// page does the steps of the query in their order, then shows the session.
func page(w http.ResponseWriter, r *http.Request) {
	for _, step := range r.URL.Query()["do"] {
		verb, arg, _ := strings.Cut(step, " ")
		if err := doStep(w, r, verb, arg); err != nil {
			status := http.StatusServiceUnavailable
			if errors.Is(err, session.ErrEnded) {
				status = http.StatusConflict
			}
			http.Error(w, err.Error(), status)
			return
		}
	}
	fmt.Fprint(w, show(session.FromContext(r.Context())))
}

func doStep(w http.ResponseWriter, r *http.Request, verb, arg string) error {
	s := session.FromContext(r.Context())
	name, value, _ := strings.Cut(arg, " ")
	word := words[name]
	switch verb {
	case "hold":
		g, _ := gates.Load(arg)
		g.(*gate).pass()
	case "set":
		word.Set(s, value)
	case "append":
		word.Update(s, func(old string) string { return old + value })
	case "delete":
		word.Delete(s)
	case "take":
		got, _ := word.Take(s)
		fmt.Fprintf(w, "took %q ", got)
	case "count":
		count.Update(s, func(n int) int { return n + 1 })
	case "countnow":
		n, err := count.UpdateNow(r.Context(), s, func(n int) int { return n + 1 })
		if err == nil {
			fmt.Fprintf(w, "counted %d: ", n)
		}
		return err
	case "redeem":
		won := false
		_, err := ticket.UpdateNow(r.Context(), s, func(used bool) bool { won = !used; return true })
		if err == nil && won {
			fmt.Fprint(w, "won: ")
		}
		return err
	case "login":
		return s.Login(arg)
	case "renew":
		return s.Renew()
	case "logout":
		s.Destroy()
	case "clear":
		s.Clear()
	case "save":
		return s.Save(r.Context())
	case "begun":
		w.WriteHeader(http.StatusEarlyHints) // commits nothing (R5)
	case "nap":
		ms, _ := strconv.Atoi(arg)
		time.Sleep(time.Duration(ms) * time.Millisecond)
	case "stream":
		fmt.Fprint(w, "data: hello\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		select {
		case <-s.Done():
			fmt.Fprint(w, "data: bye\n\n")
		case <-r.Context().Done():
		}
	case "others":
		return s.RevokeOthers(r.Context())
	case "revoke":
		return managerOf(r).RevokeUser(r.Context(), arg)
	case "flush":
		return http.NewResponseController(w).Flush()
	case "panic":
		panic(http.ErrAbortHandler)
	default:
		return fmt.Errorf("no step is called %q", verb)
	}
	return nil
}

// show is "alice a=x n=3", or "nobody" without a user and values.
func show(s *session.Session) string {
	shown := []string{"nobody"}
	if user := s.User(); user != "" {
		shown[0] = user
	}
	for name := range s.Names() {
		switch name {
		case "n":
			shown = append(shown, fmt.Sprint("n=", count.Get(s)))
		case "ticket":
			shown = append(shown, "ticket")
		default:
			shown = append(shown, name+"="+words[name].Get(s))
		}
	}
	return strings.Join(shown, " ")
}

// A visitor sends requests to one site, with a browser's cookie jar or with one
// token that never changes.
type visitor struct {
	t      testing.TB
	url    string
	client *http.Client
	token  string
}

// visitor has a jar, which visitors of other sites may share: cookies do not
// tell ports apart.
func (a *site) visitor() *visitor {
	jar, _ := cookiejar.New(nil)
	return &visitor{t: a.t, url: a.url, client: a.client(jar)}
}

// old keeps sending token, whatever it is answered.
func (a *site) old(token string) *visitor {
	return &visitor{t: a.t, url: a.url, client: a.client(nil), token: token}
}

// at is the same browser on another server of the same application.
func (v *visitor) at(url string) *visitor {
	there := *v
	there.url = url
	return &there
}

func (a *site) client(jar http.CookieJar) *http.Client {
	return &http.Client{Transport: a.transport, Jar: jar}
}

// now is the token that the visitor would send.
func (v *visitor) now() string {
	if v.client.Jar == nil {
		return v.token
	}
	u, _ := url.Parse(v.url)
	for _, c := range v.client.Jar.Cookies(u) {
		if c.Name == cookieName {
			return c.Value
		}
	}
	return ""
}

// An answer is what came back.
type answer struct {
	status  int
	body    string
	cookies []*http.Cookie // of our name
	header  http.Header
	err     error // the connection broke
}

// cookie is "token", "cleared" or "none".
func (a answer) cookie() string {
	switch {
	case len(a.cookies) == 0:
		return "none"
	case len(a.cookies) > 1:
		return "several"
	case a.cookies[0].MaxAge < 0 && a.cookies[0].Value == "":
		return "cleared"
	}
	return "token"
}

// do sends one request and waits for its end.
func (v *visitor) do(steps ...string) answer {
	req := newRequest(v.url, v.token, steps)
	req.RequestURI = ""
	resp, err := v.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	return read(resp)
}

func newRequest(origin, token string, steps []string) *http.Request {
	req := httptest.NewRequest("POST", origin+"/?"+url.Values{"do": steps}.Encode(), nil)
	if token != "" {
		req.Header.Set("Cookie", cookieName+"="+token)
	}
	return req
}

func read(resp *http.Response) answer {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	cookies := slices.DeleteFunc(resp.Cookies(), func(c *http.Cookie) bool { return c.Name != cookieName })
	return answer{resp.StatusCode, strings.TrimSpace(string(body)), cookies, resp.Header, err}
}

// want holds an answer to a status and to a page.
func want(t testing.TB, rule string, got answer, status int, body string) {
	t.Helper()
	if got.err != nil || got.status != status || status == http.StatusOK && got.body != body {
		t.Errorf("%s: answered %d %q %v, want %d %q", rule, got.status, got.body, got.err, status, body)
	}
}

// wantCookie holds an answer to "token", "cleared" or "none".
func wantCookie(t testing.TB, rule string, got answer, cookie string) {
	t.Helper()
	if got.cookie() != cookie {
		t.Errorf("%s: answered %d with Set-Cookie: %s, want %s", rule, got.status, got.cookie(), cookie)
	}
}

// wantEnded holds the answer of a writer to 409 without a cookie (C3).
func wantEnded(t testing.TB, rule string, got answer) {
	t.Helper()
	want(t, rule, got, http.StatusConflict, "")
	wantCookie(t, rule, got, "none")
}

// A pending request is one that is held, or on its way.
type pending struct {
	t    testing.TB
	gate *gate
	done chan answer
}

// begin sends a request and returns when it is at its step "hold", where it
// stays until end.
func (v *visitor) begin(steps ...string) *pending {
	v.t.Helper()
	p := &pending{t: v.t, gate: newGate(v.t)}
	name := fmt.Sprintf("%p", p.gate)
	gates.Store(name, p.gate)
	v.t.Cleanup(func() { gates.Delete(name) })
	steps = slices.Clone(steps)
	steps[slices.Index(steps, "hold")] = "hold " + name
	p.done = v.send(steps...)
	p.gate.wait()
	return p
}

// send is do in the background.
func (v *visitor) send(steps ...string) chan answer {
	done := make(chan answer, 1)
	go func() { done <- v.do(steps...) }()
	return done
}

// end lets the request go on, and waits for its answer.
func (p *pending) end() answer {
	p.gate.open()
	return <-p.done
}

var gates sync.Map // of the requests that are held, for page

// A gate holds whoever passes first, until it is opened.
type gate struct {
	t       testing.TB
	arrived chan struct{}
	opened  chan struct{}
	open    func()
}

func newGate(t testing.TB) *gate {
	g := &gate{t: t, arrived: make(chan struct{}, 1), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	t.Cleanup(g.open)
	return g
}

func (g *gate) pass() {
	g.arrived <- struct{}{}
	<-g.opened
}

func (g *gate) wait() {
	g.t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(time.Minute):
		g.t.Fatal("nobody came to the gate")
	}
}

// A stallStore holds or fails chosen calls, before or after they take effect.
type stallStore struct {
	session.Store

	mu     sync.Mutex
	stalls map[string]*gate
	fail   func(call string, prev uint64) error
	lose   func(call string, prev uint64) error
	calls  map[string]int
}

func newStallStore(store session.Store) *stallStore {
	return &stallStore{Store: store, stalls: map[string]*gate{}, calls: map[string]int{}}
}

// stall holds the next call at point: "before save", "after save", "before
// touch" and so on.
func (s *stallStore) stall(t testing.TB, point string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalls[point] = newGate(t)
	return s.stalls[point]
}

// failing has rule choose the error of calls, nil for none, which then do not
// reach the store.
func (s *stallStore) failing(rule func(call string, prev uint64) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = rule
}

// losing has rule choose the error that comes instead of the store's answer, nil
// for none. The call reaches the store.
func (s *stallStore) losing(rule func(call string, prev uint64) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = rule
}

// away is a rule for failing and losing: these calls come to nothing.
func away(calls ...string) func(call string, prev uint64) error {
	return func(call string, _ uint64) error {
		if slices.Contains(calls, call) {
			return errAway
		}
		return nil
	}
}

func (s *stallStore) called(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

func (s *stallStore) at(point string) {
	s.mu.Lock()
	g := s.stalls[point]
	delete(s.stalls, point)
	s.mu.Unlock()
	if g != nil {
		g.pass()
	}
}

func (s *stallStore) around(call string, prev uint64, inner func() error) error {
	s.mu.Lock()
	s.calls[call]++
	fail, lose := s.fail, s.lose
	s.mu.Unlock()
	s.at("before " + call)
	if fail != nil {
		if err := fail(call, prev); err != nil {
			return err
		}
	}
	err := inner()
	s.at("after " + call)
	if lose != nil {
		if lost := lose(call, prev); lost != nil {
			return lost
		}
	}
	return err
}

func (s *stallStore) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	err = s.around("load", 0, func() error { rec, err = s.Store.Load(ctx, id); return err })
	return rec, err
}

func (s *stallStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (live session.Record, err error) {
	err = s.around("save", prev, func() error { live, err = s.Store.Save(ctx, id, prev, next, ttl); return err })
	return live, err
}

func (s *stallStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return s.around("touch", version, func() error { return s.Store.Touch(ctx, id, version, ttl) })
}

func (s *stallStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return s.around("delete", version, func() error { return s.Store.Delete(ctx, id, version) })
}

// idOf is the public half of a token, which is not a secret (T1).
func idOf(t testing.TB, token string) uuid.UUID {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 48 {
		t.Fatalf("%q is not a token", token)
	}
	return uuid.UUID(raw[:16])
}

// stored is the record behind a token. Its Version is 0 if there is none.
func stored(t testing.TB, store session.Store, token string) session.Record {
	t.Helper()
	rec, err := store.Load(t.Context(), idOf(t, token))
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		t.Fatal(err)
	}
	return rec
}

// tire makes a session look as if its last request was long ago, so that a
// touch is due (R4).
func tire(t testing.TB, store session.Store, token string, left time.Duration) {
	t.Helper()
	if err := store.Touch(t.Context(), idOf(t, token), stored(t, store, token).Version, left); err != nil {
		t.Fatal(err)
	}
}

// An eventLog keeps what a manager tells.
type eventLog struct {
	mu     sync.Mutex
	events []session.Event
}

func (l *eventLog) note(_ context.Context, e session.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// count is how often an event of the kind came.
func (l *eventLog) count(kind session.EventKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}
