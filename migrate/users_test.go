package migrate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// at is the store of a server in that phase, the plain ones included.
func at(t testing.TB, old, new session.UserStore, phase Phase) session.UserStore {
	switch phase {
	case plainOld:
		return old
	case plainNew:
		return new
	}
	return open(t, old, new, phase)
}

// ask sends one request to a server of that phase, by a browser with that cookie.
func ask(t testing.TB, m *session.Manager, cookie *http.Cookie, method, path string) (string, *http.Cookie) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	shop(m).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	for _, c := range w.Result().Cookies() {
		cookie = c
	}
	return w.Body.String(), cookie
}

// A user who logged in before the move, and whose session was only read and
// touched since, is on the list in the new store when the old one is gone. In the
// meantime the old store has swept its own lists.
func TestAMovedSessionIsOnItsUsersList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, new := new(session.MemoryStore), new(session.MemoryStore)
		var cookie *http.Cookie
		for phase := plainOld; phase <= plainNew; phase++ {
			m := newManager(t, at(t, old, new, phase))
			if phase == plainOld {
				_, cookie = ask(t, m, nil, "POST", "/login?user=ann")
			}
			for range 600 { // twenty minutes: old and new are swept many times
				time.Sleep(siteIdle / 2)
				if got, _ := ask(t, m, cookie, "GET", "/"); got != "ann 0" {
					t.Fatalf("%v: the visitor is %q", phase, got)
				}
			}
			if all, err := m.Sessions(t.Context(), "ann"); err != nil || len(all) != 1 {
				t.Fatalf("%v: ann has %d sessions, %v", phase, len(all), err)
			}
		}
		m := newManager(t, new)
		if err := m.RevokeUser(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		if got, _ := ask(t, m, cookie, "GET", "/"); got != " 0" {
			t.Errorf("after RevokeUser the visitor is %q", got)
		}
	})
}

