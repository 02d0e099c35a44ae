package sessiontest_test

import (
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

func openMemory(*testing.T) session.Store { return new(session.MemoryStore) }

func TestMemoryStore(t *testing.T) {
	sessiontest.TestStore(t, openMemory, sessiontest.Options{})
}

// On the real clock the suite is held to its own brackets.
func TestMemoryStoreRealTime(t *testing.T) {
	sessiontest.TestStore(t, openMemory, sessiontest.Options{RealTime: true})
}
