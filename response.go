package session

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// phase is how far a response has come. docs/design.md draws the machine.
type phase uint8

const (
	open   phase = iota // nothing sent: a commit comes before the first byte (R5)
	begun               // committed; the header is gone or on its way
	failed              // the commit failed, the error handler has answered (R6)
)

// A response stands between the handler and the server's writer, and saves the
// session before anything that sends the header. It offers each such method
// itself: with Unwrap alone, http.ResponseController would go around the save.
type response struct {
	rw    http.ResponseWriter
	x     *exchange
	phase phase

	minted bool      // our Set-Cookie is in the header
	affine bool      // and that of the affinity
	moved  bool      // the request's session comes without this server's name
	fields int32     // how many the header had when it was complete
	aside  *headers  // for a save that fails; nil: no header was there before
	vary   [1]string // the header's own, so that no two responses share a slice
	cache  [1]string
}

// headers are those of a response that is answered for the handler (R6).
type headers struct {
	before http.Header // what was there when the manager was entered
	after  http.Header // what the handler still sets
	answer http.Header // what the error handler set
}

// Format keeps every verb of fmt from printing what is inside (T2).
func (w *response) Format(f fmt.State, _ rune) { fmt.Fprint(f, "session.ResponseWriter") }

// Header is the server's header map. Once the save has failed it is one that
// nobody reads: behind a writer that buffers, the error handler's answer could
// otherwise still take on what the handler sets for its page (R6).
func (w *response) Header() http.Header {
	if w.phase == failed {
		return w.aside.after
	}
	return w.rw.Header()
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.rw }

// WriteHeader saves the session, unless status is informational. 101 ends the
// header like a final status does. One below 100 or above 999 is left to the
// server's writer, which panics, before anything is saved (R10).
func (w *response) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols || status > 999 {
		if w.phase != failed {
			w.stripCookie(&w.x.m.cookie, 0) // a proxy's backend may send one early (R13)
			w.rw.WriteHeader(status)
		}
		return
	}
	if w.phase == failed || w.phase == open && w.begin() != nil {
		return
	}
	w.rw.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	return w.rw.Write(b)
}

// WriteString avoids a copy where the server's writer does.
func (w *response) WriteString(s string) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	return io.WriteString(w.rw, s)
}

// ReadFrom keeps sendfile: it reaches the server's writer if that has it.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if rf, ok := w.rw.(io.ReaderFrom); ok {
		return rf.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{w.rw}, src)
}

// Flush saves and sends what there is. On a writer that cannot flush it only
// saves; http.ResponseController tells the difference.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is Flush with the error, http.ErrNotSupported among them.
func (w *response) FlushError() error {
	if err := w.ready(); err != nil {
		return err
	}
	return http.NewResponseController(w.rw).Flush()
}

// Hijack saves and hands over the connection. It cannot carry a cookie: with a
// change pending that needs one it returns an error and stores nothing (R5).
// WriteHeader(101) before it can. Where there is nothing to hijack, as in HTTP/2,
// it leaves the session alone, for the page that the handler sends instead.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	switch {
	case w.phase == failed: // a 101 whose save failed was answered already (R6)
		return nil, nil, context.Cause(w.x)
	case !hijackable(w.rw):
		return nil, nil, http.ErrNotSupported
	case w.phase == open:
		if err := w.x.use().commitHijack(w.x.parent()); err != nil {
			return nil, nil, fmt.Errorf("session: Hijack cannot go ahead: %w", err)
		}
	}
	conn, rw, err := http.NewResponseController(w.rw).Hijack()
	if err == nil && w.phase == open {
		w.markBegun()
	}
	return conn, rw, err
}

// hijackable looks where http.ResponseController would.
func hijackable(rw http.ResponseWriter) bool {
	for {
		switch t := rw.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			rw = t.Unwrap()
		default:
			return false
		}
	}
}

// Push is HTTP/2 server push, where the server's writer has it.
func (w *response) Push(target string, opts *http.PushOptions) error {
	if p, ok := w.rw.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return http.ErrNotSupported
}

// ready saves the session before a first byte.
func (w *response) ready() error {
	switch w.phase {
	case open:
		return w.begin()
	case failed:
		return context.Cause(w.x)
	}
	return nil
}

// begin commits. On success the header is complete; otherwise the error handler
// has answered (R6).
func (w *response) begin() error {
	line, looked, unchanged := w.markUnchangedBegun()
	if !unchanged {
		if err := w.x.use().commitSteps(w.x.parent(), commitResponse, 0); err != nil {
			w.fail(err)
			return err
		}
		line, looked = w.markBegun()
	}
	w.seal(line, looked)
	return nil
}

// seal completes the header: our cookie, and what it means to caches (R12).
func (w *response) seal(line *string, looked bool) {
	h := w.rw.Header()
	w.stripCookie(&w.x.m.cookie, 0)
	if line != nil {
		w.minted = true
		h["Set-Cookie"] = withLine(h["Set-Cookie"], *line, new([1]string)) // not ours to hold on to (T2)
	}
	if w.x.m.affinity != nil {
		w.addAffinity(h, looked)
	}
	if w.minted || w.affine {
		w.forbidStoring(h)
	}
	if looked {
		w.tellCaches(h)
	}
	w.fields = int32(len(h))
}

