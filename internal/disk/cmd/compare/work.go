package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sojourn-go/session"
)

// A job is one kind of request, sent by so many at once.
type job struct {
	path    string
	workers int
}

var jobs = []job{{"/read", 1}, {"/read", 8}, {"/write", 1}, {"/write", 8}}

const visitors = 1024

// The five values make 300 bytes of a record's data.
var (
	name   = session.NewKey[string]("name")
	note   = session.NewKey[string]("note")
	member = session.NewKey[bool]("member")
	visits = session.NewKey[int]("visits")
	seen   = session.NewKey[time.Time]("seen")
)

var errWrong = errors.New("compare: a session does not hold what was saved in it")

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := s.Login("42"); err != nil {
			panic(err)
		}
		name.Set(s, "alice@example.com")
		note.Set(s, strings.Repeat("n", 139))
		member.Set(s, true)
		visits.Set(s, 1)
		seen.Set(s, time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		if !member.Get(session.FromContext(r.Context())) {
			panic(errWrong)
		}
	})
	mux.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		n := visits.Get(s)
		if n == 0 {
			panic(errWrong)
		}
		visits.Set(s, n+1)
	})
	return mux
}

// A client sends requests in its own goroutine, through no socket, and keeps no
// answer but what the next request needs.
type client struct {
	app    http.Handler
	header http.Header
	status int
}

func (c *client) Header() http.Header         { return c.header }
func (c *client) Write(b []byte) (int, error) { return len(b), nil }
func (c *client) WriteHeader(status int)      { c.status = status }

func (c *client) do(path, cookie string) error {
	c.header, c.status = http.Header{}, http.StatusOK
	header := http.Header{}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	c.app.ServeHTTP(c, &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path}, RequestURI: path, Host: "example.com",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: http.NoBody,
	})
	if c.status != http.StatusOK {
		return fmt.Errorf("compare: %s was answered %d", path, c.status)
	}
	return nil
}

// A measurement is one job over one store, for one round.
type measurement struct {
	perSecond float64
	p50, p99  float64 // microseconds
	syncs     float64 // for each request; negative: not counted
}

// measure has each worker go round its share of the sessions.
func measure(s settings, on subject, j job) (m measurement, err error) {
	if _, err := work(on, j, s.warm); err != nil {
		return m, err
	}
	syncs := func() int64 { return -1 }
	if on.syncs != nil {
		syncs = on.syncs
	}
	before, start := syncs(), time.Now()
	took, err := work(on, j, s.budget)
	if err != nil {
		return m, err
	}
	m = measurement{perSecond: float64(len(took)) / time.Since(start).Seconds(), p50: quantile(took, 0.50), p99: quantile(took, 0.99), syncs: -1}
	if on.syncs != nil {
		m.syncs = float64(syncs()-before) / float64(len(took))
	}
	return m, nil
}

// logIn returns the visitors' cookies. Many log in at once, because each waits for
// the disk, if there is one.
func logIn(app http.Handler) ([]string, error) {
	const workers = 64
	cookies, failed := make([]string, visitors), make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			c := &client{app: app}
			for i := w; i < visitors && failed[w] == nil; i += workers {
				failed[w] = c.do("/login", "")
				cookies[i], _, _ = strings.Cut(c.header.Get("Set-Cookie"), ";")
			}
		})
	}
	wg.Wait()
	return cookies, errors.Join(failed...)
}

// work returns how long each request took, shortest first.
func work(on subject, j job, budget time.Duration) ([]time.Duration, error) {
	all, failed := make([][]time.Duration, j.workers), make([]error, j.workers)
	var wg sync.WaitGroup
	for w := range j.workers {
		share := on.cookies[w*visitors/j.workers : (w+1)*visitors/j.workers]
		wg.Go(func() { all[w], failed[w] = loop(&client{app: on.app}, j.path, share, budget) })
	}
	wg.Wait()
	took := slices.Concat(all...)
	slices.Sort(took)
	return took, errors.Join(failed...)
}

func loop(c *client, path string, cookies []string, budget time.Duration) (took []time.Duration, err error) {
	end := time.Now().Add(budget)
	for i, now := 0, time.Now(); now.Before(end); i++ {
		if err := c.do(path, cookies[i%len(cookies)]); err != nil {
			return took, err
		}
		next := time.Now()
		took = append(took, next.Sub(now))
		now = next
	}
	return took, nil
}

// quantile is in microseconds. Sorted is not empty: a worker sends one request at
// least.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))].Nanoseconds()) / 1e3
}