// RevokeUser ends what any server made, whichever phase it is called in.
func TestRevokeUserReachesSessionsOfBothPhases(t *testing.T) {
	for _, pair := range [][2]Phase{{plainOld, WriteOld}, {WriteOld, WriteNew}, {WriteNew, WriteOld}, {WriteOld, plainOld}} {
		old, new := new(session.MemoryStore), new(session.MemoryStore)
		var cookies []*http.Cookie
		for _, phase := range pair {
			_, c := ask(t, newManager(t, at(t, old, new, phase)), nil, "POST", "/login?user=ann")
			cookies = append(cookies, c)
		}
		// The second one moves the first one's session, if it is a phase that moves.
		ask(t, newManager(t, at(t, old, new, pair[1])), cookies[0], "POST", "/visit")
		revokes := newManager(t, at(t, old, new, pair[1]))
		if pair[1] == plainOld || pair[1] == WriteOld && pair[0] == WriteNew {
			revokes = newManager(t, at(t, old, new, WriteOld))
		}
		if all, err := revokes.Sessions(t.Context(), "ann"); err != nil || len(all) != 2 {
			t.Errorf("%v: ann has %d sessions, %v", pair, len(all), err)
		}
		if err := revokes.RevokeUser(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		for i, c := range cookies {
			for _, phase := range pair {
				if got, _ := ask(t, newManager(t, at(t, old, new, phase)), c, "GET", "/"); got != " 0" {
					t.Errorf("%v: the session of %v is %q to %v", pair, pair[i], got, phase)
				}
			}
		}
	}
}

// Of two servers a phase apart, whichever cuts off and whichever enlists: the login
// is on the list that the cut-off returns, or it is told.
func TestALoginBesideACutOffIsListedOrToldInEveryPhase(t *testing.T) {
	for _, pair := range [][2]Phase{
		{plainOld, WriteOld}, {WriteOld, plainOld}, {WriteOld, WriteOld}, {WriteOld, WriteNew}, {WriteNew, WriteOld},
		{WriteNew, WriteNew}, {WriteNew, NewOnly}, {NewOnly, WriteNew}, {NewOnly, plainNew}, {plainNew, NewOnly},
	} {
		for cutAt := range 20 { // the login comes after so many calls of the cut-off
			old, new := new(session.MemoryStore), new(session.MemoryStore)
			id := uuid.New()
			// The record is where the server that logs in has saved it.
			login := at(t, old, new, pair[1])
			if _, err := login.Save(t.Context(), id, 0, session.Record{Version: 1, Owner: "ann", Data: []byte("1")}, time.Hour); err != nil {
				t.Fatal(err)
			}
			var told session.Cut
			enlisted := false
			w := &watched{at: cutAt, then: func() {
				enlisted = true
				var err error
				if _, told, err = login.Enlist(t.Context(), "list", id, time.Hour, 0); err != nil {
					t.Fatal(err)
				}
			}}
			listed, _, err := at(t, meddled{old, w}, meddled{new, w}, pair[0]).CutOff(t.Context(), "list")
			if err != nil {
				t.Fatal(err)
			}
			if !enlisted {
				break
			}
			if len(listed) == 0 && told.ID == 0 {
				t.Errorf("%v cuts off and %v logs in after %d calls: neither listed nor told", pair[0], pair[1], cutAt)
			}
		}
	}
}

// A watched sequence of calls is interrupted before one of them, or after the last.
type watched struct {
	at, calls int
	then      func()
}

func (w *watched) call() {
	if w.calls == w.at {
		w.then()
	}
	w.calls++
}

type meddled struct {
	session.UserStore
	w *watched
}

func (m meddled) CutOff(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	m.w.call()
	return m.UserStore.CutOff(ctx, list, except...)
}

// End is cut short at any call, and its list says what is left to end. Sent again
// it ends all, whatever was being moved meanwhile.
func TestAnEndThatIsCutShortCanBeSentAgain(t *testing.T) {
	starts := []string{"old", "old, hold", "new", "envelope", "new, envelope"}
	for phase := WriteOld; phase <= WriteNew; phase++ {
		for _, f := range []fate{lost, replyLost} {
			for nth := 1; ; nth++ {
				old, new := new(session.MemoryStore), new(session.MemoryStore)
				var ids []uuid.UUID
				for _, start := range starts {
					id := uuid.New()
					begin(t, start, old, new, id)
					ids = append(ids, id)
				}
				s := open(t, old, new, phase)
				for _, id := range ids {
					if _, _, err := s.Enlist(t.Context(), "list", id, time.Hour, 0); err != nil {
						t.Fatal(err)
					}
				}
				m := &mishap{nth: nth, fate: f}
				err := open(t, frail{old, m.pass}, frail{new, m.pass}, phase).End(t.Context(), "list", ids...)
				if m.calls < nth {
					break
				}
				if err == nil {
					t.Fatalf("call %d failed, and End did not", nth)
				}
				for _, p := range []Phase{WriteOld, WriteNew} {
					listed, err := open(t, old, new, p).List(t.Context(), "list")
					if err != nil {
						t.Fatal(err)
					}
					versions, err := open(t, old, new, p).Versions(t.Context(), ids)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range versions {
						if v != 0 && len(without(ids[i:i+1], listed)) == 1 {
							t.Errorf("%v, call %d: the session %q is live, and on no list", p, nth, starts[i])
						}
					}
				}
				if err := s.End(t.Context(), "list", ids...); err != nil {
					t.Fatal(err)
				}
				for _, id := range ids {
					for _, p := range []Phase{WriteOld, WriteNew} {
						if rec, err := open(t, old, new, p).Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
							t.Errorf("%v, call %d: after End there is %+v, %v", p, nth, rec, err)
						}
					}
				}
			}
		}
	}
}

