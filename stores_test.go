package session_test

import (
	"log/slog"
	"testing"

	"github.com/sojourn-go/session"
)

// quiet is for tests that provoke what a manager logs.
var quiet = slog.New(slog.DiscardHandler)

// eachStore runs a test on every store that ships with the library.
func eachStore(t *testing.T, test func(t *testing.T, store session.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, new(session.MemoryStore)) })
}
