package handover_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

const (
	checkEvery = 20 * time.Millisecond
	checkFall  = 2
)

// A backend is one server of the site, with its own memory.
type backend struct {
	name    string
	local   *session.MemoryStore
	store   *handover.Store // nil: none
	m       *session.Manager
	http    *http.Server
	proxy   *httputil.ReverseProxy
	url     string
	leaving atomic.Bool
	up      atomic.Bool  // as the balancer sees it
	sent    atomic.Int64 // requests of the balancer that have no answer yet
}

func startBackend(t *testing.T, name string, shared session.Store) *backend {
	t.Helper()
	b := &backend{name: name, local: new(session.MemoryStore)}
	b.store = handover.New(b.local, shared)
	b.serve(t, b.store, b.store.Health())
	return b
}

// startWithout is a server that has no memory of its own, and knows nothing of
// this package.
func startWithout(t *testing.T, name string, store session.Store) *backend {
	t.Helper()
	b := &backend{name: name}
	b.serve(t, store, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if b.leaving.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	return b
}

func (b *backend) serve(t *testing.T, store session.Store, health http.Handler) {
	t.Helper()
	m, site := newSite(t, store, 5*time.Second)
	mux := http.NewServeMux()
	mux.Handle("/health", health)
	mux.Handle("/", site)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.m, b.http, b.url = m, &http.Server{Handler: mux}, "http://"+listener.Addr().String()
	to, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	b.proxy = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}
	b.up.Store(true)
	go func() { _ = b.http.Serve(listener) }()
	t.Cleanup(func() { _ = b.http.Close() })
}

// leave is what a server does when it is told to go, in the documented order.
func (b *backend) leave(ctx context.Context) (report handover.Report, err error) {
	if b.store != nil {
		if report, err = b.store.Drain(ctx); err != nil {
			return report, err
		}
	}
	b.leaving.Store(true)
	// A request that the balancer sent off before it noticed may still be on its
	// way, and net/http closes a new connection without an answer once Shutdown
	// has begun.
	for (b.up.Load() || b.sent.Load() > 0) && ctx.Err() == nil {
		time.Sleep(checkEvery)
	}
	return report, errors.Join(b.http.Shutdown(ctx), b.m.Close(ctx))
}

// A balancer sends who has its cookie to the server that the cookie names, as long
// as that is healthy, and anybody else to any server that is.
type balancer struct {
	mu       sync.RWMutex
	backends []*backend
	url      string
}

// join sends visitors to b, too.
func (l *balancer) join(ctx context.Context, b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.proxy.ErrorHandler = l.redispatch(b)
	l.backends = append(l.backends, b)
	go l.check(ctx, b)
}

func (l *balancer) known() []*backend {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.backends)
}

func startBalancer(t *testing.T, backends ...*backend) *balancer {
	t.Helper()
	l := new(balancer)
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.url = server.URL
	for _, b := range backends {
		l.join(t.Context(), b)
	}
	return l
}

// redispatch sends a request elsewhere that could not be sent, as HAProxy does.
func (l *balancer) redispatch(b *backend) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			b.up.Store(false)
			l.ServeHTTP(w, r)
			return
		}
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func (l *balancer) check(ctx context.Context, b *backend) {
	client := &http.Client{Timeout: 5 * time.Second}
	for failed := 0; ctx.Err() == nil; time.Sleep(checkEvery) {
		resp, err := client.Get(b.url + "/health")
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			failed = 0
			continue
		}
		if failed++; failed >= checkFall {
			b.up.Store(false)
			return
		}
	}
}

func (l *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var up []*backend
	was, _ := r.Cookie("server")
	for _, b := range l.known() {
		if was != nil && was.Value == b.name && b.send(w, r) {
			return
		}
		if b.up.Load() {
			up = append(up, b)
		}
	}
	for _, i := range rand.Perm(len(up)) {
		w.Header().Set("Set-Cookie", (&http.Cookie{Name: "server", Value: up[i].name}).String())
		if up[i].send(w, r) {
			return
		}
	}
	http.Error(w, "no server is up", http.StatusBadGateway)
}

// send counts a request before it looks whether b is up, so that one who sees b
// down and nothing sent knows that nothing will come.
func (b *backend) send(w http.ResponseWriter, r *http.Request) bool {
	b.sent.Add(1)
	defer b.sent.Add(-1)
	if !b.up.Load() {
		return false
	}
	b.proxy.ServeHTTP(w, r)
	return true
}
