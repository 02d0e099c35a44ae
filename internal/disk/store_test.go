package disk_test

import (
	"path/filepath"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/disk"
	"github.com/sojourn-go/session/sessiontest"
)

func open(t *testing.T) session.Store {
	s, err := disk.Open(filepath.Join(t.TempDir(), "sessions"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestDiskStore(t *testing.T) {
	sessiontest.TestStore(t, open, sessiontest.Options{})
}
