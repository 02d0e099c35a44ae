package balancers

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A visitor is a browser with cookies.
type visitor struct {
	http.Client
	s    *site
	name string
	home string // the server that answered the login
}

// A trustingJar takes the balancer for one with TLS, as browsers take localhost:
// the servers are run as they are in production, with Secure cookies.
type trustingJar struct{ http.CookieJar }

func (j trustingJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.CookieJar.SetCookies(&url.URL{Scheme: "https", Host: u.Host, Path: u.Path}, cookies)
}

func (j trustingJar) Cookies(u *url.URL) []*http.Cookie {
	return j.CookieJar.Cookies(&url.URL{Scheme: "https", Host: u.Host, Path: u.Path})
}

var visitors atomic.Int64

func (s *site) newVisitor() *visitor {
	jar, _ := cookiejar.New(nil)
	v := &visitor{s: s, name: fmt.Sprint("visitor", visitors.Add(1))}
	v.Jar, v.Transport, v.Timeout = trustingJar{jar}, s.client, time.Minute
	return v
}

// ask returns the status and the page, which is the server's name and the user's.
func (v *visitor) ask(method, path string) (int, string) {
	req, err := http.NewRequest(method, "http://"+v.s.front+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := v.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(page)
}

// logIn makes the server that answers the visitor's home.
func (v *visitor) logIn() {
	v.s.t.Helper()
	status, page := v.ask("POST", "/login?user="+v.name)
	home, user, _ := strings.Cut(page, " ")
	if status != http.StatusOK || user != v.name {
		v.s.t.Errorf("login of %s: %d %q", v.name, status, page)
	}
	v.home = home
}

// athome reports whether the visitor's home answers, and knows the visitor.
func (v *visitor) athome() bool {
	status, page := v.ask("GET", "/")
	return status == http.StatusOK && page == v.home+" "+v.name
}

type crowd []*visitor

func (s *site) arrive(n int) crowd {
	c := make(crowd, n)
	for i := range c {
		c[i] = s.newVisitor()
	}
	c.each(func(v *visitor) { v.logIn() })
	return c
}

func (c crowd) each(do func(*visitor)) {
	var all sync.WaitGroup
	for _, v := range c {
		all.Go(func() { do(v) })
	}
	all.Wait()
}

// count is for how many visitors, or how often, something held.
func (c crowd) count(times int, holds func(*visitor) bool) int {
	var n atomic.Int64
	c.each(func(v *visitor) {
		for range times {
			if holds(v) {
				n.Add(1)
			}
		}
	})
	return int(n.Load())
}

// follow makes ten more requests for each visitor and counts those that found
// their session on the visitor's server.
func (c crowd) follow() int { return c.count(10, (*visitor).athome) }

func (c crowd) of(home string) (some crowd) {
	for _, v := range c {
		if v.home == home {
			some = append(some, v)
		}
	}
	return some
}
