package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
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

var (
	nameKey  = session.NewKey[string]("name")
	countKey = session.NewKey[int]("count")
	cartKey  = session.NewKey[[]string]("cart").SurvivesLogin()
)

// TestR1AnonymousVisitorsPayNothing reads everything there is to read.
func TestR1AnonymousVisitorsPayNothing(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	v := &guest{t: t, manager: newManager(t, session.Config{Store: spy})}
	w := v.visit(func(s *session.Session) {
		if s.ID() != uuid.Nil || !s.IsNew() || s.User() != "" || !s.Created().IsZero() || !s.Expires().IsZero() || !s.AuthenticatedAt().IsZero() {
			t.Error("an anonymous session has properties")
		}
		if _, found := nameKey.Lookup(s); found || len(slices.Collect(s.Names())) > 0 {
			t.Error("an anonymous session has values")
		}
		nameKey.Delete(s)
		nameKey.Take(s)
		s.Clear()
		s.Destroy()
		if err := errors.Join(s.Renew(), s.Save(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if spy.calls() != 0 || len(w.Result().Cookies()) != 0 || w.Code != http.StatusOK {
		t.Errorf("%d store calls, cookies %v, status %d", spy.calls(), w.Result().Cookies(), w.Code)
	}
}

// TestR1SetThenDeleteCreatesNothing is R16's shortest sequence.
func TestR1SetThenDeleteCreatesNothing(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	v := &guest{t: t, manager: newManager(t, session.Config{Store: spy})}
	w := v.visit(func(s *session.Session) {
		nameKey.Set(s, "x")
		if s.ID() == uuid.Nil {
			t.Error("no ID after the first value")
		}
		nameKey.Delete(s)
	})
	if spy.calls() != 0 || len(w.Result().Cookies()) != 0 {
		t.Errorf("%d store calls, cookies %v", spy.calls(), w.Result().Cookies())
	}
}

// TestR2NothingIsAdopted presents well-formed tokens that nobody issued.
func TestR2NothingIsAdopted(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	v := &guest{t: t, manager: newManager(t, session.Config{Store: spy})}
	foreign := "__Host-sid=" + strings.Repeat("Abc0", 16)
	v.cookie = foreign
	if w := v.visit(func(s *session.Session) { s.User() }); len(w.Result().Cookies()) != 0 {
		t.Errorf("an unknown token is not cleared: a late answer would delete a newer one: %v", w.Result().Cookies())
	}
	if spy.loads != 1 || spy.calls() != 1 {
		t.Errorf("%d store calls, want one look-up", spy.calls())
	}
	asked := spy.seen[0]
	v.visit(func(s *session.Session) { nameKey.Set(s, "x") })
	if v.cookie == foreign || v.cookie == "" {
		t.Errorf("a write kept the foreign token")
	}
	for _, id := range spy.seen[2:] {
		if id == asked {
			t.Errorf("a record was made under the ID that a client chose")
		}
	}
}

func TestR3TwoLiveTokensAreAnonymous(t *testing.T) {
	var events []session.EventKind
	var lock sync.Mutex
	store := new(session.MemoryStore)
	m := newManager(t, session.Config{Store: store, OnEvent: func(_ context.Context, e session.Event) {
		lock.Lock()
		defer lock.Unlock()
		events = append(events, e.Kind)
	}})
	alice, mallory := &guest{t: t, manager: m}, &guest{t: t, manager: m}
	alice.visit(func(s *session.Session) { s.Login("alice") })
	mallory.visit(func(s *session.Session) { s.Login("mallory") })
	dead := "__Host-sid=" + strings.Repeat("Abc0", 16)
	for _, c := range []struct{ cookie, user string }{
		{alice.cookie + "; " + mallory.cookie, ""},
		{alice.cookie + "; " + alice.cookie, "alice"},
		{dead + "; " + alice.cookie, "alice"},
		{alice.cookie + "; __Host-sid=junk; " + dead, "alice"},
	} {
		v := &guest{t: t, manager: m, cookie: c.cookie}
		v.visit(func(s *session.Session) {
			if s.User() != c.user {
				t.Errorf("user %q, want %q", s.User(), c.user)
			}
		})
	}
	if !slices.Contains(events, session.EventAmbiguousCookie) || !slices.Contains(events, session.EventUnknownToken) {
		t.Errorf("events %v tell neither of the two tokens nor of the dead one", events)
	}
}

// TestR8UnencodableValuesFailTheSave includes strings that JSON would mend in silence.
func TestR8UnencodableValuesFailTheSave(t *testing.T) {
	set := map[string]func(*session.Session){
		"channel":       func(s *session.Session) { session.NewKey[chan int]("v").Set(s, make(chan int)) },
		"string":        func(s *session.Session) { nameKey.Set(s, "\xff") },
		"nested string": func(s *session.Session) { cartKey.Set(s, []string{"tea", "a\xc3"}) },
		"map key":       func(s *session.Session) { session.NewKey[map[string]int]("v").Set(s, map[string]int{"\xff": 1}) },
		"own JSON":      func(s *session.Session) { session.NewKey[json.RawMessage]("v").Set(s, json.RawMessage("\"\xff\"")) },
		"own text":      func(s *session.Session) { session.NewKey[latin1]("v").Set(s, latin1{0xe9}) },
		"by update":     func(s *session.Session) { nameKey.Update(s, func(string) string { return "\xff" }) },
		"then updated": func(s *session.Session) {
			nameKey.Set(s, "\xff")
			nameKey.Update(s, func(string) string { return "fine" })
		},
		"too large": func(s *session.Session) { nameKey.Set(s, strings.Repeat("x", 40<<10)) },
	}
	for name, f := range set {
		t.Run(name, func(t *testing.T) {
			store := new(session.MemoryStore)
			v := &guest{t: t, manager: newManager(t, session.Config{Store: store})}
			w := v.request(func(w http.ResponseWriter, r *http.Request) {
				f(session.FromContext(r.Context()))
				w.Write([]byte("the page"))
			})
			if w.Code != http.StatusInternalServerError || strings.Contains(body(t, w), "the page") || store.Len() != 0 || v.cookie != "" {
				t.Errorf("status %d, %d records, cookie %q", w.Code, store.Len(), v.cookie)
			}
		})
	}
	fine := []string{"\ufffd", `\ufffd`, `\\ufffd`, "<&>", "\u2028", "a\"b\\c", "日本", ""}
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	for _, want := range fine {
		v.visit(func(s *session.Session) { nameKey.Set(s, want); cartKey.Set(s, []string{want}) })
		v.visit(func(s *session.Session) {
			if got := nameKey.Get(s); got != want || cartKey.Get(s)[0] != want {
				t.Errorf("%q came back as %q", want, got)
			}
		})
	}
}

// latin1 is text that is not UTF-8.
type latin1 []byte

func (l latin1) MarshalText() ([]byte, error) { return l, nil }

// TestR8OldValueStays: a refused save leaves what was there.
func TestR8OldValueStays(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	v.visit(func(s *session.Session) { nameKey.Set(s, "old") })
	v.visit(func(s *session.Session) { nameKey.Set(s, strings.Repeat("x", 1<<20)) })
	v.visit(func(s *session.Session) {
		if nameKey.Get(s) != "old" {
			t.Errorf("got %q", nameKey.Get(s))
		}
	})
}

// An update used to make a value that cannot be encoded good when a Renew or a Login
// came between.
func TestR8UpdateInALaterStepHealsNothing(t *testing.T) {
	ratio := session.NewKey[float64]("ratio").SurvivesLogin()
	for name, between := range map[string]func(*session.Session) error{
		"nothing": func(*session.Session) error { return nil },
		"Renew":   func(s *session.Session) error { return s.Renew() },
		"Login":   func(s *session.Session) error { return s.Login("alice") },
	} {
		v := &guest{t: t, manager: newManager(t, session.Config{})}
		v.visit(func(s *session.Session) { ratio.Set(s, 7) })
		w := v.visit(func(s *session.Session) {
			ratio.Set(s, math.NaN())
			if err := between(s); err != nil {
				t.Error(err)
			}
			ratio.Update(s, func(x float64) float64 { return x + 1 })
		})
		v.visit(func(s *session.Session) {
			if got := ratio.Get(s); w.Code != http.StatusInternalServerError || got != 7 {
				t.Errorf("%s: status %d, stored %v", name, w.Code, got)
			}
		})
	}
}

// TestR9ValueOfAnotherTypeIsCarriedThrough is a rolling deploy and its rollback.
func TestR9ValueOfAnotherTypeIsCarriedThrough(t *testing.T) {
	var refused []session.Event
	v := &guest{t: t, manager: newManager(t, session.Config{OnEvent: func(_ context.Context, e session.Event) {
		if e.Kind == session.EventValueRefused {
			refused = append(refused, e)
		}
	}})}
	v.visit(func(s *session.Session) { nameKey.Set(s, "a secret value") })
	asInt := session.NewKey[int]("name")
	v.visit(func(s *session.Session) {
		if n, found := asInt.Lookup(s); found || n != 0 {
			t.Errorf("got %d, %v", n, found)
		}
		countKey.Set(s, 1)
	})
	v.visit(func(s *session.Session) {
		if nameKey.Get(s) != "a secret value" {
			t.Errorf("the old type's bytes are gone: %q", nameKey.Get(s))
		}
	})
	if len(refused) != 1 || refused[0].Key != "name" || strings.Contains(refused[0].Err.Error(), "secret") {
		t.Errorf("events %v", refused)
	}
}

// TestR16SameBytesAreNoSave: the spy sees loads only.
func TestR16SameBytesAreNoSave(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	v := &guest{t: t, manager: newManager(t, session.Config{Store: spy})}
	v.visit(func(s *session.Session) { nameKey.Set(s, "x"); cartKey.Set(s, []string{"tea"}) })
	spy.saves = 0
	w := v.visit(func(s *session.Session) {
		nameKey.Set(s, "y")
		nameKey.Set(s, "x")
		cartKey.Update(s, func(c []string) []string { return c })
		countKey.Delete(s)
	})
	if spy.saves != 0 || len(w.Result().Cookies()) != 0 {
		t.Errorf("%d saves, cookies %v", spy.saves, w.Result().Cookies())
	}
}

// TestR16SaveThenLogin: one record, the second secret, one Set-Cookie.
func TestR16SaveThenLogin(t *testing.T) {
	store := new(session.MemoryStore)
	v := &guest{t: t, manager: newManager(t, session.Config{Store: store})}
	w := v.visit(func(s *session.Session) {
		nameKey.Set(s, "x")
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := s.ID()
		if err := s.Login("alice"); err != nil {
			t.Fatal(err)
		}
		if s.ID() != id {
			t.Error("L1: the ID stays")
		}
	})
	if store.Len() != 1 || len(w.Result().Cookies()) != 1 {
		t.Errorf("%d records, cookies %v", store.Len(), w.Result().Cookies())
	}
	v.visit(func(s *session.Session) {
		if s.User() != "alice" || nameKey.Get(s) != "" {
			t.Errorf("user %q, name %q", s.User(), nameKey.Get(s))
		}
	})
}

// TestR14ASessionKeptAfterItsRequestRefusesWrites includes its keys and a late goroutine.
func TestR14ASessionKeptAfterItsRequestRefusesWrites(t *testing.T) {
	store := new(session.MemoryStore)
	v := &guest{t: t, manager: newManager(t, session.Config{Store: store})}
	var kept *session.Session
	v.visit(func(s *session.Session) { kept = s; nameKey.Set(s, "x") })
	nameKey.Set(kept, "late")
	nameKey.Delete(kept)
	nameKey.Update(kept, func(string) string { return "late" })
	kept.Clear()
	kept.Destroy()
	_, errNow := nameKey.UpdateNow(t.Context(), kept, func(string) string { return "late" })
	for what, err := range map[string]error{"Login": kept.Login("alice"), "Renew": kept.Renew(), "Save": kept.Save(t.Context()), "UpdateNow": errNow} {
		if err == nil {
			t.Errorf("%s did not refuse", what)
		}
	}
	if nameKey.Get(kept) != "x" {
		t.Errorf("it can still be read: got %q", nameKey.Get(kept))
	}
	v.visit(func(s *session.Session) {
		if nameKey.Get(s) != "x" || s.User() != "" {
			t.Errorf("name %q, user %q", nameKey.Get(s), s.User())
		}
	})
}

// TestUsingTheSessionInsideUpdatePanics for each way in, and leaves it usable.
func TestUsingTheSessionInsideUpdatePanics(t *testing.T) {
	uses := map[string]func(*session.Session){
		"Get":       func(s *session.Session) { nameKey.Get(s) },
		"Set":       func(s *session.Session) { nameKey.Set(s, "x") },
		"Update":    func(s *session.Session) { countKey.Update(s, func(n int) int { return n }) },
		"UpdateNow": func(s *session.Session) { countKey.UpdateNow(t.Context(), s, func(n int) int { return n }) },
		"ID":        func(s *session.Session) { s.ID() },
		"Save":      func(s *session.Session) { s.Save(t.Context()) },
		"Login":     func(s *session.Session) { s.Login("alice") },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			v := &guest{t: t, manager: newManager(t, session.Config{})}
			v.visit(func(s *session.Session) {
				func() {
					defer func() {
						err, _ := recover().(error)
						if err == nil || !strings.Contains(err.Error(), "Update") {
							t.Errorf("no panic that names the fix: %v", err)
						}
					}()
					countKey.Update(s, func(n int) int { use(s); return n + 1 })
				}()
				countKey.Update(s, func(n int) int { return n + 1 })
			})
			v.visit(func(s *session.Session) {
				if countKey.Get(s) != 1 {
					t.Errorf("count %d", countKey.Get(s))
				}
			})
		})
	}
}

// TestOtherGoroutinesWaitForAnUpdate: they are not inside it, so they do not panic.
func TestOtherGoroutinesWaitForAnUpdate(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	v.visit(func(s *session.Session) {
		started := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { <-started; nameKey.Set(s, "other"); nameKey.Get(s) })
		var once sync.Once
		countKey.Update(s, func(n int) int { once.Do(func() { close(started) }); return n + 1 })
		wg.Wait()
	})
	v.visit(func(s *session.Session) {
		if countKey.Get(s) != 1 || nameKey.Get(s) != "other" {
			t.Errorf("count %d, name %q", countKey.Get(s), nameKey.Get(s))
		}
	})
}

func TestFromContextPanicsWithTheFix(t *testing.T) {
	m, other := newManager(t, session.Config{}), newManager(t, session.Config{})
	panics := func(f func()) (text string) {
		defer func() { text, _ = recover().(string) }()
		f()
		return ""
	}
	if text := panics(func() { session.FromContext(t.Context()) }); !strings.Contains(text, "Manager.Handler") {
		t.Errorf("%q", text)
	}
	v := &guest{t: t, manager: m}
	v.request(func(_ http.ResponseWriter, r *http.Request) {
		if text := panics(func() { other.FromContext(r.Context()) }); !strings.Contains(text, "this Manager") {
			t.Errorf("%q", text)
		}
	})
}

func TestSkip(t *testing.T) {
	spy := &spyStore{Store: new(session.MemoryStore)}
	m := newManager(t, session.Config{Store: spy, Skip: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/static/") }})
	v := &guest{t: t, manager: m}
	v.visit(func(s *session.Session) { nameKey.Set(s, "x") })
	calls := spy.calls()
	r := httptest.NewRequest("GET", "/static/a.css", nil)
	r.Header.Set("Cookie", v.cookie)
	w := httptest.NewRecorder()
	m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	if spy.calls() != calls || w.Header().Get("Vary") != "" {
		t.Errorf("a skipped request cost %d store calls, Vary %q", spy.calls()-calls, w.Header().Get("Vary"))
	}
}

// TestRevoke: an ID from a form ends a session of its user only (T72, T74).
func TestRevoke(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		m := newManager(t, session.Config{Store: store})
		alice, bob, anon := &guest{t: t, manager: m}, &guest{t: t, manager: m}, &guest{t: t, manager: m}
		var a, b, n uuid.UUID
		alice.visit(func(s *session.Session) { s.Login("alice"); a = s.ID() })
		bob.visit(func(s *session.Session) { s.Login("bob"); b = s.ID() })
		anon.visit(func(s *session.Session) { nameKey.Set(s, "x"); n = s.ID() })
		for _, c := range []struct {
			user string
			id   uuid.UUID
			want error
		}{{"alice", b, session.ErrNotFound}, {"alice", n, session.ErrNotFound}, {"", n, session.ErrNotFound}, {"alice", uuid.New(), session.ErrNotFound}, {"alice", a, nil}, {"alice", a, session.ErrNotFound}} {
			if err := m.Revoke(t.Context(), c.user, c.id); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("Revoke(%q): %v, want %v", c.user, err, c.want)
			}
		}
		if err := m.RevokeAny(t.Context(), n); err != nil {
			t.Error(err)
		}
		for who, c := range map[string]struct {
			v    *guest
			user string
		}{"alice": {alice, ""}, "bob": {bob, "bob"}, "anonymous": {anon, ""}} {
			c.v.visit(func(s *session.Session) {
				if s.User() != c.user || (s.ID() == uuid.Nil) != (c.user == "") {
					t.Errorf("%s: user %q, ID %v", who, s.User(), s.ID())
				}
			})
		}
	})
}

