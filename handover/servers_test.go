package handover_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// Of three servers under load two are stopped, one after the other: nobody is
// logged out, every increment that was answered counts, and who logged out stays
// logged out. So it is, too, when one call in twenty to the shared store is
// refused or loses its answer.
func TestServersStoppedOneByOneUnderLoad(t *testing.T) {
	for _, ill := range []int{0, 5} {
		t.Run(fmt.Sprintf("memory, %d in 100 fail", ill), func(t *testing.T) {
			store := new(session.MemoryStore)
			stopOneByOne(t, ill, func() session.Store { return store })
		})
		t.Run(fmt.Sprintf("Redis, %d in 100 fail", ill), func(t *testing.T) {
			server := redistest.Start(t, redistest.Config{})
			stopOneByOne(t, ill, func() session.Store {
				store, err := session.NewRedisStore(server.Client(&redis.Options{}), session.RedisConfig{})
				if err != nil {
					t.Fatal(err)
				}
				return store
			})
		})
	}
}

func stopOneByOne(t *testing.T, ill int, open func() session.Store) {
	const visitors, between = 50, 1000
	var backends []*backend
	var faults []*faulty
	for i := range 3 {
		shared := &faulty{Store: open()}
		faults = append(faults, shared)
		backends = append(backends, startBackend(t, fmt.Sprint("server", i), shared))
	}
	l := startBalancer(t, backends...)
	load := &crowd{t: t, sound: ill == 0}
	for i := range visitors {
		load.add(l.url, fmt.Sprint("user", i), i%5 == 4)
	}
	for _, f := range faults {
		f.decide(func(string, uuid.UUID, uint64) fate {
			if rand.IntN(100) < ill {
				return []fate{refused, lost}[rand.IntN(2)]
			}
			return happens
		})
	}
	load.run()
	defer load.stop()
	for _, b := range backends[:2] {
		load.awaitMore(between)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		report, err := b.leave(ctx)
		cancel()
		if err != nil || report.Left != 0 || b.up.Load() {
			t.Errorf("%s: %+v, %v", b.name, report, err)
		}
		t.Logf("%s handed over %d sessions in %v, %d ended before", b.name, report.Moved, report.Took, report.Gone)
	}
	load.awaitMore(between)
	load.stop()
	for _, f := range faults {
		f.decide(nil)
	}
	load.check()
}

// A site moves from the memory of its servers to Redis, server by server, with an
// ordinary deploy of each kind before and after: nobody is logged out, no increment
// is lost, and who logged out stays logged out.
func TestFromMemoryToRedisInRollingDeploys(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	open := func() session.Store {
		store, err := session.NewRedisStore(server.Client(&redis.Options{}), session.RedisConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	kinds := []func(*testing.T, string, session.Store) *backend{startBackend, startBackend, startWithout, startWithout}
	l := startBalancer(t)
	load := &crowd{t: t, sound: true}
	var running []*backend
	for deploy, start := range kinds {
		for i := range 3 {
			b := start(t, fmt.Sprint("deploy", deploy, "-", i), open())
			l.join(t.Context(), b)
			running = append(running, b)
			if deploy == 0 {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			report, err := running[0].leave(ctx)
			cancel()
			if err != nil || report.Left != 0 {
				t.Errorf("%s: %+v, %v", running[0].name, report, err)
			}
			running = running[1:]
			load.awaitMore(200)
		}
		if deploy == 0 {
			for i := range 50 {
				load.add(l.url, fmt.Sprint("user", i), i%5 == 4)
			}
			load.run()
			defer load.stop()
			load.awaitMore(200)
		}
	}
	load.stop()
	load.check()
}

// A crowd is visitors who count up without a pause. Some log out on the way.
type crowd struct {
	t        *testing.T
	sound    bool // no request may fail
	visitors []*visitor
	answered atomic.Int64
	over     atomic.Bool
	running  sync.WaitGroup
}

type visitor struct {
	*crowd
	user    string
	url     string
	client  *http.Client
	leaves  bool
	left    bool
	counted int // answered 200
	unknown int // answered 503
}

func (c *crowd) add(url, user string, leaves bool) {
	c.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	v := &visitor{crowd: c, user: user, url: url, leaves: leaves, client: &http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{},
	}}
	c.t.Cleanup(v.client.CloseIdleConnections)
	if status, body := v.get("/login?user=" + user); status != http.StatusOK {
		c.t.Fatalf("login: %d %s", status, body)
	}
	c.visitors = append(c.visitors, v)
}

func (c *crowd) run() {
	for _, v := range c.visitors {
		c.running.Go(v.run)
	}
}

func (c *crowd) stop() {
	c.over.Store(true)
	c.running.Wait()
}

func (c *crowd) awaitMore(n int64) {
	c.t.Helper()
	to := c.answered.Load() + n
	await(c.t, "the visitors were answered", func() bool { return c.answered.Load() >= to || c.t.Failed() })
}

func (v *visitor) get(path string) (int, string) {
	resp, err := v.client.Get(v.url + path)
	if err != nil {
		v.t.Errorf("%s: %v", v.user, err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Errorf("%s: %v", v.user, err)
	}
	return resp.StatusCode, string(body)
}

func (v *visitor) run() {
	out := rand.IntN(100) // of its requests, the one after which it logs out
	for n := 0; !v.over.Load() && !v.t.Failed(); n++ {
		switch status, body := v.get("/count"); {
		case status == http.StatusOK && !v.left:
			v.counted++
			v.answered.Add(1)
		case status == http.StatusUnauthorized && v.left:
			v.answered.Add(1)
		case status == http.StatusServiceUnavailable && !v.sound:
			v.unknown++
		default:
			v.t.Errorf("%s, logged out: %v, after %d increments: %d %s", v.user, v.left, v.counted, status, body)
		}
		if v.leaves && n >= out && !v.left {
			v.logOut()
		}
	}
}

// logOut keeps the cookie, to see what it is worth.
func (v *visitor) logOut() {
	jar := v.client.Jar
	defer func() { v.client.Jar = jar }()
	v.client.Jar = readOnly{jar}
	if status, _ := v.get("/logout"); status == http.StatusOK {
		v.left = true
	} else if v.sound {
		v.t.Errorf("%s: logout: %d", v.user, status)
	}
}

type readOnly struct{ http.CookieJar }

func (readOnly) SetCookies(*url.URL, []*http.Cookie) {}

// check asks the server that stayed.
func (c *crowd) check() {
	counted, unknown, out := 0, 0, 0
	for _, v := range c.visitors {
		counted, unknown = counted+v.counted, unknown+v.unknown
		status, body := v.get("/look")
		if v.left {
			if out++; status != http.StatusOK || body != " 0" {
				c.t.Errorf("%s logged out, and is in again: %d %q", v.user, status, body)
			}
			continue
		}
		var user string
		var n int
		if _, err := fmt.Sscanf(body, "%s %d", &user, &n); err != nil || user != v.user || n < v.counted || n > v.counted+v.unknown {
			c.t.Errorf("%s counted %d, and perhaps %d more: %d %q", v.user, v.counted, v.unknown, status, body)
		}
	}
	c.t.Logf("%d increments counted, %d of unknown outcome, %d of %d visitors logged out", counted, unknown, out, len(c.visitors))
}
