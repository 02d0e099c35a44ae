package session_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sojourn-go/session"
)

// A lateSave is a session of alice's on two servers, of which the first has saved
// "dark" under the key a and waits for the answer. What is done at the second one
// meanwhile is newer than what the first one hands to the next in its queue.
type lateSave struct {
	one, two *session.Manager
	answer   *gate
	visitor  *guest
	codes    chan int
}

func newLateSave(t *testing.T) *lateSave {
	records := new(session.MemoryStore)
	store := newStallUserStore(records)
	s := &lateSave{
		one:   newManager(t, session.Config{Store: store}),
		two:   newManager(t, session.Config{Store: newStallUserStore(records)}),
		codes: make(chan int, 2),
	}
	s.visitor = &guest{t: t, manager: s.one}
	s.visitor.visit(func(s *session.Session) {
		_ = s.Login("alice")
		count.Set(s, 10)
	})
	s.answer = store.stall(t, "after save")
	s.queue(s.visitor, setsA("dark"))
	s.answer.wait()
	return s
}

func (s *lateSave) at(m *session.Manager, v *guest) *guest {
	there := *v
	there.manager = m
	return &there
}

// queue sends a request to the first server, and waits until it waits.
func (s *lateSave) queue(v *guest, f func(*session.Session)) {
	go func() { s.codes <- s.at(s.one, v).visit(f).Code }()
	synctest.Wait()
}

// arrive lets the late answer in. It fails unless both requests end with 200.
func (s *lateSave) arrive(t *testing.T) {
	t.Helper()
	s.answer.open()
	for range 2 {
		if code := <-s.codes; code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
	}
}

func setsA(value string) func(*session.Session) {
	return func(s *session.Session) { words["a"].Set(s, value) }
}

func (s *lateSave) read(v *guest) (user, a string) {
	s.at(s.one, v).visit(func(s *session.Session) { user, a = s.User(), words["a"].Get(s) })
	return user, a
}

// lateSaveAndRenew renews at the second server, queues f with the new cookie at the
// first, and lets the late answer in.
func lateSaveAndRenew(t *testing.T, f func(*session.Session)) (*lateSave, *guest) {
	t.Helper()
	s := newLateSave(t)
	renewed := s.at(s.two, s.visitor)
	renewed.visit(func(s *session.Session) { _ = s.Renew() })
	s.queue(renewed, f)
	s.arrive(t)
	return s, renewed
}

// What would change nothing in what was handed over may change what the store has.
func TestC2LateSaveHandsOverNoOldValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLateSave(t)
		s.at(s.two, s.visitor).visit(setsA("light"))
		s.queue(s.visitor, setsA("dark"))
		s.arrive(t)
		if _, a := s.read(s.visitor); a != "dark" {
			t.Errorf("C2: the last request set dark and was answered 200; the store holds %q", a)
		}
	})
}

func TestC2LateSaveAndUpdateNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLateSave(t)
		s.at(s.two, s.visitor).visit(func(s *session.Session) { count.Set(s, 20) })
		got := 0
		s.queue(s.visitor, func(s *session.Session) {
			got, _ = count.UpdateNow(t.Context(), s, func(n int) int { return max(n, 10) })
		})
		s.arrive(t)
		if got != 20 {
			t.Errorf("C2: UpdateNow returned %d; the store held 20 since before the request came", got)
		}
	})
}

func TestC3LateSaveRefusesNoLiveSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, renewed := lateSaveAndRenew(t, setsA("light"))
		if _, a := s.read(renewed); a != "light" {
			t.Errorf("C3: the store holds %q", a)
		}
	})
}

func TestL1LateSaveKeepsNoSecretAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, renewed := lateSaveAndRenew(t, loginAs("alice"))
		if user, _ := s.read(renewed); user != "" {
			t.Errorf("L1: the token that Login was called with still opens a session of %q", user)
		}
		if all, err := s.one.Sessions(t.Context(), "alice"); err != nil || len(all) != 1 {
			t.Errorf("L1: %d sessions are listed, %v", len(all), err)
		}
	})
}
