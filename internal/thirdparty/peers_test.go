package thirdparty

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"
	"github.com/gorilla/sessions"
	"github.com/sojourn-go/session"
)

// sessionRows are what happens to one visitor's session, here and with scs
// v2.9.0 and gorilla/sessions v1.4.0 on its FilesystemStore. What is written
// here was observed; a test that observes something else fails.
var sessionRows = []struct {
	rule, name            string
	observe               func(t *testing.T, p *peer) string
	sojourn, scs, gorilla string
}{
	{"C2", "two requests change different keys at once", differentKeys, "both kept", "one lost", "one lost"},
	{"C2", "ten requests count at once", countAtOnce, "10", "1", "1"},
	{"C4", "logout while a writer runs", logoutBesideWriter, "logged out, writer told 409", "logged in again, writer told 200", "logged in again, writer told 200"},
	{"C4", "logout while a reader runs, with an idle timeout", logoutBesideReader, "logged out", "logged in again", "logged out"},
	{"R4", "a read, with an idle timeout", readWrites, "0 writes", "1 writes", "0 writes"},
	{"L1", "the cookie from before a login", oldCookie, "anonymous", "anonymous", "logged in"},
	{"L2", "a value planted before a login", plantedValue, "gone", "kept", "kept"},
	{"T1", "what the store holds, sent as a cookie", dumpAsCookie, "anonymous", "logged in", "anonymous"},
	{"T6", "the default cookie", defaultCookie, "__Host-sid HttpOnly Secure SameSite=Lax", "session HttpOnly SameSite=Lax", "session"},
}

func TestPeersSessions(t *testing.T) {
	for _, row := range sessionRows {
		for _, p := range []struct {
			open func(t *testing.T) *peer
			want string
		}{{openSojourn, row.sojourn}, {openSCS, row.scs}, {openGorilla, row.gorilla}} {
			peer := p.open(t)
			t.Run(row.name+"/"+peer.name, func(t *testing.T) {
				got := row.observe(t, peer)
				if got != p.want {
					t.Errorf("%s: %q, the table says %q", row.rule, got, p.want)
				}
				t.Logf("%s: %s", row.rule, got)
			})
		}
	}
}

// A pocket is one request's session.
type pocket interface {
	get(key string) int
	add(key string, n int)
	login()
	logout()
	user() string
}

// A peer is a library, used as its README says, with an idle timeout where it
// has one.
type peer struct {
	name   string
	serve  func(handle func(p pocket)) http.Handler
	dump   func() [][]byte // keys and values of the store
	writes func() int
}

// send runs one request with a cookie header, and returns the status and the
// cookie header that the browser would send next.
func (p *peer) send(cookie string, handle func(p pocket)) (status int, next string) {
	r := httptest.NewRequest(http.MethodGet, "https://shop.example/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	p.serve(handle).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		cookie = c.Name + "=" + c.Value
	}
	return w.Code, cookie
}

func (p *peer) begin() (cookie string) {
	_, cookie = p.send("", func(s pocket) { s.add("begun", 1) })
	return cookie
}

func (p *peer) beginLoggedIn() (cookie string) {
	_, cookie = p.send("", func(s pocket) { s.login() })
	return cookie
}

func (p *peer) who(cookie string) (user string) {
	p.send(cookie, func(s pocket) { user = s.user() })
	return user
}

// hold runs a request that has loaded its session when hold returns, and goes
// on with handle when release is called, which waits for its end.
func (p *peer) hold(cookie string, handle func(p pocket)) (release func() (status int)) {
	loaded, goOn, done := make(chan struct{}), make(chan struct{}), make(chan int)
	go func() {
		status, _ := p.send(cookie, func(s pocket) {
			s.user()
			close(loaded)
			<-goOn
			handle(s)
		})
		done <- status
	}()
	<-loaded
	return func() int {
		close(goOn)
		return <-done
	}
}

func differentKeys(_ *testing.T, p *peer) string {
	cookie := p.begin()
	one := p.hold(cookie, func(s pocket) { s.add("one", 1) })
	two := p.hold(cookie, func(s pocket) { s.add("two", 1) })
	one()
	two()
	kept := 0
	p.send(cookie, func(s pocket) { kept = s.get("one") + s.get("two") })
	if kept == 2 {
		return "both kept"
	}
	return "one lost"
}

