package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
)

// affineSite is one application on servers that share a store, each with its name
// in the affinity cookie.
func affineSite(t *testing.T, cfg session.Config, servers ...string) map[string]*session.Manager {
	t.Helper()
	managers := make(map[string]*session.Manager)
	cfg.Store, cfg.Name = new(session.MemoryStore), "site"
	for _, name := range servers {
		cfg.Affinity.Server = name
		managers[name] = newManager(t, cfg)
	}
	return managers
}

var affineKey = session.NewKey[string]("affine").SurvivesLogin()

// affineAsk sends one request whose handler does act, with these cookies.
func affineAsk(m *session.Manager, cookies string, act func(*session.Session)) *http.Response {
	return affineServe(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		act(session.FromContext(r.Context()))
		fmt.Fprint(w, "page")
	})), cookies)
}

func affineServe(h http.Handler, cookies string) *http.Response {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	h.ServeHTTP(w, r)
	return w.Result()
}

func affineLogin(s *session.Session) {
	if err := s.Login("alice"); err != nil {
		panic(err)
	}
}

func affineLook(s *session.Session) { affineKey.Get(s) }

// affineLines are the Set-Cookie lines of one name.
func affineLines(resp *http.Response, name string) []string {
	return slices.DeleteFunc(slices.Clone(resp.Header["Set-Cookie"]), func(line string) bool {
		return !strings.HasPrefix(line, name+"=")
	})
}

func wantAffinity(t *testing.T, what string, resp *http.Response, want ...string) {
	t.Helper()
	if got := affineLines(resp, "server"); !slices.Equal(got, want) {
		t.Errorf("%s: affinity cookies %q, want %q", what, got, want)
	}
}

// affineVisitor logs in and returns the Cookie header's part for the session.
func affineVisitor(t *testing.T, m *session.Manager) string {
	t.Helper()
	for _, c := range affineAsk(m, "", affineLogin).Cookies() {
		if c.Name == "__Host-sid" {
			return c.Name + "=" + c.Value
		}
	}
	t.Fatal("no session cookie")
	return ""
}

const toServerA = "server=a; Path=/; HttpOnly; Secure; SameSite=Lax"

func TestAffinityComesWithTheSessionCookie(t *testing.T) {
	m := affineSite(t, session.Config{}, "a")["a"]
	for _, row := range []struct {
		name    string
		visitor bool
		act     func(*session.Session)
		want    []string
	}{
		{"first value", false, func(s *session.Session) { affineKey.Set(s, "x") }, []string{toServerA}},
		{"first login", false, affineLogin, []string{toServerA}},
		{"login over a session", true, affineLogin, []string{toServerA}},
		{"renew", true, func(s *session.Session) { _ = s.Renew() }, []string{toServerA}},
		{"save at once", false, func(s *session.Session) { affineKey.Set(s, "x"); _ = s.Save(context.Background()) }, []string{toServerA}},
		{"logout and a new session", true, func(s *session.Session) { s.Destroy(); affineKey.Set(s, "bye") }, []string{toServerA}},
		{"a value without a new secret", true, func(s *session.Session) { affineKey.Set(s, "x") }, nil},
		{"a look", true, affineLook, nil},
		{"logout", true, (*session.Session).Destroy, nil},
		{"begun and ended", false, func(s *session.Session) { affineLogin(s); s.Destroy() }, nil},
	} {
		cookies := ""
		if row.visitor {
			cookies = affineVisitor(t, m) + "; server=a"
		}
		resp := affineAsk(m, cookies, row.act)
		wantAffinity(t, row.name, resp, row.want...)
		if cc := resp.Header.Get("Cache-Control"); (len(resp.Header["Set-Cookie"]) > 0) != (cc == "no-store") {
			t.Errorf("%s: R12: Cache-Control %q with %d cookies", row.name, cc, len(resp.Header["Set-Cookie"]))
		}
	}
}

