package session_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/session"
)

// proxied serves a reverse proxy to backend behind the manager. Before the
// proxy acts, act does.
func (w *wire) proxied(backend http.HandlerFunc, act func(*session.Session)) *tcpSite {
	w.Helper()
	server := httptest.NewServer(backend)
	w.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		w.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, err error) {
			http.Error(rw, err.Error(), http.StatusBadGateway)
		},
	}
	return w.handle(func(rw http.ResponseWriter, r *http.Request) {
		act(session.FromContext(r.Context()))
		proxy.ServeHTTP(rw, r)
	})
}

// What a backend sends arrives, but for cookies of our name (R13).
func TestResponseR13ReverseProxyPassesWhatIsNotOurs(t *testing.T) {
	eachWire(t, func(w *wire) {
		site := w.proxied(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Link", "</a.css>; rel=preload")
			rw.Header().Set("Set-Cookie", "__Host-sid=of the backend")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.Header().Add("Set-Cookie", "theme=dark")
			rw.Header().Set("Trailer", "X-Sum")
			rw.Header().Set("Vary", "Accept")
			fmt.Fprint(rw, "page")
			rw.(http.Flusher).Flush()
			rw.Header().Set("X-Sum", "42")
			rw.Header().Set(http.TrailerPrefix+"X-More", "43")
		}, func(s *session.Session) { note.Set(s, "after") })
		var hints []string
		r := site.request("GET", nil)
		a := site.do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, header["Link"], header["Set-Cookie"]))
				return nil
			},
		})))
		if want := []string{"103 [</a.css>; rel=preload] []"}; !slices.Equal(hints, want) {
			t.Errorf("hints %q, want %q", hints, want)
		}
		if a.body != "page" || a.Trailer.Get("X-Sum") != "42" || a.Trailer.Get("X-More") != "43" {
			t.Errorf("body %q, trailers %v", a.body, a.Trailer)
		}
		if c := a.Cookies(); len(c) != 2 || c[0].Name != "theme" {
			t.Errorf("cookies %v, want the backend's other one and ours", c)
		}
		if v := a.Header["Vary"]; !slices.Equal(v, []string{"Accept", "Cookie"}) {
			t.Errorf("Vary %q", v)
		}
		w.wantStored(w.wantPair(a), "after")
	})
}

func TestResponseR13ReverseProxyWithoutAChange(t *testing.T) {
	eachWire(t, func(w *wire) {
		a := w.proxied(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Set-Cookie", "__Host-sid=of the backend")
			rw.WriteHeader(204)
		}, func(*session.Session) {}).get(nil)
		if a.StatusCode != 204 || len(a.Cookies()) != 0 {
			t.Errorf("status %d, cookies %v", a.StatusCode, a.Cookies())
		}
	})
}

// echo is a backend that switches to a protocol which sends back a line.
func echo(rw http.ResponseWriter, _ *http.Request) {
	conn, buf, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_ = buf.Flush()
	line, _ := buf.ReadString('\n')
	_, _ = buf.WriteString(line)
	_ = buf.Flush()
}

func (s *tcpSite) upgrade(cookie *http.Cookie) *http.Response {
	s.w.Helper()
	r := s.request("GET", cookie)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	return s.begin(r)
}

// A proxy upgrades by Hijack: what needs no cookie is saved before the 101.
func TestResponseR5ReverseProxyUpgrade(t *testing.T) {
	eachHTTP1Wire(t, func(w *wire) {
		w.row("of a stored session", func(w *wire) {
			cookie := w.visitor()
			resp := w.proxied(echo, func(s *session.Session) { note.Set(s, "after") }).upgrade(cookie)
			if resp.StatusCode != 101 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			w.wantStored(cookie, "after")
			stream := resp.Body.(io.ReadWriter)
			fmt.Fprintln(stream, "hello")
			if line, err := bufio.NewReader(stream).ReadString('\n'); err != nil || line != "hello\n" {
				t.Errorf("echo %q, %v", line, err)
			}
		})
		w.row("of a new session", func(w *wire) {
			resp := w.proxied(echo, func(s *session.Session) { note.Set(s, "after") }).upgrade(nil)
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 502 || !strings.Contains(string(text), session.ErrCommitted.Error()) {
				t.Errorf("status %d, body %q", resp.StatusCode, text)
			}
			w.wantNeither(&tcpAnswer{Response: resp})
		})
	})
}

// The proxy copies the header of an upgrade from the backend after Hijack, past
// every writer: docs/response.md says where to drop a cookie of our name then.
func TestResponseR13ReverseProxyUpgradeIsNotSeen(t *testing.T) {
	eachHTTP1Wire(t, func(w *wire) {
		resp := w.proxied(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Connection", "Upgrade")
			rw.Header().Set("Upgrade", "echo")
			rw.Header().Set("Set-Cookie", "__Host-sid=of the backend")
			rw.WriteHeader(http.StatusSwitchingProtocols)
		}, func(*session.Session) {}).upgrade(nil)
		if c := resp.Cookies(); resp.StatusCode != 101 || len(c) != 1 || c[0].Value != "of the backend" {
			t.Errorf("status %d, cookies %v: net/http/httputil changed, and so may docs/response.md", resp.StatusCode, c)
		}
	})
}

// http.MaxBytesHandler limits on either side. Only outside does it reach the
// server's own writer, which it tells to close the connection.
func TestResponseMaxBytesHandler(t *testing.T) {
	eachWire(t, func(w *wire) {
		read := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			note.Set(session.FromContext(r.Context()), "after")
			_, err := io.ReadAll(r.Body)
			if tooLarge := (*http.MaxBytesError)(nil); !errors.As(err, &tooLarge) {
				t.Errorf("the body ended with %v", err)
			}
			http.Error(rw, "too large", http.StatusRequestEntityTooLarge)
		})
		orders := map[string]http.Handler{
			"outside": http.MaxBytesHandler(w.m.Handler(read), 4),
			"inside":  w.m.Handler(http.MaxBytesHandler(read, 4)),
		}
		for name, h := range orders {
			w.Run(name, func(t *testing.T) {
				site := w.serve(h)
				r := site.request("POST", nil)
				r.Body = io.NopCloser(onlyReader("too much"))
				a := site.do(r)
				if closes := name == "outside" && !w.http2; a.StatusCode != 413 || a.Close != closes {
					t.Errorf("status %d, Connection: close is %v", a.StatusCode, a.Close)
				}
				if c := a.granted(); len(c) != 1 {
					t.Fatalf("cookies %v", c)
				}
				w.wantStored(a.granted()[0], "after")
			})
		}
	})
}
