//go:build !linux

package redistest

import (
	"os"
	"os/exec"
	"testing"
)

func endWithParent(*exec.Cmd) {}

func pause(t testing.TB, _ *os.Process) {
	t.Helper()
	t.Skip("pausing a server is done with Linux's SIGSTOP")
}

func resume(testing.TB, *os.Process) {}