// Only the bytes that a browser returns for our cookie count as ours.
func TestAffinityIsRewrittenWhereASessionArrives(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["b"])
	for cookies, moved := range map[string]bool{
		"":                      true, // lost it
		"server=b":              true,
		"server=A":              true,
		"server=a1":             true,
		"server=":               true,
		"server":                true,
		`server="a"`:            true,
		"server=%61":            true,
		"xserver=a":             true,
		"server=\x00\xff":       true,
		"server = a":            true,
		"server=a":              false,
		" server=a ":            false,
		"server=b; server=a":    false, // another Path's or a neighbour's: not ours to change
		"server=a; server=b":    false,
		"x; server=a; ;":        false,
		"server=b;server=\"a\"": true,
	} {
		resp := affineAsk(site["a"], sid+"; "+cookies, affineLook)
		var want []string
		if moved {
			want = []string{toServerA}
		}
		wantAffinity(t, fmt.Sprintf("%q", cookies), resp, want...)
		if n := len(affineLines(resp, "__Host-sid")); n != 0 {
			t.Errorf("%q: %d session cookies for a look", cookies, n)
		}
		wantCC := "private"
		if moved {
			wantCC = "no-store"
		}
		if cc, vary := resp.Header.Get("Cache-Control"), resp.Header.Get("Vary"); cc != wantCC || vary != "Cookie" {
			t.Errorf("%q: R12: Cache-Control %q, want %q; Vary %q", cookies, cc, wantCC, vary)
		}
	}
}

// R1, R2: whoever has no session gets the same answer as without an Affinity, and
// so does a page whose handler did not look (R12).
func TestAffinityChangesNothingForOthers(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	plain := newManager(t, session.Config{})
	dead := affineVisitor(t, plain)
	public := func(s *session.Session) {}
	for _, row := range []struct {
		name, cookies string
		act           func(*session.Session)
	}{
		{"no cookie", "", affineLook},
		{"no cookie, does not look", "", public},
		{"affinity cookie only", "server=b", affineLook},
		{"unknown token", dead + "; server=b", affineLook},
		{"junk", "__Host-sid=junk; server=b", affineLook},
		{"logout of nobody", "server=b", (*session.Session).Destroy},
	} {
		got, want := affineAsk(site["a"], row.cookies, row.act), affineAsk(newManager(t, session.Config{}), row.cookies, row.act)
		if fmt.Sprint(got.Header) != fmt.Sprint(want.Header) {
			t.Errorf("%s: header %v, without an Affinity %v", row.name, got.Header, want.Header)
		}
	}
	resp := affineServe(site["a"].Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		fmt.Fprint(w, "logo")
	})), affineVisitor(t, site["b"])+"; server=b")
	if resp.Header.Get("Cache-Control") != "public, max-age=3600" || len(resp.Header["Set-Cookie"]) != 0 {
		t.Errorf("a static file for a visitor who was moved: header %v", resp.Header)
	}
}

// A visitor moves with the first page after which the cookie names the new server.
func TestAffinityFollowsAVisitor(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["a"])
	wantAffinity(t, "moved to b", affineAsk(site["b"], sid+"; server=a", affineLook), strings.Replace(toServerA, "=a;", "=b;", 1))
	wantAffinity(t, "at home on b", affineAsk(site["b"], sid+"; server=b", affineLook))
	wantAffinity(t, "moved back", affineAsk(site["a"], sid+"; server=b", affineLook), toServerA)
}

// What kind of answer it is does not matter, only whether its handler looked.
func TestAffinityOnEveryKindOfAnswer(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["b"])
	for _, p := range pages {
		for _, looks := range []bool{true, false} {
			w, r := httptest.NewRecorder(), httptest.NewRequest(p.method, "/", nil)
			r.Header.Set("Cookie", sid+"; server=b")
			site["a"].Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if looks {
					affineLook(session.FromContext(r.Context()))
				}
				r.Header.Del("Cookie") // as what passes a request on may do
				p.write(w, r)
			})).ServeHTTP(w, r)
			var want []string
			if looks {
				want = []string{toServerA}
			}
			wantAffinity(t, fmt.Sprint(p.name, ", looks ", looks), w.Result(), want...)
			if w.Code != p.status {
				t.Errorf("%s: status %d, want %d", p.name, w.Code, p.status)
			}
		}
	}
}

// R6: an error page carries no cookie of ours, whatever the request came with.
func TestAffinityIsNotOnErrorPages(t *testing.T) {
	site := affineSite(t, session.Config{}, "a")
	for name, cookies := range map[string]string{"new": "", "moved": affineVisitor(t, site["a"])} {
		resp := affineAsk(site["a"], cookies, func(s *session.Session) { affineKey.Set(s, "\xff") })
		if resp.StatusCode != http.StatusInternalServerError || len(resp.Header["Set-Cookie"]) != 0 {
			t.Errorf("R6: %s: status %d, cookies %q", name, resp.StatusCode, resp.Header["Set-Cookie"])
		}
	}
}

