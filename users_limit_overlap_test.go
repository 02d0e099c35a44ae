package session_test

import (
	"fmt"
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

// Its place on the list is still the old one when the other login looks.
func TestMaxPerUserSparesWhoIsAboutToMoveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 3, 2, session.Config{MaxPerUser: 2})
		again := d[0].hold("before enlist")
		d[2].wantLogin(http.StatusOK)
		d[0].wantAnswer(again, http.StatusOK)
		wantLoggedIn(t, d, "A-C")
	})
}

// A login that came second, and is answered first, is not ended by the first one,
// which it ends.
func TestMaxPerUserOverlappingLoginsDoNotEndEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPhones(t, 2, 1, session.Config{MaxPerUser: 1})
		again := d[0].hold("before enlist")
		other := d[1].hold("before delete")
		d[0].wantAnswer(again, http.StatusOK)
		d[1].wantAnswer(other, http.StatusOK)
		wantLoggedIn(t, d, "-B")
	})
}

// The one that logs in again after the other was saved ends the other.
func TestMaxPerUserLaterLoginEvictsForBoth(t *testing.T) {
	for most, want := range map[int]string{1: "A--", 2: "A-C"} {
		t.Run(fmt.Sprintf("most=%d", most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newPhones(t, 3, most, session.Config{MaxPerUser: most})
				other := d[2].hold("before delete")
				d[0].wantLogin(http.StatusOK)
				d[2].wantAnswer(other, http.StatusOK)
				wantLoggedIn(t, d, want)
			})
		})
	}
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