// tellCaches says that the response depends on the cookie (R12). It looks before it
// writes, because a look into an empty map costs nothing.
func (w *response) tellCaches(h http.Header) {
	vary, cache := h["Vary"], h["Cache-Control"]
	if !variesByCookie(vary) {
		h["Vary"] = withLine(vary, "Cookie", &w.vary)
	}
	if len(cache) == 0 {
		w.cache[0] = "private"
		h["Cache-Control"] = w.cache[:]
	}
}

// forbidStoring keeps a shared cache from handing our cookies to others (R12).
func (w *response) forbidStoring(h http.Header) {
	w.cache[0] = "no-store"
	h["Cache-Control"] = w.cache[:]
}

// withLine adds a field line. The first takes the room given to it; to others it
// is appended in a slice of their own, because a handler may set the same slice
// in all its responses.
func withLine(lines []string, line string, room *[1]string) []string {
	if len(lines) > 0 {
		return append(slices.Clip(lines), line)
	}
	room[0] = line
	return room[:]
}

// markBegun closes the session for cookies and takes the one that waits.
func (w *response) markBegun() (line *string, looked bool) {
	w.phase = begun
	if w.x.passBy(headerGone) {
		return nil, false
	}
	s := w.x.use()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeCookie(), s.looked
}

// markUnchangedBegun is markBegun for a session that needs no commit, as most do:
// one look under one lock, or none for one that nobody asked for.
func (w *response) markUnchangedBegun() (line *string, looked, unchanged bool) {
	if w.x.passBy(headerGone) {
		w.phase = begun
		return nil, false, true
	}
	s := w.x.use()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unchanged() {
		return nil, false, false
	}
	w.phase = begun
	return s.takeCookie(), s.looked, true
}

func (s *Session) takeCookie() (line *string) {
	if r := s.room; r != nil {
		line, r.cookie = r.cookie, nil
	}
	s.begun = true
	return line
}

// stripCookie removes cookies of our name that are not ours (R13): all but the
// first keep ones, in each spelling of the field's name that a map can hold.
func (w *response) stripCookie(our *cookieHeader, keep int) {
	h := w.rw.Header()
	if len(h) == 0 {
		return
	}
	stripUsual(h, our, keep)
	for name, lines := range h {
		if len(name) == len("Set-Cookie") && name != "Set-Cookie" && strings.EqualFold(name, "Set-Cookie") {
			stripLines(h, name, lines, our, 0)
		}
	}
}

func stripUsual(h http.Header, our *cookieHeader, keep int) {
	if lines := h["Set-Cookie"]; len(lines) > 0 {
		stripLines(h, "Set-Cookie", lines, our, keep)
	}
}

func stripLines(h http.Header, name string, lines []string, our *cookieHeader, keep int) {
	ours := our.ours
	n := 0
	for _, line := range lines {
		if ours(line) {
			n++
		}
	}
	if n <= keep {
		return
	}
	kept := make([]string, 0, len(lines)) // the old slice may be shared between requests
	for _, line := range lines {
		if !ours(line) || keep > 0 {
			kept = append(kept, line)
		}
		if ours(line) {
			keep--
		}
	}
	h[name] = kept
	if len(kept) == 0 {
		delete(h, name)
	}
}

// settleHeader takes back what the handler did to the header once it was
// complete. The server has sent it by then and does not care, but a writer
// outside that buffers, such as http.TimeoutHandler's, reads it only now (R6, R13).
func (w *response) settleHeader() {
	h := w.rw.Header()
	if w.phase == failed {
		clear(h)
		maps.Copy(h, w.aside.answer)
		return
	}
	switch {
	case w.minted:
		w.stripCookie(&w.x.m.cookie, 1)
		w.forbidStoring(h)
	case len(h) != int(w.fields):
		w.stripCookie(&w.x.m.cookie, 0)
	default:
		// Whoever took a field out meanwhile, to put ours in under an unusual spelling,
		// could as well have used Unwrap: not worth a walk through the header of every
		// response, which was a twentieth of a request in memory.
		stripUsual(h, &w.x.m.cookie, 0)
	}
	if w.affine {
		w.stripCookie(&w.x.m.affinity.cookieHeader, 1)
		w.forbidStoring(h)
	}
}

// variesByCookie reports whether Vary says so already (RFC 9110, section 12.5.5).
func variesByCookie(lines []string) bool {
	for _, line := range lines {
		for field := range strings.SplitSeq(line, ",") {
			field = strings.TrimSpace(field)
			if field == "*" || strings.EqualFold(field, "Cookie") {
				return true
			}
		}
	}
	return false
}

// fail answers for the handler, whose page must not look as if the save had
// worked (R6).
func (w *response) fail(err error) {
	if w.aside == nil {
		w.aside = new(headers)
	}
	w.phase, w.aside.after = failed, make(http.Header)
	w.markFailed()
	h := w.rw.Header()
	clear(h)
	maps.Copy(h, w.aside.before)
	w.x.cancelable().cancel(err)
	w.x.m.answer(w.rw, w.x.request, err)
	w.aside.answer = h.Clone()
}

// markFailed closes the session for cookies and forgets the one that waited.
func (w *response) markFailed() {
	s := w.x.use()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeCookie()
}