// MaxPerUser goes on holding: every session is counted in any phase, and the
// newest login is never the one that goes. Which of the older ones does may differ,
// because a move puts a session at the end of the list.
func TestMaxPerUserHoldsDuringTheMove(t *testing.T) {
	old, new := new(session.MemoryStore), new(session.MemoryStore)
	limited := func(phase Phase) *session.Manager {
		m, err := session.New(session.Config{
			Store: at(t, old, new, phase), Name: "shop", IdleTimeout: time.Hour, MaxPerUser: 3, Cookie: session.Cookie{InsecureHTTP: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var cookies []*http.Cookie
	for phase := plainOld; phase <= plainNew; phase++ {
		for range 2 {
			_, c := ask(t, limited(phase), nil, "POST", "/login?user=ann")
			cookies = append(cookies, c)
			var live []int
			for i, c := range cookies {
				if got, _ := ask(t, limited(phase), c, "GET", "/"); got == "ann 0" {
					live = append(live, i)
					ask(t, limited(phase), c, "POST", "/visit") // moves it, in its phase
					ask(t, limited(phase), c, "POST", "/reset")
				}
			}
			if newest := len(cookies) - 1; len(live) != min(3, len(cookies)) || live[len(live)-1] != newest {
				t.Errorf("%v: the sessions %v are live after login %d", phase, live, newest)
			}
		}
	}
}

// sameCookie expects that no answer changed the visitor's cookie.
func sameCookie(t testing.TB, before, after *http.Cookie) {
	t.Helper()
	if before.Value != after.Value {
		t.Error("the visitor's cookie was replaced")
	}
}

// A server that was left out of the deploys reads an envelope as a record of a
// newer version (R15): the visitor's good cookie stays.
func TestR15AServerThatMissedTheMoveLeavesTheCookieAlone(t *testing.T) {
	old, new := new(session.MemoryStore), new(session.MemoryStore)
	left := newManager(t, old)
	_, cookie := ask(t, left, nil, "POST", "/login?user=ann")
	id := onlySession(t, left, "ann")
	m := &mishap{nth: 6, fate: lost} // of the move, behind the envelope
	s := open(t, frail{old, m.pass}, frail{new, m.pass}, WriteNew)
	rec, err := old.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(t.Context(), id, rec.Version, siteIdle); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	if sealed, _ := old.Load(t.Context(), id); sealed.Version == rec.Version {
		t.Fatal("the crash came before the envelope")
	}
	got, after := ask(t, left, cookie, "GET", "/")
	if got != " 0" {
		t.Errorf("an envelope is %q to a server that knows nothing of it", got)
	}
	sameCookie(t, cookie, after)
	r, w := httptest.NewRequest("POST", "/login?user=eve", nil), httptest.NewRecorder()
	r.AddCookie(cookie)
	shop(left).ServeHTTP(w, r)
	if w.Code == http.StatusOK || len(w.Result().Cookies()) > 0 {
		t.Errorf("a login over it was answered %d, with %d cookies", w.Code, len(w.Result().Cookies()))
	}
	for phase := WriteOld; phase <= WriteNew; phase++ {
		if got, _ := ask(t, newManager(t, at(t, old, new, phase)), cookie, "GET", "/"); got != "ann 0" {
			t.Errorf("%v: the visitor is %q", phase, got)
		}
	}
}

// A hold that a crash left behind is no session to the new store alone, which
// answers the visitor as any other whose session ended.
func TestAHoldIsNoSessionToTheNewStoreAlone(t *testing.T) {
	old, new := new(session.MemoryStore), new(session.MemoryStore)
	before := newManager(t, old)
	_, cookie := ask(t, before, nil, "POST", "/login?user=ann")
	id := onlySession(t, before, "ann")
	if _, err := new.Save(t.Context(), id, 0, newHold("ann"), time.Hour); err != nil {
		t.Fatal(err)
	}
	after := newManager(t, new)
	if got, _ := ask(t, after, cookie, "GET", "/"); got != " 0" {
		t.Errorf("a hold is %q", got)
	}
	_, fresh := ask(t, after, cookie, "POST", "/login?user=ann")
	if got, _ := ask(t, after, fresh, "GET", "/"); got != "ann 0" {
		t.Errorf("after a new login the visitor is %q", got)
	}
	onlySession(t, after, "ann")
}

func onlySession(t testing.TB, m *session.Manager, user string) uuid.UUID {
	t.Helper()
	all, err := m.Sessions(t.Context(), user)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s has %d sessions, %v", user, len(all), err)
	}
	return all[0].ID()
}
