package handover_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

// The balancer is told to go elsewhere when, and only when, there is nothing left
// to be served here alone. One that asks for it hears earlier that it should send
// no new visitors.
func TestHealthSaysGoneWhenNothingIsLeft(t *testing.T) {
	shared := &faulty{Store: new(session.MemoryStore)}
	s := serving(shared)
	for range 3 {
		save(t, s, uuid.New(), 0, session.Record{Version: 1}, long)
	}
	checkHealth(t, s, 200, 200, "serving")

	moving := make(chan struct{})
	shared.decide(func(string, uuid.UUID, uint64) fate {
		<-moving
		return happens
	})
	done := make(chan error)
	go func() {
		_, err := s.Drain(t.Context())
		done <- err
	}()
	await(t, "the drain has begun", func() bool { return s.Progress().Took > 0 })
	checkHealth(t, s, 200, 404, "handing over")
	close(moving)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkHealth(t, s, 503, 503, "handed over")
}

func checkHealth(t *testing.T, s *handover.Store, plain, asking int, text string) {
	t.Helper()
	for target, want := range map[string]int{"/health": plain, "/health?moving=404": asking, "/health?moving=yes": plain} {
		w := httptest.NewRecorder()
		s.Health().ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != want || !strings.HasPrefix(w.Body.String(), text) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q, want %d %q", target, w.Code, w.Body, want, text)
		}
	}
}
