package session_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// spellings are the ways in which a token could show.
func spellings(t testing.TB, cookie string) map[string]string {
	t.Helper()
	_, token, _ := strings.Cut(cookie, "=")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 48 {
		t.Fatalf("%q is not a token", token)
	}
	secret := raw[16:]
	return map[string]string{
		"token":             token,
		"secret":            string(secret),
		"hex":               hex.EncodeToString(secret),
		"base64url":         base64.RawURLEncoding.EncodeToString(secret),
		"base64":            base64.StdEncoding.EncodeToString(secret),
		"decimal":           strings.Trim(fmt.Sprint(secret), "[]"),
		"Go syntax":         strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"),
		"token's last half": token[32:],
	}
}

func refuse(t *testing.T, where, text string, secrets map[string]string) {
	t.Helper()
	for how, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the %s: %s", where, how, text)
		}
	}
}

// TestT2NothingPrintsTheSecret puts everything that a handler can get hold of
// through every verb of fmt, slog and JSON, while the cookie is still unsent.
func TestT2NothingPrintsTheSecret(t *testing.T) {
	var logs bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var events []session.Event
	store := new(session.MemoryStore)
	m := newManager(t, session.Config{Store: store, Logger: logger, OnEvent: func(_ context.Context, e session.Event) { events = append(events, e) }})
	var printed []string
	show := func(things ...any) {
		for _, v := range things {
			type exported struct{ V any }
			type unexported struct{ v any }
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				for _, wrapped := range []any{v, &v, exported{v}, unexported{v}, []any{v}, map[string]any{"k": v}} {
					printed = append(printed, fmt.Sprintf(verb, wrapped))
				}
			}
			logger.Info("x", "v", v)
			text, _ := json.Marshal(v)
			printed = append(printed, string(text))
		}
	}
	v := &guest{t: t, manager: m}
	v.request(func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		nameKey.Set(s, "x")
		if err := s.Save(r.Context()); err != nil {
			t.Fatal(err)
		}
		show(s, r.Context(), m, store, nameKey, w.Header())
	})
	v.request(func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := s.Login("alice"); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(r.Context()); err != nil {
			t.Fatal(err)
		}
		listed, err := m.Sessions(r.Context(), "alice")
		if err != nil || len(listed) != 1 {
			t.Fatal(listed, err)
		}
		show(s, r.Context(), m, store, w, listed, listed[0], session.ErrTooManySessions)
	})
	for _, e := range events {
		show(e)
	}
	secrets := spellings(t, v.cookie)
	for _, text := range printed {
		refuse(t, "fmt or JSON", text, secrets)
	}
	refuse(t, "the log", logs.String(), secrets)
	if len(printed) < 200 || len(events) < 2 {
		t.Fatalf("only %d texts, %d events", len(printed), len(events))
	}
}

// TestNothingStoredIsACredential presents everything that the store ever saw,
// in every spelling, as a cookie (T40).
func TestNothingStoredIsACredential(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	m := newManager(t, session.Config{Store: spy})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { nameKey.Set(s, "x") })
	v.visit(func(s *session.Session) { s.Login("alice") })
	v.visit(func(s *session.Session) { s.Renew() })
	secrets := spellings(t, v.cookie)
	seen := spy.seen
	for _, stored := range seen {
		refuse(t, "the store", stored, secrets)
	}
	try := func(value string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "__Host-sid="+value)
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if s := session.FromContext(r.Context()); s.User() != "" || s.ID() != uuid.Nil {
				t.Errorf("%q opens %v", value, s)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, stored := range seen {
		try(stored)
		for at := 0; at+48 <= len(stored); at++ {
			try(base64.RawURLEncoding.EncodeToString([]byte(stored[at : at+48])))
		}
		if id, err := uuid.Parse(stored); err == nil {
			for _, data := range seen {
				for at := 0; at+32 <= len(data); at++ {
					try(base64.RawURLEncoding.EncodeToString(append(id[:], data[at:at+32]...)))
				}
			}
		}
	}
}

// TestT3ManagersOnOneStore: a token of one application means nothing to another.
func TestT3ManagersOnOneStore(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		shop := &guest{t: t, manager: newManager(t, session.Config{Store: store, Name: "shop"})}
		shop.visit(func(s *session.Session) { s.Login("alice") })
		admin := &guest{t: t, manager: newManager(t, session.Config{Store: store, Name: "admin"}), cookie: shop.cookie}
		admin.visit(func(s *session.Session) {
			if s.User() != "" || s.ID() != uuid.Nil {
				t.Errorf("the shop's token opens %v in the admin application", s)
			}
			nameKey.Set(s, "x")
		})
		shop.visit(func(s *session.Session) {
			if s.User() != "alice" {
				t.Error("alice is gone")
			}
		})
	})
}