// R7, R10: a logout by another request leaves nothing to send a visitor to.
func TestAffinityIsNotForASessionThatEnded(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["a"])
	resp := affineAsk(site["b"], sid+"; server=a", func(s *session.Session) {
		affineLook(s)
		affineAsk(site["a"], sid+"; server=a", (*session.Session).Destroy)
		s.Destroy()
	})
	wantAffinity(t, "logout in the middle of another", resp)
}

// R13: of the affinity's name, one cookie leaves: ours if there is one.
func TestAffinityR13OneCookie(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["b"])
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "server=z; Path=/")
		w.Header()["set-cookie"] = []string{"server=y"}
		affineLook(session.FromContext(r.Context()))
		fmt.Fprint(w, "page")
		w.Header().Add("Set-Cookie", "server=x")
	})
	wantAffinity(t, "moved", affineServe(site["a"].Handler(own), sid), toServerA)
	wantAffinity(t, "moved, behind a buffer", affineServe(http.TimeoutHandler(site["a"].Handler(own), time.Hour, ""), sid), toServerA)
	if got := affineServe(site["a"].Handler(own), sid+"; server=a").Header.Values("Set-Cookie"); len(got) != 1 || got[0] != "server=z; Path=/" {
		t.Errorf("at home: the handler's own cookie became %q", got)
	}
}

// Two managers of one server may name it in one cookie, whichever wraps the other,
// and a logout of one leaves the other's visitors where they are.
func TestAffinityOfTwoManagers(t *testing.T) {
	site := newManager(t, session.Config{Affinity: session.Affinity{Server: "a"}})
	admin := newManager(t, session.Config{Affinity: session.Affinity{Server: "a"}, Cookie: session.Cookie{Name: "__Host-admin"}})
	serve := func(cookies string, act func(site, admin *session.Session)) *http.Response {
		return affineServe(site.Handler(admin.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			act(site.FromContext(r.Context()), admin.FromContext(r.Context()))
		}))), cookies)
	}
	both := serve("", func(s, a *session.Session) { affineLogin(s); affineLogin(a) })
	wantAffinity(t, "both log in", both, toServerA)
	wantAffinity(t, "the inner one logs in", serve("", func(_, a *session.Session) { affineLogin(a) }), toServerA)
	wantAffinity(t, "the outer one logs in", serve("", func(s, _ *session.Session) { affineLogin(s) }), toServerA)
	cookies := "server=a"
	for _, c := range both.Cookies() {
		if c.Name != "server" {
			cookies += "; " + c.Name + "=" + c.Value
		}
	}
	resp := serve(cookies, func(s, a *session.Session) { s.Destroy(); affineLook(a) })
	wantAffinity(t, "the outer one logs out", resp)
	if got := affineLines(resp, "__Host-sid"); len(got) != 1 {
		t.Errorf("logout: session cookies %q, want one that clears", got)
	}
}

func TestAffinityHasTheSessionCookiesAttributes(t *testing.T) {
	for name, row := range map[string]struct {
		cookie session.Cookie
		want   string
	}{
		"zero":     {session.Cookie{}, toServerA},
		"insecure": {session.Cookie{InsecureHTTP: true}, "server=a; Path=/; HttpOnly; SameSite=Lax"},
		"shared":   {session.Cookie{Domain: "example.com", Path: "/app", SameSite: http.SameSiteStrictMode}, "server=a; Path=/app; Domain=example.com; HttpOnly; Secure; SameSite=Strict"},
		"persist":  {session.Cookie{Persist: true}, toServerA + "; Max-Age=3600"},
	} {
		m := newManager(t, session.Config{Cookie: row.cookie, Lifetime: time.Hour, Affinity: session.Affinity{Server: "a"}})
		login := affineAsk(m, "", affineLogin)
		sid, _, _ := strings.Cut(login.Header["Set-Cookie"][0], ";")
		for when, resp := range map[string]*http.Response{"login": login, "moved": affineAsk(m, sid, affineLook)} {
			got := strings.Join(affineLines(resp, "server"), " ")
			got = strings.Replace(got, "Max-Age=3599", "Max-Age=3600", 1) // a clock moved on
			if got != row.want {
				t.Errorf("%s, %s: %q, want %q", name, when, got, row.want)
			}
		}
	}
}