// TestR8BytesThatAreNotUTF8AreRefused in JSON that a value makes itself, which used
// to be stored as it was.
func TestR8BytesThatAreNotUTF8AreRefused(t *testing.T) {
	v, _, records := newStalled(t, session.Config{})
	raw := session.NewKey[json.RawMessage]("raw")
	if w := v.visit(func(s *session.Session) { raw.Set(s, json.RawMessage("\"\xff\"")) }); w.Code != http.StatusInternalServerError || records.Len() != 0 {
		t.Errorf("R8: status %d, %d records", w.Code, records.Len())
	}
}

// TestR8ErrorsQuoteNoValue: what encoding/json says of a bad number used to quote it.
func TestR8ErrorsQuoteNoValue(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	number := session.NewKey[json.Number]("number")
	v.visit(func(s *session.Session) {
		number.Set(s, "hunter2")
		if err := s.Save(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("R8: the error is %v", err)
		}
	})
}

// TestR8MaxBytesIsForValues: the versions that a busy moment adds to a record used
// to count, and a value that had fitted was refused a few requests later.
func TestR8MaxBytesIsForValues(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{MaxBytes: 1024})}
	if w := v.visit(func(s *session.Session) { nameKey.Set(s, strings.Repeat("x", 900)); countKey.Set(s, 0) }); w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	for i := range 20 {
		if w := v.visit(func(s *session.Session) { countKey.Update(s, func(n int) int { return n%9 + 1 }) }); w.Code != http.StatusOK {
			t.Fatalf("R8: increment %d of one digit was answered %d", i, w.Code)
		}
	}
}

