package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// The table has every store and every job, stands between the markers, and
// nothing else of the page changes.
func TestTableIsWrittenBetweenTheMarkers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+begin+"\nold\n"+end+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shortest := settings{quick: true, rounds: 1, budget: time.Millisecond, warm: time.Millisecond, syncFor: time.Millisecond}
	if err := run(t, shortest, page, t.Output()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	for _, want := range []string{"before\n" + begin + "\nWritten", end + "\nafter\n", "mean nothing"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(got, "old") {
		t.Error("the old table is still there")
	}
	for _, store := range []string{"MemoryStore", "Redis, no persistence", "Redis, `appendfsync everysec`", "Redis, `appendfsync always`", "bbolt"} {
		for _, workers := range []string{"1", "8"} {
			if n := strings.Count(got, "\n| "+store+" | "+workers+" |"); n != 2 {
				t.Errorf("%d rows of %s with %s at once, want one of reads and one of writes", n, store, workers)
			}
		}
	}
}

// sizes is a store that looks at what it is given.
type sizes struct {
	session.MemoryStore
	mu      sync.Mutex
	largest int
}

func (s *sizes) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.mu.Lock()
	s.largest = max(s.largest, len(next.Data))
	s.mu.Unlock()
	return s.MemoryStore.Save(ctx, id, prev, next, ttl)
}

// Every measurement is of sessions of 300 bytes of data, and of writes that count.
func TestSessionsHaveThreeHundredBytes(t *testing.T) {
	store := new(sizes)
	sessions, err := session.New(session.Config{Store: store, Name: "compare"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := logIn(sessions.Handler(routes())); err != nil {
		t.Fatal(err)
	}
	if store.largest != 300 {
		t.Errorf("%d bytes of data, want 300", store.largest)
	}
}
