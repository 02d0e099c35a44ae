package main

import (
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/sojourn-go/session/internal/child"
)

// A process is a child that can be ended and started again. The zero value has
// not been started.
type process struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	words *tail
}

// A tail keeps the end of what a process said on its standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 2000

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// start runs cmd, which ends with this program at the latest.
func (p *process) start(cmd *exec.Cmd) error {
	child.EndWithParent(cmd)
	words := new(tail)
	cmd.Stderr = words
	// A grandchild that keeps the pipe open must not hold up Wait.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.ended, p.words = cmd, ended, words
	return nil
}

// signal sends sig, if there is a process to send it to.
func (p *process) signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig)
	}
}

// kill ends the process as a crash would, and waits until it is gone.
func (p *process) kill() {
	p.signal(os.Kill)
	p.await(nil)
}

// await waits until the process has ended, or until giveUp, and reports whether
// it has.
func (p *process) await(giveUp <-chan struct{}) bool {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended == nil {
		return true
	}
	select {
	case <-ended:
		return true
	case <-giveUp:
		return false
	}
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return false
	default:
		return p.cmd != nil
	}
}

// pid is 0 for a process that was never started.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// said is the end of what the process wrote on its standard error.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.words == nil {
		return ""
	}
	return p.words.String()
}