// TestR9ReplacingAnotherTypesValueIsTold: Update used to read it as absent and to
// replace it without an event, and Take to say that it was absent and remove it.
func TestR9ReplacingAnotherTypesValueIsTold(t *testing.T) {
	var events eventLog
	v := &guest{t: t, manager: newManager(t, session.Config{OnEvent: events.note})}
	two := session.NewKey[string]("two")
	v.visit(func(s *session.Session) { nameKey.Set(s, "precious"); two.Set(s, "precious") })
	v.visit(func(s *session.Session) { session.NewKey[int]("name").Update(s, func(n int) int { return n + 1 }) })
	if events.count(session.EventValueRefused) == 0 {
		t.Error("R9: Update replaced another type's value, and no event tells")
	}
	v.visit(func(s *session.Session) {
		if _, found := session.NewKey[int]("two").Take(s); found {
			t.Error("R9: Take found a value of another type")
		}
	})
	v.visit(func(s *session.Session) {
		if two.Get(s) != "precious" {
			t.Error("R9: Take said absent, and removed the bytes")
		}
	})
}

// TestR14LoginAfterAnAnonymousRequestIsRefused: a session that never was one used
// to accept it.
func TestR14LoginAfterAnAnonymousRequestIsRefused(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	var kept *session.Session
	v.visit(func(s *session.Session) { kept = s })
	if err := kept.Login("alice"); !errors.Is(err, session.ErrCommitted) {
		t.Errorf("R14: Login after the request: %v", err)
	}
}

// TestUsingTheSessionDeepInsideUpdatePanics: it used to be looked for on a few
// frames of the stack only, and below those it deadlocked.
func TestUsingTheSessionDeepInsideUpdatePanics(t *testing.T) {
	var deep func(n int, f func())
	deep = func(n int, f func()) {
		if n == 0 {
			f()
			return
		}
		deep(n-1, f)
	}
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	panicked := make(chan any, 1) // a deadlock must not take the other tests along
	go func() {
		panicked <- recovered(func() {
			v.visit(func(s *session.Session) {
				countKey.Update(s, func(n int) int { deep(200, func() { countKey.Get(s) }); return n })
			})
		})
	}()
	select {
	case p := <-panicked:
		if err, _ := p.(error); err == nil || !strings.Contains(err.Error(), "Update") {
			t.Errorf("no panic that names the fix: %v", p)
		}
	case <-time.After(time.Minute):
		t.Error("using the session 200 calls deep inside Update waits forever")
	}
}
