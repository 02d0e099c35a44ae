package thirdparty

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// rows are requests over real TCP, with what this library and scs v2.9.0 make of
// them. What is written here was observed, and a test that observes something
// else fails, so the comparison in the README stays a fact.
var rows = []struct {
	rule, name   string
	observe      func(t *testing.T, s *subject) string
	sojourn, scs string
}{
	{"R5", "plain page, new session", plainPage, "1 cookie, 1 record", "1 cookie, 1 record"},
	{"R5", "Flush first, new session", flushFirst, "1 cookie, 1 record", "0 cookie, 1 record"},
	{"R5", "103 Early Hints, then a change", earlyHints, "1 cookie, 1 record", "0 cookie, 0 record"},
	{"R5", "Hijack with a new session pending", hijack, "refused: 0 cookie, 0 record", "granted: 0 cookie, 1 record"},
	{"R5", "a file reaches the server's ReadFrom", readFrom, "yes", "no"},
	{"R6", "save fails, then the page", failedPage, "503, page false, Write told true", "500, page true, Write told false"},
	{"R6", "save fails, then a redirect", failedRedirect, "503, Location \"\"", "500, Location \"/next\""},
	{"R7", "change after the first byte", lateChange, "stored after", "stored before"},
	{"R7", "login after the first byte", lateLogin, "told true, stored before", "told false, session gone"},
	{"R10", "panic after a login", panicAfterLogin, "stored before", "session gone"},
	{"R11", "TimeoutHandler outside, login too late", tooLate, "503, 0 cookie, 0 record", "503, 0 cookie, 1 record"},
	{"R13", "handler sets a cookie of the same name", sameName, "1 cookie, 1 record", "2 cookie, 1 record"},
}

func TestPeers(t *testing.T) {
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "rule\trow\tsojourn\tscs v2.9.0")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			ours, theirs := row.observe(t, sojourn(t)), row.observe(t, edwards(t))
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", row.rule, row.name, ours, theirs)
			if ours != row.sojourn {
				t.Errorf("%s: sojourn: %q, want %q", row.rule, ours, row.sojourn)
			}
			if theirs != row.scs {
				t.Errorf("%s: scs: %q, the table says %q", row.rule, theirs, row.scs)
			}
		})
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}

func plainPage(t *testing.T, s *subject) string {
	return s.pair(s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		fmt.Fprint(w, "page")
	}))
}

func flushFirst(t *testing.T, s *subject) string {
	return s.pair(s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, "page")
	}))
}

func earlyHints(t *testing.T, s *subject) string {
	return s.pair(s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		s.set(r.Context(), "after")
		fmt.Fprint(w, "page")
	}))
}

func hijack(t *testing.T, s *subject) string {
	verdict, done := "granted", make(chan struct{})
	behind := s.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			verdict = "refused"
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	}))
	a := get(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		behind.ServeHTTP(w, r)
	})), nil)
	<-done
	return verdict + ": " + s.pair(a)
}

// readFromSpy is where the server's writer would be.
type readFromSpy struct {
	http.ResponseWriter
	reached bool
}

func (w *readFromSpy) ReadFrom(src io.Reader) (int64, error) {
	w.reached = true
	return io.Copy(w.ResponseWriter, src)
}

func readFrom(t *testing.T, s *subject) string {
	verdict := "no"
	behind := s.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.txt", time.Time{}, strings.NewReader("page"))
	}))
	get(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		spy := &readFromSpy{ResponseWriter: w}
		behind.ServeHTTP(spy, r)
		if spy.reached {
			verdict = "yes"
		}
	})), nil)
	return verdict
}

func failedPage(t *testing.T, s *subject) string {
	s.away.Store(true)
	told := false
	a := s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		_, err := fmt.Fprint(w, "page")
		told = err != nil
	})
	return fmt.Sprintf("%d, page %v, Write told %v", a.StatusCode, strings.Contains(a.body, "page"), told)
}

func failedRedirect(t *testing.T, s *subject) string {
	s.away.Store(true)
	a := s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		http.Redirect(w, r, "/next", http.StatusSeeOther)
	})
	return fmt.Sprintf("%d, Location %q", a.StatusCode, a.Header.Get("Location"))
}

func lateChange(t *testing.T, s *subject) string {
	cookie := s.visitor(t)
	s.ask(t, cookie, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "page")
		s.set(r.Context(), "after")
	})
	return s.left(t, cookie)
}

func lateLogin(t *testing.T, s *subject) string {
	cookie, told := s.visitor(t), false
	s.ask(t, cookie, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "page")
		told = s.login(r.Context()) != nil
	})
	return fmt.Sprintf("told %v, %s", told, s.left(t, cookie))
}

func panicAfterLogin(t *testing.T, s *subject) string {
	cookie := s.visitor(t)
	s.ask(t, cookie, func(_ http.ResponseWriter, r *http.Request) {
		if err := s.login(r.Context()); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	return s.left(t, cookie)
}

func tooLate(t *testing.T, s *subject) string {
	done := make(chan struct{})
	behind := s.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		s.set(r.Context(), "after")
		if err := s.login(r.Context()); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, "page")
	}))
	a := get(t, serve(t, http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		behind.ServeHTTP(w, r)
	}), time.Millisecond, "")), nil)
	<-done
	return fmt.Sprintf("%d, %s", a.StatusCode, s.pair(a))
}

func sameName(t *testing.T, s *subject) string {
	return s.pair(s.ask(t, nil, func(w http.ResponseWriter, r *http.Request) {
		s.set(r.Context(), "after")
		http.SetCookie(w, &http.Cookie{Name: s.cookie, Value: "of a backend"})
		fmt.Fprint(w, "page")
	}))
}
