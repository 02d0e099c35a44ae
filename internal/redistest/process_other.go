//go:build !linux

package redistest

import (
	"os"
	"testing"
)

func pause(t testing.TB, _ *os.Process) {
	t.Helper()
	t.Skip("pausing a server is done with Linux's SIGSTOP")
}

func resume(testing.TB, *os.Process) {}
