package faults

import (
	"encoding/base64"
	"fmt"
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

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

const (
	storeTimeout = 2 * time.Second
	writers      = 8
	// bound is how long a request may take: its load, its commit, and what a busy
	// machine adds.
	bound = 2*storeTimeout + time.Second
)

var (
	owner = session.NewKey[string]("owner").SurvivesLogin()
	count = session.NewKey[int]("count").SurvivesLogin()
)

// app does what the request's query says and answers with whose session it is
// and how far that counted.
func app(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	switch r.URL.Query().Get("do") {
	case "login":
		if err := s.Login(r.URL.Query().Get("as")); err != nil {
			panic(err)
		}
		owner.Set(s, r.URL.Query().Get("as"))
	case "count":
		count.Update(s, func(n int) int { return n + 1 })
	case "renew":
		if err := s.Renew(); err != nil {
			panic(err)
		}
	case "logout":
		s.Destroy()
	}
	if s.User() != owner.Get(s) {
		fmt.Fprint(w, "mixed")
		return
	}
	fmt.Fprintf(w, "%s %d", s.User(), count.Get(s))
}

// An answer is what one request came to.
type answer struct {
	status int
	user   string
	n      int
	token  string // of the cookie that was set, if one was
}

// A crowd is visitors, the servers they visit, and the account of what happened.
type crowd struct {
	t       testing.TB
	servers []http.Handler
	// touched reports whether the fault concerns a session, for the gap.
	touched func(uuid.UUID) bool

	// remember bounds how many ended tokens and doubtful visitors are kept for the
	// end, where the crowd itself must not grow; 0: all.
	remember int

	stop chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	lastAck time.Time
	gap     time.Duration
	dead    []token
	live    []*visitor

	requests, failed, lost, stale, wrong, hung, revived, unanswered atomic.Int64
}

// A token is one that a logout or a Renew was confirmed to have ended.
type token struct{ value, user string }

// A visitor is logged in as somebody of his own, and knows what he was told.
type visitor struct {
	user, token   string
	least, most   int // what the count may be: confirmed, and tried
	touched       bool
	unknown, gone bool // an outcome about the session itself was not told
	doubted       bool // an answer held less than was confirmed
}

func newCrowd(t testing.TB, stores ...session.Store) *crowd {
	c := &crowd{t: t, stop: make(chan struct{}), touched: func(uuid.UUID) bool { return true }}
	for _, store := range stores {
		m, err := session.New(session.Config{
			Name: "faults", Store: store, StoreTimeout: storeTimeout, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.servers = append(c.servers, m.Handler(http.HandlerFunc(app)))
	}
	return c
}

// begin lets the writers loose.
func (c *crowd) begin() {
	for n := range writers {
		c.wg.Go(func() { c.write(n) })
	}
}

// run lets them be for d.
func (c *crowd) run(d time.Duration) { time.Sleep(d) }

// mark begins the time for which the longest gap is measured.
func (c *crowd) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastAck, c.gap = time.Now(), 0
}

// flowing waits until writes have been confirmed again for a second.
func (c *crowd) flowing(atMost time.Duration) {
	c.t.Helper()
	deadline := time.Now().Add(atMost)
	var since time.Time
	for ; ; time.Sleep(20 * time.Millisecond) {
		c.mu.Lock()
		last := c.lastAck
		c.mu.Unlock()
		switch now := time.Now(); {
		case now.Sub(last) > 500*time.Millisecond:
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) > time.Second:
			return
		}
		if time.Now().After(deadline) {
			c.t.Errorf("no writes for a second within %v", atMost)
			return
		}
	}
}

func (c *crowd) write(n int) {
	r := rand.New(rand.NewPCG(uint64(n), 5))
	var mine []*visitor
	for i := 0; ; i++ {
		select {
		case <-c.stop:
			c.mu.Lock()
			c.live = append(c.live, mine...)
			c.mu.Unlock()
			return
		default:
		}
		if len(mine) < 20 || r.IntN(20) == 0 && len(mine) < 300 {
			if v := c.login(fmt.Sprintf("w%d-%d", n, i), r); v != nil {
				mine = append(mine, v)
			} else {
				time.Sleep(5 * time.Millisecond) // a store that is away is no reason to spin: the answer comes at once
			}
			continue
		}
		k := r.IntN(len(mine))
		v := mine[k]
		c.visit(v, r)
		if v.gone {
			mine[k] = mine[len(mine)-1]
			mine = mine[:len(mine)-1]
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func (c *crowd) login(user string, r *rand.Rand) *visitor {
	got := c.send(r, "", "login", user)
	if got.status != http.StatusOK {
		return nil // nobody has the secret of what may be there
	}
	v := &visitor{user: user, token: got.token, touched: c.touched(idOf(got.token))}
	c.acked(v)
	return v
}

// visit is one request of a visitor, mostly a write, and what it settles.
func (c *crowd) visit(v *visitor, r *rand.Rand) {
	do := [...]string{"count", "count", "count", "count", "count", "read", "read", "renew", "logout"}[r.IntN(9)]
	if do == "count" {
		v.most++
	}
	got := c.send(r, v.token, do, "")
	if got.status == http.StatusServiceUnavailable {
		if v.unknown = do == "renew" || do == "logout"; v.unknown {
			c.later(v)
		}
		return
	}
	if do == "logout" {
		c.buried(v)
		c.acked(v)
		v.gone = true
		return
	}
	if c.less(v, got) { // the page of a server that reads from the primary that was, or a loss: the end will tell
		v.doubted = true
		c.later(v)
	}
	switch {
	case do == "read", got.user != v.user:
		return
	case do == "count":
		v.least++ // and not got.n: what Update leaves is provisional, it may stand on a write that was never confirmed
	case do == "renew":
		c.buried(v)
		v.token = got.token
	}
	c.acked(v)
}

// later leaves a visitor for the end.
func (c *crowd) later(v *visitor) {
	v.gone = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = add(c.live, v, c.remember)
}

// less reports whether an answer holds less than the visitor was told before, or
// nothing: he is logged out, or told that his session ended.
func (c *crowd) less(v *visitor, got answer) bool {
	switch {
	case got.status != http.StatusOK || got.user == "":
		return true
	case got.user != v.user:
		c.wrong.Add(1)
		v.gone = true
	case got.n > v.most:
		c.t.Errorf("%s counted to %d of %d", v.user, got.n, v.most)
		v.most = got.n
	}
	return got.n < v.least
}

func (c *crowd) acked(v *visitor) {
	if !v.touched {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.lastAck.IsZero() {
		c.gap = max(c.gap, now.Sub(c.lastAck))
	}
	c.lastAck = now
}

func (c *crowd) buried(v *visitor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = add(c.dead, token{v.token, v.user}, c.remember)
}

// add appends to a list, or takes the place of one in it when there are most.
func add[T any](list []T, v T, most int) []T {
	if most == 0 || len(list) < most {
		return append(list, v)
	}
	list[rand.IntN(len(list))] = v
	return list
}

// end stops the writers and asks for everything once more.
func (c *crowd) end() {
	c.mu.Lock()
	c.gap = max(c.gap, time.Since(c.lastAck)) // if writes never came back
	c.mu.Unlock()
	close(c.stop)
	c.wg.Wait()
	var wg sync.WaitGroup
	for part := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(part), 6))
			for i := part; i < len(c.live); i += writers {
				c.verify(c.live[i], r)
			}
			for i := part; i < len(c.dead); i += writers {
				if got := c.ask(r, c.dead[i].value); got.user != "" {
					c.revived.Add(1)
				}
			}
		})
	}
	wg.Wait()
}

