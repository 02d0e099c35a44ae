package redistest

import (
	"os"
	"syscall"
	"testing"
)

func pause(t testing.TB, p *os.Process)  { signal(t, p, syscall.SIGSTOP) }
func resume(t testing.TB, p *os.Process) { signal(t, p, syscall.SIGCONT) }

func signal(t testing.TB, p *os.Process, sig os.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
