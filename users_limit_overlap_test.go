package session_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/session"
)

// Logins of one user that overlap, at Config.MaxPerUser.

// A phone is one of alice's, with a server of its own, so that what one of its
// requests sends to the store can be held. The store is the same for all.
type phone struct {
	guest
	store  *stallUserStore
	events eventLog
	codes  chan int
}

// newPhones logs in the first ones of n, a second apart.
func newPhones(t *testing.T, n, loggedIn int, cfg session.Config) []*phone {
	t.Helper()
	records, phones := new(session.MemoryStore), make([]*phone, n)
	for i := range phones {
		d := &phone{store: newStallUserStore(records), codes: make(chan int)}
		cfg := cfg
		cfg.Store, cfg.OnEvent, cfg.StoreTimeout = d.store, d.events.note, time.Minute
		d.guest = guest{t: t, manager: newManager(t, cfg)}
		phones[i] = d
		if i < loggedIn {
			d.wantLogin(http.StatusOK)
		}
	}
	return phones
}

// wantLogin logs in, and lets a second pass.
func (d *phone) wantLogin(code int) {
	d.t.Helper()
	if got := d.visit(loginAs("alice")).Code; got != code {
		d.t.Errorf("T90: a login was answered %d, want %d", got, code)
	}
	time.Sleep(time.Second)
}

// hold begins a login that stops at a call to the store, and lets a second pass.
func (d *phone) hold(point string) *gate {
	g := d.store.stall(d.t, point)
	go func() { d.codes <- d.visit(loginAs("alice")).Code }()
	g.wait()
	time.Sleep(time.Second)
	return g
}

func (d *phone) wantAnswer(g *gate, code int) {
	d.t.Helper()
	g.open()
	if got := <-d.codes; got != code {
		d.t.Errorf("T90: the login that was held was answered %d, want %d", got, code)
	}
}

// wantLoggedIn compares who is: one character for each, a - for those who
// are not.
func wantLoggedIn(t *testing.T, phones []*phone, want string) {
	t.Helper()
	got := []byte(want)
	for i, d := range phones {
		got[i] = '-'
		d.visit(func(s *session.Session) {
			if s.User() == "alice" {
				got[i] = 'A' + byte(i)
			}
		})
	}
	if string(got) != want {
		t.Errorf("T90: logged in are %s, want %s", got, want)
	}
}

// Its place on the list is still the old one, or the record is, when the other
// login looks.
func TestMaxPerUserSparesWhoIsAboutToMoveUp(t *testing.T) {
	for _, point := range []string{"before enlist", "before save", "after save"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newPhones(t, 3, 2, session.Config{MaxPerUser: 2})
				again := d[0].hold(point)
				d[2].wantLogin(http.StatusOK)
				d[0].wantAnswer(again, http.StatusOK)
				wantLoggedIn(t, d, "A-C")
			})
		})
	}
}

// Of two logins at once one ends the other, whatever step the one is at that began
// first when the other one looks, and the one that comes after looked.
func TestMaxPerUserOverlappingLoginsDoNotEndEachOther(t *testing.T) {
	for _, c := range []struct {
		first, other string
		code         int // of the other one
		want         string
	}{
		{"before enlist", "before loadall", http.StatusConflict, "A-"},
		{"before enlist", "before list", http.StatusConflict, "A-"},
		{"before enlist", "before delete", http.StatusConflict, "A-"},
		{"before save", "before delete", http.StatusOK, "-B"},
		{"after save", "before delete", http.StatusOK, "-B"},
	} {
		t.Run(c.first+", "+c.other, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newPhones(t, 2, 1, session.Config{MaxPerUser: 1})
				again := d[0].hold(c.first)
				other := d[1].hold(c.other)
				d[0].wantAnswer(again, http.StatusOK)
				d[1].wantAnswer(other, c.code)
				wantLoggedIn(t, d, c.want)
			})
		})
	}
}

// The one that logs in again after the other got its place counts the other, which
// then leaves the eviction to it.
func TestMaxPerUserLaterLoginEvictsForBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 3, 2, session.Config{MaxPerUser: 2})
		other := d[2].hold("before delete")
		d[0].wantLogin(http.StatusOK)
		d[2].wantAnswer(other, http.StatusOK)
		wantLoggedIn(t, d, "A-C")
	})
}

// The limit was lowered, and both log in again.
func TestMaxPerUserThatWasLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 2, 2, session.Config{MaxPerUser: 2})
		for _, d := range d {
			d.manager = newManager(t, session.Config{Store: d.store, MaxPerUser: 1, StoreTimeout: time.Minute})
		}
		again := d[0].hold("before delete")
		d[1].wantLogin(http.StatusOK)
		d[0].wantAnswer(again, http.StatusConflict)
		wantLoggedIn(t, d, "-B")
	})
}

// Of three at once two may be logged in, and one of those had a place.
func TestRefuseLoginsKeepsThePlaceOfWhoLogsInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 3, 1, session.Config{MaxPerUser: 2, RefuseLogins: true})
		again := d[0].hold("before enlist")
		late := d[2].hold("before save")
		d[1].wantLogin(http.StatusOK)
		beyond := d[2].store.stall(t, "after enlist")
		late.open()
		beyond.wait()
		d[0].wantAnswer(again, http.StatusOK)
		d[0].wantLogin(http.StatusOK) // also beside one that is on the list and about to be refused
		d[2].wantAnswer(beyond, http.StatusConflict)
		wantLoggedIn(t, d, "AB-")
	})
}

// Who was evicted before the cookie left is told, instead of getting one that
// opens nothing.
func TestMaxPerUserTellsWhoWasEvictedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 3, 1, session.Config{MaxPerUser: 1})
		slow := d[1].hold("before loadall")
		d[2].wantLogin(http.StatusOK)
		d[1].wantAnswer(slow, http.StatusConflict)
		if d[1].cookie != "" {
			t.Error("T90: a cookie was sent for a session that is no more")
		}
		wantLoggedIn(t, d, "--C")
	})
}

// What was ended before the store went away is told.
func TestMaxPerUserTellsOfEvictionsBeforeAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 4, 3, session.Config{MaxPerUser: 3})
		limited := newManager(t, session.Config{Store: d[3].store, MaxPerUser: 1, OnEvent: d[3].events.note})
		d[3].manager = limited
		d[3].store.failing(func(call string, _ uint64) error {
			if call == "delete" && d[3].store.called("delete") > 1 {
				return errAway
			}
			return nil
		})
		if code := d[3].visit(loginAs("alice")).Code; code != http.StatusServiceUnavailable {
			t.Errorf("R6: answered %d", code)
		}
		d[3].store.failing(nil)
		if n := d[3].events.count(session.EventEvicted); n != 1 {
			t.Errorf("%d events of an eviction, want 1", n)
		}
		wantLoggedIn(t, d[:3], "-BC")
		d[3].wantLogin(http.StatusOK)
		wantLoggedIn(t, d, "---D")
	})
}