// TestT7TokensTravelInTheCookieOnly tries every other way in (T26).
func TestT7TokensTravelInTheCookieOnly(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	m := newManager(t, session.Config{Store: spy})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { s.Login("alice") })
	_, token, _ := strings.Cut(v.cookie, "=")
	loads := spy.loads
	form := strings.NewReader("__Host-sid=" + token + "&sid=" + token)
	r := httptest.NewRequest("POST", "/"+token+"?__Host-sid="+token+"&sid="+token, form)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, name := range []string{"Authorization", "X-Session", "X-Auth-Token", "Set-Cookie", "Cookie2"} {
		r.Header.Set(name, "__Host-sid="+token)
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s := session.FromContext(r.Context()); s.User() != "" {
			t.Errorf("logged in without a cookie: %v", s)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	if spy.loads != loads {
		t.Errorf("%d look-ups", spy.loads-loads)
	}
}

// hostileCookies are Cookie headers that somebody may send (T25, 2g of the
// weaknesses that other libraries published).
func hostileCookies(good string) map[string]string {
	long := strings.Repeat("A", 64)
	return map[string]string{
		"empty":               "",
		"no value":            "__Host-sid",
		"empty value":         "__Host-sid=",
		"all A":               "__Host-sid=" + long,
		"one short":           "__Host-sid=" + long[1:],
		"one long":            "__Host-sid=" + long + "A",
		"8 kB":                "__Host-sid=" + strings.Repeat("A", 8000),
		"standard base64":     "__Host-sid=" + strings.Repeat("+/", 32),
		"padding":             "__Host-sid=" + long[:62] + "==",
		"percent":             "__Host-sid=%00" + long[3:],
		"CR LF":               "__Host-sid=" + long[:32] + "\r\nSet-Cookie: a=b" + long[:16],
		"NUL":                 "__Host-sid=\x00" + long[1:],
		"ESC":                 "__Host-sid=\x1b[31m" + long[5:],
		"high bytes":          "__Host-sid=" + strings.Repeat("\xff", 64),
		"path traversal":      "__Host-sid=" + strings.Repeat("../", 21) + "x",
		"redis key":           "__Host-sid=session:*\n" + long[11:],
		"quoted":              `__Host-sid="` + good + `"`,
		"percent name":        "__%48ost-sid=" + good,
		"other case":          "__host-SID=" + good,
		"nameless":            "=__Host-sid=" + good,
		"unicode blank":       "\u2000__Host-sid=" + good,
		"no-break space":      "\u00a0__Host-sid=" + good,
		"version":             `$Version=1; __Host-sid="` + good + `"; $Path="/"`,
		"3001 cookies":        strings.Repeat("a=b; ", 3001) + "__Host-sid=" + good,
		"1000 of our name":    strings.Repeat("__Host-sid="+long+"; ", 1000),
		"1000 different":      thousand(),
		"only dividers":       strings.Repeat(";", 10_000),
		"comma":               "a=b, __Host-sid=" + good,
		"dotted prefix":       "..Host-sid=" + good,
		"another application": "__Host-other=" + good,
	}
}

func thousand() string {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "__Host-sid=%064d; ", i)
	}
	return b.String()
}

// TestHostileCookies: 200 with an anonymous session, no write, at most three
// look-ups, and not a byte of it in the log (R3, T71).
func TestHostileCookies(t *testing.T) {
	var logs bytes.Buffer
	spy := &spyStore{Store: new(session.MemoryStore)}
	m := newManager(t, session.Config{Store: spy, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { s.Login("alice") })
	_, good, _ := strings.Cut(v.cookie, "=")
	for name, header := range hostileCookies(good) {
		logs.Reset()
		spy.loads, spy.saves, spy.touches, spy.dels = 0, 0, 0, 0
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Cookie"] = []string{header}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if s := session.FromContext(r.Context()); s.User() != "" || nameKey.Get(s) != "" {
				t.Errorf("%s: opens %v", name, s)
			}
		})).ServeHTTP(w, r)
		if w.Code != http.StatusOK || len(w.Result().Cookies()) > 0 || spy.loads > 3 || spy.calls() != spy.loads {
			t.Errorf("%s: status %d, cookies %v, %d look-ups of %d calls", name, w.Code, w.Result().Cookies(), spy.loads, spy.calls())
		}
		if logs.Len() > 0 {
			t.Errorf("%s: logged %q", name, logs.String())
		}
	}
}

// A fixedStore answers each Load with the same record.
type fixedStore struct {
	session.Store
	record session.Record
}

