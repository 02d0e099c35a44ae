package session_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/sojourn-go/session"
)

// R7, R14: a session that is asked for late is as late as one that was there.
func TestR7SessionAskedForAfterTheHeader(t *testing.T) {
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	w := v.request(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		s := v.manager.FromContext(r.Context())
		if s != session.FromContext(r.Context()) {
			t.Error("two sessions of one request")
		}
		if err := s.Login("alice"); !errors.Is(err, session.ErrCommitted) {
			t.Errorf("a login after the header: %v", err)
		}
		countKey.Set(s, 1)
		if err := s.Save(r.Context()); !errors.Is(err, session.ErrCommitted) {
			t.Errorf("a first value after the header: %v", err)
		}
	})
	if v.cookie != "" || len(w.Header()) > 0 {
		t.Errorf("cookie %q, header %v", v.cookie, w.Header())
	}
}

func TestR14SessionAskedForAfterTheRequest(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"that wrote nothing": func(http.ResponseWriter, *http.Request) {},
		"that wrote":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"that panicked":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			v := &guest{t: t, manager: newManager(t, session.Config{})}
			var kept context.Context
			func() {
				defer func() { _ = recover() }()
				v.request(func(w http.ResponseWriter, r *http.Request) {
					kept = r.Context()
					handle(w, r)
				})
			}()
			s := v.manager.FromContext(kept)
			countKey.Set(s, 1)
			if countKey.Get(s) != 0 || !s.IsNew() {
				t.Error("a change after the request")
			}
			if err := s.Login("alice"); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("a login after the request: %v", err)
			}
			if err := s.Save(context.Background()); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("a save after the request: %v", err)
			}
		})
	}
}

// R14: goroutines that ask at once share one session, whatever the response does
// meanwhile, and what they changed before it began is saved.
func TestR14SessionAskedForByManyAtOnce(t *testing.T) {
	for range 200 {
		v := &guest{t: t, manager: newManager(t, session.Config{})}
		v.request(func(w http.ResponseWriter, r *http.Request) {
			var asking sync.WaitGroup
			got := make([]*session.Session, 4)
			for i := range got {
				asking.Go(func() { got[i] = v.manager.FromContext(r.Context()) })
			}
			w.WriteHeader(http.StatusOK)
			asking.Wait()
			for _, s := range got {
				if s != got[0] {
					t.Error("two sessions of one request")
				}
			}
			if err := got[0].Login("alice"); !errors.Is(err, session.ErrCommitted) {
				t.Errorf("a login after the header: %v", err)
			}
		})
	}
	v := &guest{t: t, manager: newManager(t, session.Config{})}
	v.request(func(_ http.ResponseWriter, r *http.Request) {
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				countKey.Update(v.manager.FromContext(r.Context()), func(n int) int { return n + 1 })
			})
		}
		asking.Wait()
	})
	v.visit(func(s *session.Session) {
		if n := countKey.Get(s); n != 8 {
			t.Errorf("%d of 8 were saved", n)
		}
	})
}
