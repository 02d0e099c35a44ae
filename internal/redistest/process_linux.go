package redistest

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// endWithParent makes the kernel kill the server when the test binary dies
// without running its cleanups.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

func pause(t testing.TB, p *os.Process)  { signal(t, p, syscall.SIGSTOP) }
func resume(t testing.TB, p *os.Process) { signal(t, p, syscall.SIGCONT) }

func signal(t testing.TB, p *os.Process, sig os.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
