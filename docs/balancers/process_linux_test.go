package balancers

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end the program when the test binary dies without
// running its cleanups. nginx ends its workers only if it is asked to end.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
