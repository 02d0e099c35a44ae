package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
	"time"
)

const (
	// serverCookie names the server that a visitor is sent to. It is no secret,
	// and a name that is none of ours counts as no cookie.
	serverCookie = "cluster-server"

	checkInterval = 100 * time.Millisecond
	checkTimeout  = time.Second
)

// A backend is a server as the balancer sees it.
type backend struct {
	name     string
	addr     string // "" while there is none
	up       bool   // it answered the last health check with 200
	draining bool   // new visitors go elsewhere
}

// A balancer sends each request to a server that is up: the one that the
// visitor's cookie names, if it is sticky and that one is there, else the next
// one. Methods are safe for use by several goroutines.
type balancer struct {
	proxy     *httputil.ReverseProxy
	transport *http.Transport

	mu       sync.Mutex
	sticky   bool
	turn     int
	backends []*backend
}

func newBalancer(names ...string) *balancer {
	b := &balancer{transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: 10 * time.Second,
		DisableCompression:    true,
	}}
	for _, name := range names {
		b.backends = append(b.backends, &backend{name: name})
	}
	b.proxy = &httputil.ReverseProxy{
		Transport: b,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "server" // which one is RoundTrip's choice
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if errors.Is(err, errNoServer) {
				status = http.StatusServiceUnavailable
			}
			http.Error(w, "No server answered. Try again.", status)
		},
	}
	return b
}

var errNoServer = errors.New("cluster: no server is up")

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.proxy.ServeHTTP(w, r) }

// setSticky begins to honour the visitors' cookies, or to ignore them.
func (b *balancer) setSticky(sticky bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sticky = sticky
}

// set gives a server its address; "" takes the server out. It gets visitors once
// it has answered a health check.
func (b *balancer) set(name, addr string) {
	b.change(name, func(s *backend) { s.addr, s.up, s.draining = addr, false, false })
}

// drain sends new visitors elsewhere, and those with the server's cookie to it as
// long as it is up.
func (b *balancer) drain(name string) {
	b.change(name, func(s *backend) { s.draining = true })
}

func (b *balancer) change(name string, f func(*backend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.backends {
		if s.name == name {
			f(s)
		}
	}
}

func (b *balancer) state(name string) (state backend) {
	b.change(name, func(s *backend) { state = *s })
	return state
}

// pick chooses a server for a request with this cookie, other than those that
// were tried.
func (b *balancer) pick(cookie string, tried []string) (backend, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var open []*backend
	for _, s := range b.backends {
		if s.addr == "" || !s.up || slices.Contains(tried, s.name) {
			continue
		}
		if b.sticky && s.name == cookie {
			return *s, true
		}
		if !s.draining {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return backend{}, false
	}
	b.turn++
	return *open[b.turn%len(open)], true
}

// RoundTrip implements [http.RoundTripper]: it answers from a server that is up,
// and from another one if that turns out to be gone. What may have reached a
// server is sent again only if it changes nothing.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	cookie := ""
	if c, err := r.Cookie(serverCookie); err == nil {
		cookie = c.Value
	}
	var tried []string
	for {
		s, ok := b.pick(cookie, tried)
		if !ok {
			return nil, errNoServer
		}
		res, err := b.send(r, s, body)
		if err == nil {
			b.stick(res, s, cookie)
			return res, nil
		}
		if r.Context().Err() != nil {
			return nil, err
		}
		unsent := isDial(err)
		if unsent {
			b.lost(s)
		}
		if !unsent && r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, err
		}
		tried = append(tried, s.name)
	}
}

// readBody takes the body, which every attempt needs anew. The pages allow 64 KiB.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

func (b *balancer) send(r *http.Request, s backend, body []byte) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", s.addr
	out.Body = http.NoBody
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	return b.transport.RoundTrip(out)
}

// stick names the server that answered in the cookie, if that says another one.
func (b *balancer) stick(res *http.Response, s backend, cookie string) {
	b.mu.Lock()
	sticky := b.sticky
	b.mu.Unlock()
	if sticky && cookie != s.name {
		c := http.Cookie{Name: serverCookie, Value: s.name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
		res.Header.Add("Set-Cookie", c.String())
	}
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// lost takes out a server that refused a connection, until it is well again. One
// that has another address by now is another one.
func (b *balancer) lost(seen backend) {
	b.change(seen.name, func(s *backend) {
		if s.addr == seen.addr {
			s.up = false
		}
	})
}

// check asks every server how it is, until ctx ends.
func (b *balancer) check(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: checkTimeout}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, s := range b.backends {
		wg.Go(func() {
			tick := time.NewTicker(checkInterval)
			defer tick.Stop()
			for ctx.Err() == nil {
				b.checkOne(ctx, client, s.name)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
}

func (b *balancer) checkOne(ctx context.Context, client *http.Client, name string) {
	addr := b.state(name).addr
	if addr == "" {
		return
	}
	well := false
	if req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health", nil); err == nil {
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			well = res.StatusCode == http.StatusOK
		}
	}
	b.change(name, func(s *backend) {
		if s.addr == addr {
			s.up = well
		}
	})
}