func (s *fixedStore) Load(context.Context, uuid.UUID) (session.Record, error) { return s.record, nil }

// FuzzStoredBytes: any bytes in a record lead to an anonymous session or the
// rightful one, an event without the bytes, and no panic (T5).
func FuzzStoredBytes(f *testing.F) {
	inner := new(session.MemoryStore)
	good := &guest{t: f, manager: newManager(f, session.Config{Store: inner})}
	var id uuid.UUID
	good.visit(func(s *session.Session) { s.Login("alice"); nameKey.Set(s, "x"); id = s.ID() })
	record, err := inner.Load(context.Background(), id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record.Data, "alice")
	f.Add(record.Data, "")
	f.Add([]byte{}, "")
	f.Add([]byte{2, 3, 4}, "alice")
	f.Add(bytes.Repeat([]byte{1}, 400), "x")
	f.Add(bytes.Repeat([]byte{0xff}, 400), "x")
	f.Fuzz(func(t *testing.T, data []byte, owner string) {
		store := &fixedStore{Store: new(session.MemoryStore), record: session.Record{Version: 7, Owner: owner, Data: data, TTL: time.Hour}}
		var events []session.Event
		m := newManager(t, session.Config{Store: store, OnEvent: func(_ context.Context, e session.Event) { events = append(events, e) }})
		v := &guest{t: t, manager: m, cookie: good.cookie}
		w := v.visit(func(s *session.Session) {
			if s.User() != "" && !bytes.Equal(data[17:49], record.Data[17:49]) {
				t.Fatal("bytes without the secret's hash opened a session")
			}
			nameKey.Get(s)
			for range s.Names() {
			}
			cartKey.Get(s)
		})
		if w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
		for _, e := range events {
			if text := fmt.Sprintf("%+v", e); len(data) > 60 && strings.Contains(text, string(data)) {
				t.Fatalf("an event holds the record: %s", text)
			}
		}
	})
}

// TestR15UnreadableIsNotUnknown: a newer format is left alone, cookie and all.
func TestR15UnreadableIsNotUnknown(t *testing.T) {
	store := &fixedStore{Store: new(session.MemoryStore), record: session.Record{Version: 7, Data: []byte{2, 1, 2, 3}, TTL: time.Hour}}
	spy := &spyStore{Store: store}
	m := newManager(t, session.Config{Store: spy})
	cookie := "__Host-sid=" + strings.Repeat("Abc0", 16)
	v := &guest{t: t, manager: m, cookie: cookie}
	if w := v.visit(func(s *session.Session) {
		if s.User() != "" || !s.IsNew() {
			t.Errorf("%v is not anonymous", s)
		}
	}); w.Code != http.StatusOK {
		t.Errorf("a read: status %d", w.Code)
	}
	for name, write := range map[string]func(*session.Session){
		"Set":   func(s *session.Session) { nameKey.Set(s, "x") },
		"Login": func(s *session.Session) { s.Login("alice") },
	} {
		if w := v.visit(write); w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: status %d, cookies %v; want 503 and none", name, w.Code, w.Result().Cookies())
		}
	}
	if v.visit(func(s *session.Session) { s.Destroy() }); spy.saves+spy.dels+spy.touches > 0 || v.cookie != cookie {
		t.Errorf("the record was not left alone: %d saves, %d deletes, %d touches", spy.saves, spy.dels, spy.touches)
	}
}

// TestT4AnotherSessionsRecordIsRefused: a store that mixes up its answers.
func TestT4AnotherSessionsRecordIsRefused(t *testing.T) {
	inner := new(session.MemoryStore)
	m := newManager(t, session.Config{Store: inner})
	bob, alice := &guest{t: t, manager: m}, &guest{t: t, manager: m}
	var id uuid.UUID
	bob.visit(func(s *session.Session) { s.Login("bob"); id = s.ID() })
	alice.visit(func(s *session.Session) { s.Login("alice") })
	record, err := inner.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []session.EventKind
	alice.manager = newManager(t, session.Config{Store: &fixedStore{Store: inner, record: record}, OnEvent: func(_ context.Context, e session.Event) { kinds = append(kinds, e.Kind) }})
	alice.visit(func(s *session.Session) {
		if s.User() != "" {
			t.Errorf("alice is shown %q's session", s.User())
		}
	})
	kinds = slices.DeleteFunc(kinds, func(k session.EventKind) bool { return k == session.EventStoreCall })
	if len(kinds) != 1 || kinds[0] != session.EventRecordRefused {
		t.Errorf("events %v", kinds)
	}
}

