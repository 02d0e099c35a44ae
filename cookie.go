package session

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Cookie says how the token travels (RFC 6265bis). The zero value is the strict
// one: __Host-sid, Secure, HttpOnly, SameSite=Lax, Path=/, without Domain, gone
// when the browser closes (T6).
type Cookie struct {
	// Name of the cookie. "": __Host-sid; __Secure-sid when Domain or Path is
	// set; sid when InsecureHTTP.
	Name string
	// Domain shares the cookie with subdomains, which then can read and replace
	// it. "": this host only.
	Domain string
	// Path below which the browser sends the cookie. "": /. It keeps nothing
	// secret from other paths of the host (RFC 6265bis, section 8.5).
	Path string
	// SameSite is Lax when 0. Strict loses the session on links from other sites;
	// None sends the cookie with every cross-site request.
	SameSite http.SameSite
	// Persist keeps the cookie when the browser closes, until the lifetime ends.
	Persist bool
	// InsecureHTTP lets the cookie travel over plain http, where the network can
	// read and replace it. For development only.
	InsecureHTTP bool
}

// maxAge is the most that a browser keeps a cookie (RFC 6265bis, section 5.5).
const maxAge = 400 * 24 * time.Hour

// cookieHeader writes the Set-Cookie lines of one manager.
type cookieHeader struct {
	name    string
	attrs   string // behind the value
	persist bool
}

// compile applies the defaults and refuses what browsers would drop without a
// word (T6).
func (c Cookie) compile() (cookieHeader, error) {
	hc := c.with(c.name(), strings.Repeat("A", tokenChars))
	if err := errors.Join(c.checkAttributes(&hc), checkPrefix("Cookie.Name", &hc)); err != nil {
		return cookieHeader{}, err
	}
	_, attrs, _ := strings.Cut(hc.String(), hc.Value)
	return cookieHeader{name: hc.Name, attrs: attrs, persist: c.Persist}, nil
}

// with gives a cookie these attributes, defaults applied.
func (c Cookie) with(name, value string) http.Cookie {
	hc := http.Cookie{
		Name:     name,
		Value:    value,
		Path:     c.Path,
		Domain:   c.Domain,
		Secure:   !c.InsecureHTTP,
		HttpOnly: true,
		SameSite: c.SameSite,
	}
	if hc.Path == "" {
		hc.Path = "/"
	}
	if hc.SameSite == 0 {
		hc.SameSite = http.SameSiteLaxMode
	}
	return hc
}

func (c Cookie) name() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.InsecureHTTP:
		return "sid"
	case c.Domain != "" || c.Path != "" && c.Path != "/":
		return "__Secure-sid"
	}
	return "__Host-sid"
}

func (c Cookie) checkAttributes(hc *http.Cookie) error {
	var faults []error
	// net/http would write a cookie with a bad name, path or domain without it.
	if err := hc.Valid(); err != nil {
		faults = append(faults, fmt.Errorf("session: Cookie: %w", err))
	}
	if !strings.HasPrefix(hc.Path, "/") {
		faults = append(faults, fmt.Errorf("session: Cookie.Path %q must begin with /, or browsers ignore it (RFC 6265bis, section 5.6.4)", hc.Path))
	}
	switch hc.SameSite {
	case http.SameSiteLaxMode, http.SameSiteStrictMode:
	case http.SameSiteNoneMode:
		if !hc.Secure {
			faults = append(faults, errors.New("session: Cookie.SameSite None needs a Secure cookie: browsers drop it with InsecureHTTP (RFC 6265bis, section 5.7)"))
		}
	default:
		faults = append(faults, fmt.Errorf("session: Cookie.SameSite %d is not Lax, Strict or None; leave it 0 for Lax", hc.SameSite))
	}
	return errors.Join(faults...)
}

