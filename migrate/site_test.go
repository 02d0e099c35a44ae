package migrate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// A site has several servers on two stores. All are of one phase, but while a
// deploy rolls.
type site struct {
	t        *testing.T
	old, new session.Store
	servers  []*slot
	phase    Phase
	stores   []Store // of the servers that run
	lossy    bool    // calls to the stores are lost, and answers
}

// unanswered says of an answer that it tells nothing, as it may where calls are lost.
func (s *site) unanswered(answer string) bool { return s.lossy && strings.HasPrefix(answer, "503") }

// A slot is one server's place behind the balancer.
type slot struct {
	mu  sync.RWMutex // a request holds it for reading
	web *httptest.Server
}

const siteIdle = 6 * time.Second // a visitor who comes every second or so must be in time on a busy machine

var visits = session.NewKey[int]("visits")

// newManager is what each server of the site configures: the same, but for the
// store that its phase makes of the two.
func newManager(t testing.TB, store session.Store) *session.Manager {
	t.Helper()
	m, err := session.New(session.Config{
		Store: store, Name: "shop", IdleTimeout: siteIdle,
		Cookie: session.Cookie{InsecureHTTP: true}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func shop(m *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		fmt.Fprintf(w, "%s %d", s.User(), visits.Get(s))
	})
	mux.HandleFunc("POST /visit", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if s.User() == "" {
			http.Error(w, "logged out", http.StatusForbidden)
			return
		}
		visits.Update(s, func(n int) int { return n + 1 })
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := s.Login(r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		visits.Set(s, 0)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Destroy()
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, r *http.Request) {
		visits.Set(session.FromContext(r.Context()), 0)
	})
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		if err := m.RevokeUser(r.Context(), r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return m.Handler(mux)
}

// roll replaces the servers one by one by those of the next phase.
func (s *site) roll(pause time.Duration) {
	s.t.Helper()
	s.stores = nil
	for _, p := range s.servers {
		var store session.Store
		switch s.phase {
		case plainOld:
			store = s.old
		case plainNew:
			store = s.new
		default:
			m, err := New(Config{Old: s.old, New: s.new, Phase: s.phase, Name: "shop"})
			if err != nil {
				s.t.Fatal(err)
			}
			s.stores, store = append(s.stores, m), m
		}
		next := httptest.NewServer(shop(newManager(s.t, store)))
		p.mu.Lock() // when the requests that it has are answered
		before := p.web
		p.web = next
		p.mu.Unlock()
		if before != nil {
			before.Close()
		}
		time.Sleep(pause) // beside those that are a phase behind
	}
}

func (s *site) close() {
	for _, p := range s.servers {
		p.web.Close()
	}
}

// A visitor keeps one cookie, as a browser does.
type visitor struct {
	site   *site
	user   string
	cookie *http.Cookie
}

// do sends a request to some server. It returns what came back: "503 ..." and the
// like if that is no success.
func (v *visitor) do(method, path string) string {
	p := v.site.servers[rand.IntN(len(v.site.servers))]
	p.mu.RLock()
	defer p.mu.RUnlock()
	form := url.Values{"user": {v.user}}
	req, err := http.NewRequest(method, p.web.URL+path, bytes.NewBufferString(form.Encode()))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if v.cookie != nil {
		req.AddCookie(v.cookie)
	}
	resp, err := p.web.Client().Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	for _, c := range resp.Cookies() {
		v.cookie = c
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	return string(body)
}

// What befell the visitors of a site.
type tally struct {
	requests, unanswered, failures, logouts, lostVisits, revived, sessions, ended atomic.Int64
	mu                                                                            sync.Mutex
	stories                                                                       []string
}

func (n *tally) note(count *atomic.Int64, format string, args ...any) {
	count.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.stories) < 10 {
		n.stories = append(n.stories, fmt.Sprintf(format, args...))
	}
}

// expect counts anything else than the answer as a logout, or as a failure.
func (n *tally) expect(v *visitor, method, path, answer string) bool {
	n.requests.Add(1)
	got := v.do(method, path)
	switch {
	case got == answer:
		return true
	case got == " 0" || got == "403 logged out\n":
		n.note(&n.logouts, "%s: %s was logged out", path, v.user)
	case v.site.unanswered(got):
		n.unanswered.Add(1)
	default:
		n.note(&n.failures, "%s of %s: %q, want %q", path, v.user, got, answer)
	}
	return false
}

func (n *tally) login(v *visitor) {
	for range 20 {
		if n.expect(v, "POST", "/login", "") {
			return
		}
	}
}

// stay is a visitor who logs in once, and visits in two tabs at a time.
func (n *tally) stay(ctx context.Context, v *visitor) {
	n.sessions.Add(1)
	n.login(v)
	var counted, unknown atomic.Int64
	var tabs sync.WaitGroup
	for range 2 {
		tab := *v
		tabs.Go(func() {
			for ctx.Err() == nil {
				if n.expect(&tab, "POST", "/visit", "") {
					counted.Add(1)
				} else {
					unknown.Add(1)
				}
				time.Sleep(rand.N(60 * time.Millisecond))
			}
		})
	}
	tabs.Wait()
	var user string
	var visits int64
	for range 20 { // where answers are lost, this one may be
		if _, err := fmt.Sscan(v.do("GET", "/"), &user, &visits); err == nil {
			break
		}
	}
	if user != v.user || visits < counted.Load() || visits > counted.Load()+unknown.Load() {
		n.note(&n.lostVisits, "%d visits of %q at the end, want %d of %s, and up to %d more", visits, user, counted.Load(), v.user, unknown.Load())
	}
}

// read is a visitor whose session is only ever touched.
func (n *tally) read(ctx context.Context, v *visitor) {
	n.sessions.Add(1)
	n.login(v)
	for ctx.Err() == nil {
		n.expect(v, "GET", "/", v.user+" 0")
		time.Sleep(rand.N(siteIdle / 4))
	}
	n.expect(v, "GET", "/", v.user+" 0")
}

// comeAndGo is a visitor who logs in and out again, and then tries all the old
// cookies.
func (n *tally) comeAndGo(ctx context.Context, v *visitor) {
	var dead []*http.Cookie
	for round := 0; ctx.Err() == nil; round++ {
		n.sessions.Add(1)
		v.cookie = nil
		ok := n.expect(v, "POST", "/login", "") && n.expect(v, "POST", "/visit", "") && n.expect(v, "GET", "/", v.user+" 1")
		if !ok {
			continue
		}
		time.Sleep(rand.N(50 * time.Millisecond))
		cookie, way := v.cookie, [...]string{"/logout", "/revoke"}[round%2]
		if !n.expect(v, "POST", way, "") {
			continue
		}
		n.ended.Add(1)
		dead = append(dead, cookie)
		for _, c := range dead[max(0, len(dead)-4):] {
			old := &visitor{v.site, v.user, c}
			if got := old.do("GET", "/"); got != " 0" && !v.site.unanswered(got) {
				n.note(&n.revived, "%s after %s, and again: %q", v.user, way, got)
			}
		}
	}
	for _, c := range dead {
		if got := (&visitor{v.site, v.user, c}).do("GET", "/"); got != " 0" && !v.site.unanswered(got) {
			n.note(&n.revived, "%s at the end: %q", v.user, got)
		}
	}
}

// move takes a site through three deploys under load.
func move(t *testing.T, old, new session.Store, lossy bool) {
	s := &site{t: t, old: old, new: new, servers: []*slot{{}, {}, {}}, lossy: lossy}
	s.roll(0)
	defer s.close()
	var n tally
	var visitors sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer visitors.Wait()
	defer stop()
	for i := range 8 {
		visitors.Go(func() { n.stay(ctx, &visitor{site: s, user: fmt.Sprint("stays", i)}) })
		visitors.Go(func() { n.read(ctx, &visitor{site: s, user: fmt.Sprint("reads", i)}) })
		visitors.Go(func() { n.comeAndGo(ctx, &visitor{site: s, user: fmt.Sprint("comes", i)}) })
	}
	time.Sleep(siteIdle / 4)
	var moved uint64
	for s.phase = WriteOld; s.phase <= plainNew; s.phase++ {
		s.roll(siteIdle / 12)
		if s.phase == WriteNew {
			awaitQuiet(t, s)
			for _, store := range s.stores {
				moved += store.Stats().Moved
			}
		}
	}
	stop()
	visitors.Wait()
	t.Logf("%d sessions, %d requests: %d moved, %d logouts, %d lost visits, %d of %d revived, %d failures, %d unanswered", n.sessions.Load(), n.requests.Load(),
		moved, n.logouts.Load(), n.lostVisits.Load(), n.revived.Load(), n.ended.Load(), n.failures.Load(), n.unanswered.Load())
	for _, story := range n.stories {
		t.Error(story)
	}
	if moved < 16 || n.ended.Load() == 0 {
		t.Errorf("%d sessions moved, and %d ended: the test shows nothing", moved, n.ended.Load())
	}
	if !lossy {
		listsMoved(t, s.new)
	}
}

// awaitQuiet waits for what an operator waits for.
func awaitQuiet(t *testing.T, s *site) {
	t.Helper()
	for range 600 {
		quiet := true
		for _, store := range s.stores {
			quiet = quiet && store.Stats().Quiet > siteIdle
		}
		if quiet {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the old store goes on answering")
}

// listsMoved expects of the new store alone that it finds and ends the sessions
// of users who logged in when there was the old one only.
func listsMoved(t *testing.T, store session.Store) {
	t.Helper()
	m := newManager(t, store)
	for i := range 8 {
		user := fmt.Sprint("stays", i)
		all, err := m.Sessions(t.Context(), user)
		if err != nil || len(all) != 1 {
			t.Errorf("%s has %d sessions on the list in the new store, want 1: %v", user, len(all), err)
		}
	}
}

func TestASiteMovesFromMemoryToRedis(t *testing.T) {
	t.Parallel()
	move(t, new(session.MemoryStore), redisStores(t)(t), false)
}

func TestASiteMovesFromOneRedisToAnother(t *testing.T) {
	t.Parallel()
	old, new := ownRedis(t), ownRedis(t)
	move(t, old, new, false)
}

// lossy loses one call in a hundred, and one answer.
func lossy(do func()) error {
	odds := rand.IntN(100)
	if odds < 98 {
		do()
		return nil
	}
	if odds == 98 {
		do()
	}
	return errLost
}

func TestASiteMovesWhileAnswersAreLost(t *testing.T) {
	t.Parallel()
	move(t, frail{new(session.MemoryStore), lossy}, frail{new(session.MemoryStore), lossy}, true)
}

func ownRedis(t *testing.T) session.Store {
	s, err := session.NewRedisStore(redistest.Start(t, redistest.Config{}).Client(&redis.Options{ContextTimeoutEnabled: true}), session.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