// R5: a response that switches protocols carries it; a bare Hijack cannot, and
// goes ahead all the same.
func TestAffinityOfAnUpgrade(t *testing.T) {
	site := affineSite(t, session.Config{}, "a", "b")
	sid := affineVisitor(t, site["b"])
	for name, row := range map[string]struct {
		upgrade func(w http.ResponseWriter)
		want    string
	}{
		"WriteHeader": {func(w http.ResponseWriter) {
			w.Header().Set("Upgrade", "echo")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
		}, toServerA},
		"Hijack": {func(w http.ResponseWriter) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("R5: %v", err)
				return
			}
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
			_ = rw.Flush()
			conn.Close()
		}, ""},
	} {
		server := httptest.NewServer(site["a"].Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			affineLook(session.FromContext(r.Context()))
			row.upgrade(w)
		})))
		req, _ := http.NewRequest("GET", server.URL, nil)
		req.Header = http.Header{"Cookie": {sid + "; server=b"}, "Connection": {"Upgrade"}, "Upgrade": {"echo"}}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := strings.Join(affineLines(resp, "server"), ""); resp.StatusCode != http.StatusSwitchingProtocols || got != row.want {
			t.Errorf("%s: status %d, affinity %q, want %q", name, resp.StatusCode, got, row.want)
		}
		server.Close()
	}
}

func TestAffinityFaultsAreReportedByNew(t *testing.T) {
	for name, row := range map[string]struct {
		cfg   session.Config
		words []string // the error has them all
	}{
		"no server":          {session.Config{Affinity: session.Affinity{Cookie: "x"}}, []string{"Config.Affinity.Server"}},
		"characters":         {session.Config{Affinity: session.Affinity{Server: "a.example.com"}}, []string{"Config.Affinity.Server"}},
		"a line break":       {session.Config{Affinity: session.Affinity{Server: "a\r\nSet-Cookie: x=y"}}, []string{"Config.Affinity.Server"}},
		"too long":           {session.Config{Affinity: session.Affinity{Server: strings.Repeat("a", 33)}}, []string{"Config.Affinity.Server", "32"}},
		"cookie's name":      {session.Config{Affinity: session.Affinity{Server: "a", Cookie: "a b"}}, []string{"Config.Affinity.Cookie"}},
		"the session's":      {session.Config{Affinity: session.Affinity{Server: "a", Cookie: "__HOST-SID"}}, []string{"Config.Affinity.Cookie", "another"}},
		"prefix with a Path": {session.Config{Cookie: session.Cookie{Path: "/x"}, Affinity: session.Affinity{Server: "a", Cookie: "__Host-server"}}, []string{"Config.Affinity.Cookie", "Path"}},
		"all at once": {session.Config{IdleTimeout: -1, Cookie: session.Cookie{Name: "="}, Affinity: session.Affinity{Server: "é", Cookie: ";"}},
			[]string{"IdleTimeout", "session: Cookie", "Affinity.Server", "Affinity.Cookie"}},
	} {
		_, err := session.New(row.cfg)
		for _, word := range row.words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v does not say %q", name, err, word)
			}
		}
	}
	longest := session.Affinity{Server: "-_" + strings.Repeat("Z9", 15), Cookie: "__Host-server"}
	if _, err := session.New(session.Config{Affinity: longest}); err != nil {
		t.Error(err)
	}
}

// What a visitor sends in the cookie is compared and nothing more: no event, no
// log line, no error and no call to the store has to do with it.
func TestAffinityIsNeverTrusted(t *testing.T) {
	const planted = "planted-by-the-visitor"
	logs := new(logBuffer)
	var events []string
	store := &faultStore{Store: new(session.MemoryStore)}
	calls := 0
	store.on(func(string) error { calls++; return nil })
	m := newManager(t, session.Config{
		Store: store, Logger: slog.New(slog.NewTextHandler(logs, nil)), Affinity: session.Affinity{Server: "a"},
		OnEvent: func(_ context.Context, e session.Event) { events = append(events, fmt.Sprintf("%+v", e)) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			events = append(events, err.Error())
			http.Error(w, "no", http.StatusInternalServerError)
		},
	})
	affineAsk(m, "server="+planted, affineLook)
	if calls != 0 {
		t.Errorf("R1: %d calls to the store for an affinity cookie", calls)
	}
	sid := affineVisitor(t, m)
	calls = 0
	resp := affineAsk(m, sid+"; server="+planted, affineLook)
	if calls != 1 {
		t.Errorf("R4: %d calls to the store for a look, want 1", calls)
	}
	failed := affineAsk(m, sid+"; server="+planted, func(s *session.Session) { affineKey.Set(s, "\xff") })
	all := fmt.Sprint(logs, events, resp.Header, failed.Header)
	if strings.Contains(all, planted) {
		t.Errorf("the visitor's value came out again: %s", all)
	}
}