func (c *crowd) verify(v *visitor, r *rand.Rand) {
	got := c.ask(r, v.token)
	switch {
	case got.status != http.StatusOK:
		c.unanswered.Add(1)
	case !v.unknown && !c.less(v, got):
		if v.doubted {
			c.stale.Add(1)
		}
	case !v.unknown && got.user == "":
		c.lost.Add(int64(1 + v.least))
	case !v.unknown:
		c.lost.Add(int64(v.least - got.n))
	case got.user != "" && got.user != v.user:
		c.wrong.Add(1)
	}
}

// ask is a read that is made again if the store was not there for it.
func (c *crowd) ask(r *rand.Rand, token string) (got answer) {
	for range 20 {
		if got = c.send(r, token, "read", ""); got.status != http.StatusServiceUnavailable {
			return got
		}
		time.Sleep(50 * time.Millisecond)
	}
	return got
}

func (c *crowd) send(r *rand.Rand, token, do, as string) answer {
	req := httptest.NewRequest(http.MethodGet, "https://faults.example/?"+url.Values{"do": {do}, "as": {as}}.Encode(), nil)
	if token != "" {
		req.AddCookie(&http.Cookie{Name: "__Host-sid", Value: token})
	}
	w := httptest.NewRecorder()
	begun := time.Now()
	c.servers[r.IntN(len(c.servers))].ServeHTTP(w, req)
	if took := time.Since(begun); took > bound {
		c.hung.Add(1)
	}
	c.requests.Add(1)
	got := answer{status: w.Code}
	for _, cookie := range w.Result().Cookies() {
		got.token = cookie.Value
	}
	switch w.Code {
	case http.StatusOK:
		user, n, _ := strings.Cut(w.Body.String(), " ")
		got.user = user
		_, _ = fmt.Sscan(n, &got.n)
	case http.StatusServiceUnavailable:
		c.failed.Add(1)
		if got.token != "" {
			c.t.Error("a 503 set a cookie")
		}
	case http.StatusConflict:
	default:
		c.t.Errorf("answered %d %s", w.Code, w.Body)
	}
	return got
}

func idOf(token string) (id uuid.UUID) {
	raw, _ := base64.RawURLEncoding.DecodeString(token)
	copy(id[:], raw)
	return id
}
