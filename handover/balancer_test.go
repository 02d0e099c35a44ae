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
	name  string
	local *session.MemoryStore
	store *handover.Store
	m     *session.Manager
	http  *http.Server
	proxy *httputil.ReverseProxy
	url   string
	up    atomic.Bool // as the balancer sees it
}

func startBackend(t *testing.T, name string, shared session.Store) *backend {
	t.Helper()
	b := &backend{name: name, local: new(session.MemoryStore)}
	b.store = handover.New(b.local, shared)
	m, site := newSite(t, b.store, 5*time.Second)
	mux := http.NewServeMux()
	mux.Handle("/health", b.store.Health())
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
	return b
}

// leave is what a server does when it is told to go, in the documented order.
func (b *backend) leave(ctx context.Context) (handover.Report, error) {
	report, err := b.store.Drain(ctx)
	if err != nil {
		return report, err
	}
	for b.up.Load() && ctx.Err() == nil {
		time.Sleep(checkEvery)
	}
	return report, errors.Join(b.http.Shutdown(ctx), b.m.Close(ctx))
}

// A balancer sends who has its cookie to the server that the cookie names, as long
// as that is healthy, and anybody else to any server that is.
type balancer struct {
	backends []*backend
	url      string
}

func startBalancer(t *testing.T, backends ...*backend) *balancer {
	t.Helper()
	l := &balancer{backends: backends}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.url = server.URL
	for _, b := range backends {
		b.proxy.ErrorHandler = l.redispatch(b)
		go l.check(t.Context(), b)
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
	for _, b := range l.backends {
		if !b.up.Load() {
			continue
		}
		if up = append(up, b); was != nil && was.Value == b.name {
			b.proxy.ServeHTTP(w, r)
			return
		}
	}
	b := up[rand.IntN(len(up))]
	http.SetCookie(w, &http.Cookie{Name: "server", Value: b.name})
	b.proxy.ServeHTTP(w, r)
}