// checkPrefix holds the name to what its prefix promises. Browsers match
// prefixes without regard to case (RFC 6265bis, section 5.7).
func checkPrefix(field string, hc *http.Cookie) error {
	name := strings.ToLower(hc.Name)
	host := strings.HasPrefix(name, "__host-")
	if !host && !strings.HasPrefix(name, "__secure-") && !strings.HasPrefix(name, "__http-") {
		return nil
	}
	var faults []error
	if !hc.Secure {
		faults = append(faults, fmt.Errorf("session: %s %q needs a Secure cookie: browsers drop it with InsecureHTTP (RFC 6265bis, section 4.1.3)", field, hc.Name))
	}
	if host && hc.Domain != "" {
		faults = append(faults, fmt.Errorf("session: %s %q forbids Domain: use the prefix __Secure-, or no Domain (RFC 6265bis, section 4.1.3.2)", field, hc.Name))
	}
	if host && hc.Path != "/" {
		faults = append(faults, fmt.Errorf("session: %s %q forbids a Path other than /: use the prefix __Secure-, or no Path (RFC 6265bis, section 4.1.3.2)", field, hc.Name))
	}
	return errors.Join(faults...)
}

// set is the Set-Cookie line that hands out a token; left is what remains of
// the lifetime.
func (h *cookieHeader) set(t *token, left time.Duration) string {
	var line strings.Builder
	line.Grow(len(h.name) + 1 + tokenChars + len(h.attrs) + len(maxAgeAttr) + 20)
	line.WriteString(h.name)
	line.WriteByte('=')
	t.write(&line)
	line.WriteString(h.attrs)
	if h.persist {
		line.WriteString(maxAgeAttr)
		line.WriteString(secondsOf(left))
	}
	return line.String()
}

const maxAgeAttr = "; Max-Age="

// secondsOf is for maxAgeAttr: a 0 would take the cookie back.
func secondsOf(left time.Duration) string {
	return strconv.FormatInt(max(1, int64(left/time.Second)), 10)
}

// clear is the Set-Cookie line that takes the token back. Name, Domain and Path
// must be those of set (RFC 6265bis, section 3.1).
func (h *cookieHeader) clear() string {
	return h.name + "=" + h.attrs + "; Max-Age=0"
}

// ours reports whether a Set-Cookie line would set our cookie (R13). net/http sends
// line breaks as spaces, which a browser trims from the name.
func (h *cookieHeader) ours(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	return trimBlank(name) == h.name
}

const (
	// maxCookies is how many cookies of a request net/http lists by default
	// (GODEBUG httpcookiemaxnum); with more it lists none, and so do we.
	maxCookies = 3000
	// maxCandidates bounds the look-ups that one request can cause (R3).
	maxCandidates = 3
)

// find appends the tokens that the Cookie lines carry under our name: distinct,
// in order, at most maxCandidates. It sees the values that net/http's
// Request.CookiesNamed would list, without building the other cookies; a test
// holds the two together.
func (h *cookieHeader) find(lines []string, found []token) []token {
	if tooMany(lines) {
		return found
	}
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			part = trimBlank(part)
			// A quoted value is not ours: quotes belong to the value (RFC 6265bis, section 4.1.1).
			if !h.carries(part) || len(found) == maxCandidates {
				continue
			}
			found = append(found, token{})
			t := &found[len(found)-1]
			if !t.parse(part[len(part)-tokenChars:]) || contains(found[:len(found)-1], t) {
				found = found[:len(found)-1]
			}
		}
	}
	return found
}

// carries reports whether a cookie has our name and the length of our value.
func (h *cookieHeader) carries(part string) bool {
	n := len(part) - tokenChars - 1
	return n >= len(h.name) && part[n] == '=' && part[:len(h.name)] == h.name && trimBlank(part[len(h.name):n]) == ""
}

// tooMany counts as net/http does, unless the lines are too short to hold as many.
func tooMany(lines []string) bool {
	size := len(lines)
	for _, line := range lines {
		size += len(line)
	}
	if size <= maxCookies {
		return false
	}
	count := len(lines)
	for _, line := range lines {
		count += strings.Count(line, ";")
	}
	return count > maxCookies
}

func contains(found []token, t *token) bool {
	for i := range found {
		if found[i] == *t { // values of one request, compared with each other: no secret to leak
			return true
		}
	}
	return false
}

// trimBlank cuts what net/textproto.TrimString cuts.
func trimBlank(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
