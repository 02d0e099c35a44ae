package browsertest

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel kill chromedriver when the test binary dies
// without running its cleanups.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
