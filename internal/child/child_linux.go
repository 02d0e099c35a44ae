// Package child keeps processes that a program starts from outliving it.
package child

import (
	"os/exec"
	"syscall"
)

// EndWithParent makes the kernel kill the process that cmd is going to start
// when this one dies, however it dies.
func EndWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
