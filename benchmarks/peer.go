package benchmarks

import (
	"encoding/gob"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Paths of the application that every peer serves. Except for Dump each answers
// "ok"; what is measured is what happens to the session.
const (
	Plain  = "/plain"  // does not look at the session
	Visit  = "/visit"  // counts a visit, which begins an anonymous session
	Read   = "/read"   // reads one string
	Write  = "/write"  // reads the counter and writes it
	Login  = "/login"  // changes the token and sets the five values
	Renew  = "/renew"  // changes the token
	Logout = "/logout" // ends the session
	Dump   = "/dump"   // writes the five values out
)

// An App is one peer's application, ready to serve. It has either HTTP or Fast.
type App struct {
	HTTP  http.Handler
	Fast  fasthttp.RequestHandler
	Close func()
}

// Env is where applications find what they need.
type Env struct {
	Redis string // host:port
}

// A Peer is a library on a store.
type Peer struct {
	Lib   string
	Store string // memory or redis
	Open  func(Env) (*App, error)

	// Floor is the Lib of the bare handler on the peer's own framework, if that
	// is not net/http. Costs are compared with the difference taken out.
	Floor string

	// What a peer does not do. The contract test proves each of these, so that a
	// peer that learns it is noticed. The costs of the fields that are set are
	// not comparable, and the tables say so.
	KeepsToken  bool // Login and Renew do not change the token
	NeverLooks  bool // a request that does not use its session is not looked up
	NoIdle      bool // sessions do not end sooner when they are not used
	NeverExpire bool // the store never gives memory back

	// StoresAnonymous is set where a peer does more: every request without a
	// session begins one.
	StoresAnonymous bool
}

// Name is the peer's part of a benchmark's name.
func (p Peer) Name() string { return "lib=" + p.Lib + "/store=" + p.Store }

// Less says in words what a peer leaves undone.
func (p Peer) Less() string {
	var less []string
	if p.KeepsToken {
		less = append(less, "keeps the token at login and has no renewal")
	}
	if p.NeverLooks {
		less = append(less, "does not look up a session that the handler does not use")
	}
	if p.NoIdle {
		less = append(less, "has no idle timeout")
	}
	if p.NeverExpire {
		less = append(less, "its store never drops a session")
	}
	return strings.Join(less, "; ")
}

// Peers are the libraries that are compared, ours first.
var Peers = []Peer{
	{Lib: "sojourn", Store: "memory", Open: openSojournMemory},
	{Lib: "scs", Store: "memory", Open: openSCSMemory(0), NoIdle: true},
	{Lib: "scs-idle", Store: "memory", Open: openSCSMemory(idleTimeout)},
	{Lib: "gorilla", Store: "memory", Open: openGorillaMemory, NeverLooks: true, NoIdle: true, NeverExpire: true},
	{Lib: "gin", Store: "memory", Open: openGinMemory, Floor: "floor-gin", KeepsToken: true, NeverLooks: true, NoIdle: true, NeverExpire: true},
	{Lib: "echo", Store: "memory", Open: openEchoMemory, Floor: "floor-echo", NeverLooks: true, NoIdle: true, NeverExpire: true},
	{Lib: "fiber", Store: "memory", Open: openFiberMemory, Floor: "floor-fiber", StoresAnonymous: true},

	{Lib: "sojourn", Store: "redis", Open: openSojournRedis},
	{Lib: "scs", Store: "redis", Open: openSCSRedis(0), NoIdle: true},
	{Lib: "scs-idle", Store: "redis", Open: openSCSRedis(idleTimeout)},
	{Lib: "gorilla", Store: "redis", Open: openGorillaRedis, NeverLooks: true, NoIdle: true},
	{Lib: "gin", Store: "redis", Open: openGinRedis, Floor: "floor-gin", KeepsToken: true, NeverLooks: true, NoIdle: true},
	{Lib: "echo", Store: "redis", Open: openEchoRedis, Floor: "floor-echo", NeverLooks: true, NoIdle: true},
	{Lib: "fiber", Store: "redis", Open: openFiberRedis, Floor: "floor-fiber", StoresAnonymous: true},
}

// Find returns a peer or a floor.
func Find(lib, store string) Peer {
	for _, p := range append(slices.Clone(Peers), Floors...) {
		if p.Lib == lib && p.Store == store {
			return p
		}
	}
	panic("benchmarks: no " + lib + " on " + store)
}

const (
	cookieName  = "sid"
	idleTimeout = 30 * time.Minute
	lifetime    = 12 * time.Hour
)

// The five values of a session: about 300 bytes in all.
const email = "someone.or.other@example.com"

var (
	note = strings.Repeat("likes long walks and short sessions; ", 6)
	seen = time.Date(2026, time.November, 1, 12, 30, 0, 0, time.UTC)
)

// want is what Dump writes after a Login.
var want = dump(email, note, true, 1, seen)

func dump(email, note string, member bool, visits int, seen time.Time) string {
	return fmt.Sprintf("%s|%s|%t|%d|%d", email, note, member, visits, seen.UnixNano())
}

func init() { gob.Register(time.Time{}) } // for the peers that keep values with it

// routes are the handlers of an application on net/http. A switch, because the
// cost of a router is not the subject.
type routes struct {
	visit, read, write, login, renew, logout, dump http.HandlerFunc
}

func (h *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case Plain:
	case Read:
		h.read(w, r)
	case Write:
		h.write(w, r)
	case Visit:
		h.visit(w, r)
	case Login:
		h.login(w, r)
	case Renew:
		h.renew(w, r)
	case Logout:
		h.logout(w, r)
	case Dump:
		h.dump(w, r)
		return
	default:
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, "ok")
}

// must ends a benchmark whose peer failed: its cost would mean nothing.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func mustTrue(ok bool) {
	if !ok {
		panic("benchmarks: the session does not hold what was stored in it")
	}
}