// TestT56TwoUsersAlternate shares what can be shared: the manager and the writer.
func TestT56TwoUsersAlternate(t *testing.T) {
	m := newManager(t, session.Config{})
	users := map[string]*guest{"alice": {t: t, manager: m}, "bob": {t: t, manager: m}}
	var wg sync.WaitGroup
	for user, v := range users {
		v.visit(func(s *session.Session) { s.Login(user); nameKey.Set(s, user) })
		wg.Go(func() {
			for range 300 {
				v.visit(func(s *session.Session) {
					if s.User() != user || nameKey.Get(s) != user {
						t.Errorf("%s sees %q, %q", user, s.User(), nameKey.Get(s))
					}
					countKey.Update(s, func(n int) int { return n + 1 })
				})
			}
		})
	}
	wg.Wait()
}

func TestNewNamesEveryFaultAtOnce(t *testing.T) {
	_, err := session.New(session.Config{
		Store: new(session.MemoryStore), IdleTimeout: -1, Lifetime: 401 * 24 * time.Hour, StoreTimeout: time.Hour, MaxBytes: 1,
		Cookie: session.Cookie{Name: "__Host-a", Domain: "example.com"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, word := range []string{"Config.Name", "IdleTimeout", "Lifetime", "StoreTimeout", "MaxBytes", "Domain"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "session: ") {
			t.Errorf("%q", line)
		}
	}
	for _, name := range []string{"a b", "é", "\x00", strings.Repeat("n", 65)} {
		if _, err := session.New(session.Config{Name: name}); err == nil {
			t.Errorf("Name %q is accepted", name)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	cause := errors.New("connection refused")
	err := error(&session.Error{Op: "load", Err: cause})
	if err.Error() != "session: load: connection refused" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	v.visit(func(s *session.Session) {
		for _, user := range []string{"", strings.Repeat("u", 1025), "\xff"} {
			if err := s.Login(user); err == nil || s.User() != "" {
				t.Errorf("Login(%q): %v", user, err)
			}
		}
	})
	for _, name := range []string{"", strings.Repeat("n", 256), "\xff"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewKey(%q) is accepted", name)
				}
			}()
			session.NewKey[int](name)
		}()
	}
}

// TestT2TheWriterPrintsNoSecret once the header has left: the response and the
// request's context used to show the cookie's line under %v and %#v.
func TestT2TheWriterPrintsNoSecret(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	var printed []string
	v.request(func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		s.Login("alice")
		fmt.Fprint(w, "hello")
		for _, thing := range []any{w, r.Context(), s} {
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				printed = append(printed, fmt.Sprintf(verb, thing))
			}
		}
	})
	secrets := spellings(t, v.cookie)
	for _, text := range printed {
		refuse(t, "fmt", text, secrets)
	}
}

// outdate turns the record of id into one that a newer version of the library wrote.
func outdate(t *testing.T, store session.Store, id uuid.UUID) {
	t.Helper()
	rec, err := store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte{2}, rec.Data[1:]...)
	if _, err := store.Save(t.Context(), id, rec.Version, session.Record{Version: 77, Owner: rec.Owner, Data: data}, time.Hour); err != nil {
		t.Fatal(err)
	}
}

// TestR15LogoutOfAnUnreadableRecordIsRefused: it used to be answered 200 while the
// record stayed.
func TestR15LogoutOfAnUnreadableRecordIsRefused(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	var id uuid.UUID
	v.visit(func(s *session.Session) { s.Login("alice"); id = s.ID() })
	outdate(t, records, id)
	w := v.visit(func(s *session.Session) { s.Destroy() })
	if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 || records.Len() != 1 {
		t.Errorf("R15: status %d, cookies %v, %d records", w.Code, w.Result().Cookies(), records.Len())
	}
}

// TestR15UnreadableCountsBeforeReplaced: of an unreadable record's token and one
// that was replaced, the order in the header used to decide, and a Login could
// overwrite the cookie of a session that a newer server still serves.
func TestR15UnreadableCountsBeforeReplaced(t *testing.T) {
	a, _, records := newStalled(t, session.Config{})
	b := &guest{t: t, manager: a.manager}
	a.visit(func(s *session.Session) { countKey.Set(s, 1) })
	var id uuid.UUID
	b.visit(func(s *session.Session) { s.Login("alice"); id = s.ID() })
	replaced := a.cookie
	a.visit(func(s *session.Session) { s.Renew() })
	outdate(t, records, id)
	for _, cookies := range []string{b.cookie + "; " + replaced, replaced + "; " + b.cookie} {
		v := &guest{t: t, manager: a.manager, cookie: cookies}
		w := v.visit(func(s *session.Session) { s.Login("bob") })
		if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 {
			t.Errorf("R15: status %d, %d cookies", w.Code, len(w.Result().Cookies()))
		}
	}
}
