package session_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// sequenceOps are the words of the table in docs/design.md.
var sequenceOps = map[string]func(context.Context, *session.Session) error{
	"Set":          func(_ context.Context, s *session.Session) error { sequenceKey.Set(s, 2); return nil },
	"Set as it is": func(_ context.Context, s *session.Session) error { sequenceKey.Set(s, 1); return nil },
	"Delete":       func(_ context.Context, s *session.Session) error { sequenceKey.Delete(s); return nil },
	"Clear":        func(_ context.Context, s *session.Session) error { s.Clear(); return nil },
	"Renew":        func(_ context.Context, s *session.Session) error { return s.Renew() },
	"Login alice":  func(_ context.Context, s *session.Session) error { return s.Login("alice") },
	"Login bob":    func(_ context.Context, s *session.Session) error { return s.Login("bob") },
	"Destroy":      func(_ context.Context, s *session.Session) error { s.Destroy(); return nil },
	"Save":         func(ctx context.Context, s *session.Session) error { return s.Save(ctx) },
}

var sequenceKey = session.NewKey[int]("n")

var sequences = []string{
	"Set",
	"Set as it is",
	"Delete",
	"Set, Delete",
	"Delete, Set as it is",
	"Clear",
	"Clear, Set",
	"Renew",
	"Renew, Renew",
	"Set, Renew",
	"Login alice",
	"Set, Login alice",
	"Login alice, Set",
	"Login alice, Login alice",
	"Login alice, Login bob",
	"Login bob",
	"Login bob, Set",
	"Login alice, Destroy",
	"Destroy",
	"Set, Destroy",
	"Destroy, Destroy",
	"Destroy, Set",
	"Destroy, Login alice",
	"Destroy, Set, Delete",
	"Save, Set",
	"Set, Save",
	"Set, Save, Set",
	"Set, Save, Login alice",
	"Login alice, Save, Renew",
	"Set, Save, Destroy",
	"Destroy, Save, Set",
}

// tellingStore writes down what it is asked to change.
type tellingStore struct {
	session.MemoryStore
	told []string
}

func (s *tellingStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if prev == 0 {
		s.told = append(s.told, "created")
	} else {
		s.told = append(s.told, "saved")
	}
	return s.MemoryStore.Save(ctx, id, prev, next, ttl)
}

func (s *tellingStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	s.told = append(s.told, "deleted")
	return s.MemoryStore.Delete(ctx, id, version)
}

// outcomeOf runs a sequence in one request and tells, in the words of the table,
// what reached the store and the browser. It also checks what holds for every
// sequence: one Set-Cookie at the most, and the next request agrees with what
// this one saw at its end.
func outcomeOf(t *testing.T, sequence string, setup func(*session.Session)) string {
	t.Helper()
	store := new(tellingStore)
	m, err := session.New(session.Config{Store: store, Name: "table", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	if setup != nil {
		r.AddCookie(sessiontest.Cookie(t, m, setup))
	}
	store.told = nil
	var saw string
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := m.FromContext(r.Context())
		for op := range strings.SplitSeq(sequence, ", ") {
			if err := sequenceOps[op](r.Context(), s); err != nil {
				t.Errorf("%s: %s: %v", sequence, op, err)
			}
		}
		saw = stateOf(s)
	})).ServeHTTP(w, r)
	lines := w.Header()["Set-Cookie"]
	if w.Code != http.StatusOK || len(lines) > 1 {
		t.Errorf("%s: status %d, Set-Cookie %q", sequence, w.Code, lines)
	}
	outcome := store.told
	next := r.Clone(t.Context())
	if len(lines) == 1 {
		next.Header.Del("Cookie")
		if cookie := w.Result().Cookies()[0]; cookie.MaxAge < 0 {
			outcome = append(outcome, "cookie cleared")
		} else {
			outcome = append(outcome, "cookie")
			next.AddCookie(cookie)
		}
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := m.FromContext(r.Context())
		got := stateOf(s)
		if s.ID() == uuid.Nil { // an ID that was never stored is nobody's
			_, got, _ = strings.Cut(got, ",")
			_, saw, _ = strings.Cut(saw, ",")
		}
		if got != saw {
			t.Errorf("%s: the next request sees %s, this one saw %s", sequence, got, saw)
		}
	})).ServeHTTP(httptest.NewRecorder(), next)
	if len(outcome) == 0 {
		return "nothing"
	}
	return strings.Join(outcome, ", ")
}

func stateOf(s *session.Session) string {
	return fmt.Sprintf("ID %s, user %q, n %d", s.ID(), s.User(), sequenceKey.Get(s))
}

// TestR16SequencesMeanWhatTheTableSays holds the table in docs/design.md to what
// happens.
func TestR16SequencesMeanWhatTheTableSays(t *testing.T) {
	anonymous := func(s *session.Session) { sequenceKey.Set(s, 1) }
	alice := func(s *session.Session) {
		if err := s.Login("alice"); err != nil {
			t.Fatal(err)
		}
		sequenceKey.Set(s, 1)
	}
	var table strings.Builder
	for _, sequence := range sequences {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", sequence,
			outcomeOf(t, sequence, nil), outcomeOf(t, sequence, anonymous), outcomeOf(t, sequence, alice))
	}
	page, err := os.ReadFile(filepath.Join("docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("docs/design.md does not have this table:\n%s", table.String())
	}
}