func countAtOnce(_ *testing.T, p *peer) string {
	cookie := p.begin()
	var releases []func() int
	for range 10 {
		releases = append(releases, p.hold(cookie, func(s pocket) { s.add("count", 1) }))
	}
	for _, release := range releases {
		release()
	}
	count := 0
	p.send(cookie, func(s pocket) { count = s.get("count") })
	return fmt.Sprint(count)
}

func loggedIn(user string) string {
	if user == "alice" {
		return "logged in"
	}
	return "anonymous"
}

func afterLogout(user string) string {
	if user == "alice" {
		return "logged in again"
	}
	return "logged out"
}

func logoutBesideWriter(_ *testing.T, p *peer) string {
	cookie := p.beginLoggedIn()
	release := p.hold(cookie, func(s pocket) { s.add("late", 1) })
	p.send(cookie, func(s pocket) { s.logout() })
	status := release()
	return fmt.Sprintf("%s, writer told %d", afterLogout(p.who(cookie)), status)
}

func logoutBesideReader(_ *testing.T, p *peer) string {
	cookie := p.beginLoggedIn()
	release := p.hold(cookie, func(s pocket) { s.get("anything") })
	p.send(cookie, func(s pocket) { s.logout() })
	release()
	return afterLogout(p.who(cookie))
}

func readWrites(_ *testing.T, p *peer) string {
	cookie := p.begin()
	before := p.writes()
	p.send(cookie, func(s pocket) { s.get("begun") })
	return fmt.Sprint(p.writes()-before, " writes")
}

func oldCookie(_ *testing.T, p *peer) string {
	before := p.begin()
	p.send(before, func(s pocket) { s.login() })
	return loggedIn(p.who(before))
}

func plantedValue(_ *testing.T, p *peer) string {
	cookie := p.begin()
	_, cookie = p.send(cookie, func(s pocket) { s.login() })
	n := 0
	p.send(cookie, func(s pocket) { n = s.get("begun") })
	if n == 0 {
		return "gone"
	}
	return "kept"
}

// dumpAsCookie presents whatever the store holds, in the spellings that a cookie
// could have.
func dumpAsCookie(_ *testing.T, p *peer) string {
	cookie := p.beginLoggedIn()
	name, _, _ := strings.Cut(cookie, "=")
	for _, held := range p.dump() {
		for _, value := range []string{
			string(held), hex.EncodeToString(held),
			base64.RawURLEncoding.EncodeToString(held), base64.RawURLEncoding.EncodeToString(held[:min(len(held), 48)]),
		} {
			if !strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || r == ';' }) && p.who(name+"="+value) == "alice" {
				return "logged in"
			}
		}
	}
	return "anonymous"
}

func defaultCookie(_ *testing.T, p *peer) string {
	w := httptest.NewRecorder()
	p.serve(func(s pocket) { s.add("n", 1) }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://shop.example/", nil))
	c := w.Result().Cookies()[0]
	words := []string{c.Name}
	for _, attr := range []string{"HttpOnly", "Secure", "SameSite=Lax", "SameSite=Strict", "SameSite=None"} {
		if strings.Contains(c.Raw, "; "+attr) {
			words = append(words, attr)
		}
	}
	return strings.Join(words, " ")
}

// This library.

type sojournPocket struct{ s *session.Session }

func number(name string) session.Key[int] { return session.NewKey[int](name) }

func (p sojournPocket) get(key string) int { return number(key).Get(p.s) }
func (p sojournPocket) add(key string, n int) {
	number(key).Update(p.s, func(was int) int { return was + n })
}
func (p sojournPocket) logout()      { p.s.Destroy() }
func (p sojournPocket) user() string { return p.s.User() }

func (p sojournPocket) login() {
	if err := p.s.Login("alice"); err != nil {
		panic(err)
	}
}

// countedStore counts what reaches it and remembers what it was given.
type countedStore struct {
	session.MemoryStore
	mu     sync.Mutex
	writes int
	held   [][]byte
}

func (s *countedStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.mu.Lock()
	s.writes++
	s.held = append(s.held, id[:], []byte(id.String()), next.Data, []byte(next.Owner))
	for at := 0; at+32 <= len(next.Data); at++ { // the hash wherever it is, behind the ID as in a token
		s.held = append(s.held, append(bytes.Clone(id[:]), next.Data[at:at+32]...))
	}
	s.mu.Unlock()
	return s.MemoryStore.Save(ctx, id, prev, next, ttl)
}

func openSojourn(t *testing.T) *peer {
	store := new(countedStore)
	m, err := session.New(session.Config{Store: store, Name: "peers", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &peer{
		name: "sojourn",
		serve: func(handle func(pocket)) http.Handler {
			return m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				handle(sojournPocket{session.FromContext(r.Context())})
			}))
		},
		dump:   func() [][]byte { return store.held },
		writes: func() int { return store.writes },
	}
}

