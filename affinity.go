package session

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Affinity is a second cookie, for a load balancer: it names the server that a
// visitor's requests should come to, which a MemoryStore needs and a shared store
// does not. The zero value is none. Most balancers set a cookie of their own and
// need nothing from the application; nginx before 1.29.6 can only read one.
// docs/balancers has configurations that were run.
//
// Visitors get it together with the session's cookie, with the same attributes,
// and again when a session is used on another server than the cookie names. It is
// not a secret and proves nothing: what visitors send in it is compared with
// Server, and goes nowhere else. A logout leaves it where it is.
type Affinity struct {
	// Server is the name of this server: 1 to 32 of A-Z, a-z, 0-9, _ and -. Every
	// visitor can read it, so choose one that tells nothing (a, b, c), not a host's.
	// Give no two servers names that differ in case only: nginx takes them for one.
	Server string
	// Cookie is the cookie's name. "": server. nginx reads it as $cookie_server,
	// which it can do for names of letters, digits and _.
	Cookie string
}

const (
	// maxServerName keeps a name, which travels with every request, from weighing
	// more than the token does, and is within what nginx accepts as a key of a map
	// without settings of its own.
	maxServerName = 32
	affinityName  = "server"
)

// affinityCookie is a compiled Affinity. Its pair is what a browser sends back.
type affinityCookie struct {
	cookieHeader
	pair string
}

// compile takes the attributes from the session's cookie, c and what came of it,
// whose faults are not reported twice. nil is no affinity.
func (a Affinity) compile(c Cookie, own *cookieHeader) (*affinityCookie, error) {
	if a == (Affinity{}) {
		return nil, nil
	}
	hc := c.with(cmp.Or(a.Cookie, affinityName), a.Server)
	if err := errors.Join(a.checkServer(), a.checkCookie(&hc, c.name())); err != nil {
		return nil, err
	}
	return &affinityCookie{
		cookieHeader: cookieHeader{name: hc.Name, attrs: own.attrs, persist: own.persist},
		pair:         hc.Name + "=" + a.Server,
	}, nil
}

func (a Affinity) checkServer() error {
	if a.Server == "" || len(a.Server) > maxServerName || strings.Trim(a.Server, letters+"0123456789_-") != "" {
		return fmt.Errorf("session: Config.Affinity.Server %q: use letters, digits, _ and -, 1 to %d of them", a.Server, maxServerName)
	}
	return nil
}

func (a Affinity) checkCookie(hc *http.Cookie, session string) error {
	var faults []error
	if err := (&http.Cookie{Name: hc.Name}).Valid(); err != nil {
		faults = append(faults, fmt.Errorf("session: Config.Affinity.Cookie: %w", err))
	}
	if strings.EqualFold(hc.Name, session) { // nginx reads cookies without regard to case
		faults = append(faults, fmt.Errorf("session: Config.Affinity.Cookie %q is the session cookie's name: choose another", hc.Name))
	}
	return errors.Join(append(faults, checkPrefix("Config.Affinity.Cookie", hc))...)
}

// sent reports whether the request carries this server's name, byte for byte as
// a browser returns it and a balancer matches it. Of several cookies of the name
// any one will do: those that are not ours stay whatever we set, and would be
// answered with a Set-Cookie for ever.
func (a *affinityCookie) sent(lines []string) bool {
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			if trimBlank(part) == a.pair {
				return true
			}
		}
	}
	return false
}

// set is the Set-Cookie line; left is what remains of the session's lifetime.
func (a *affinityCookie) set(left time.Duration) string {
	line := a.pair + a.attrs
	if a.persist {
		line += maxAgeAttr + secondsOf(left)
	}
	return line
}

// addAffinity puts the affinity cookie into the header, in place of others of its
// name, which the backend of a reverse proxy may send.
func (w *response) addAffinity(h http.Header, looked bool) {
	left, wanted := w.affinityLeft(looked)
	if !wanted {
		return
	}
	w.affine = true
	a := w.x.m.affinity
	w.stripCookie(&a.cookieHeader, 0)
	h["Set-Cookie"] = withLine(h["Set-Cookie"], a.set(left), new([1]string))
}

// affinityLeft reports whether the visitor is to come here from now on, and for
// how long: the response hands out the session's cookie, or the handler looked at
// a session that came without our name. A response whose handler did not look may
// be meant for everybody's cache, and stays as it is (R12).
func (w *response) affinityLeft(looked bool) (left time.Duration, wanted bool) {
	s := w.x.asked()
	if s == nil {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted = s.standing == live &&
		(w.minted || looked && w.moved)
	if wanted {
		left = time.Until(timeOf(w.x.m.endOf(&s.base)))
	}
	return left, wanted
}