// scs

type scsPocket struct {
	m   *scs.SessionManager
	ctx context.Context
}

func (p scsPocket) get(key string) int    { return p.m.GetInt(p.ctx, key) }
func (p scsPocket) add(key string, n int) { p.m.Put(p.ctx, key, p.get(key)+n) }
func (p scsPocket) user() string          { return p.m.GetString(p.ctx, "user") }

func (p scsPocket) login() {
	if err := p.m.RenewToken(p.ctx); err != nil {
		panic(err)
	}
	p.m.Put(p.ctx, "user", "alice")
}

func (p scsPocket) logout() {
	if err := p.m.Destroy(p.ctx); err != nil {
		panic(err)
	}
}

type countedSCSStore struct {
	*memstore.MemStore
	mu     sync.Mutex
	writes int
}

func (s *countedSCSStore) Commit(token string, b []byte, expiry time.Time) error {
	s.mu.Lock()
	s.writes++
	s.mu.Unlock()
	return s.MemStore.Commit(token, b, expiry)
}

func openSCS(t *testing.T) *peer {
	store := &countedSCSStore{MemStore: memstore.NewWithCleanupInterval(0)}
	m := scs.New()
	m.Store, m.IdleTimeout = store, 30*time.Minute
	return &peer{
		name: "scs",
		serve: func(handle func(pocket)) http.Handler {
			return m.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				handle(scsPocket{m, r.Context()})
			}))
		},
		dump: func() (held [][]byte) {
			all, err := store.All()
			if err != nil {
				t.Fatal(err)
			}
			for token, data := range all {
				held = append(held, []byte(token), data)
			}
			return held
		},
		writes: func() int { return store.writes },
	}
}

// gorilla/sessions

type gorillaPocket struct {
	s       *sessions.Session
	changed bool
}

func (p *gorillaPocket) get(key string) int {
	n, _ := p.s.Values[key].(int)
	return n
}

func (p *gorillaPocket) user() string {
	user, _ := p.s.Values["user"].(string)
	return user
}

func (p *gorillaPocket) add(key string, n int) { p.s.Values[key], p.changed = p.get(key)+n, true }
func (p *gorillaPocket) login()                { p.s.Values["user"], p.changed = "alice", true }
func (p *gorillaPocket) logout()               { p.s.Options.MaxAge, p.changed = -1, true }

func openGorilla(t *testing.T) *peer {
	gob.Register(0)
	dir := t.TempDir()
	store := sessions.NewFilesystemStore(dir, []byte("0123456789abcdef0123456789abcdef"))
	writes := 0
	return &peer{
		name: "gorilla",
		serve: func(handle func(pocket)) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, _ := store.Get(r, "session") // an error comes with a new session, which most programs use
				p := &gorillaPocket{s: s}
				handle(p)
				if !p.changed {
					return
				}
				writes++
				if err := s.Save(r, w); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			})
		},
		dump: func() (held [][]byte) {
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				id := strings.TrimPrefix(filepath.Base(file), "session_")
				held = append(held, []byte(id), data)
			}
			return held
		},
		writes: func() int { return writes },
	}
}
