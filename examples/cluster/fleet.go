package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTime bounds the start of a server, on a machine that is busy.
	startTime = 20 * time.Second
	// stopTime is how long a server may take to leave before it is killed.
	stopTime = drainTime + 5*time.Second
)

// A server is one process of the application.
type server struct {
	name string
	process
	stdin interface{ Close() error } // open for as long as the server may live
	doing sync.Mutex                 // held by the one start or stop that runs
}

// A fleet is the servers behind a balancer.
type fleet struct {
	balancer *balancer
	servers  []*server
	redis    string // for those who need it; "": there is none

	mu  sync.Mutex
	way way
}

var serverNames = []string{"A", "B", "C"}

func newFleet(b *balancer, redis string) *fleet {
	f := &fleet{balancer: b, redis: redis, way: stickyMemory}
	for _, name := range serverNames {
		f.servers = append(f.servers, &server{name: name})
	}
	return f
}

func (f *fleet) current() way {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.way
}

func (f *fleet) server(name string) (*server, error) {
	for _, s := range f.servers {
		if s.name == name {
			return s, nil
		}
	}
	return nil, errors.New("cluster: there is no server of that name")
}

// choose begins anew in another way, or in the same: all servers are killed, with
// what they held, and started again.
func (f *fleet) choose(ctx context.Context, w way) error {
	if !w.known() {
		return errors.New("cluster: there is no such way")
	}
	if w.NeedsRedis() && f.redis == "" {
		return errNoRedis
	}
	f.mu.Lock()
	f.way = w
	f.mu.Unlock()
	f.balancer.setSticky(w.sticky())
	errs := make([]error, len(f.servers))
	var wg sync.WaitGroup
	for i, s := range f.servers {
		wg.Go(func() {
			_ = f.kill(s.name)
			errs[i] = f.start(ctx, s.name)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// start runs a server, unless it runs already, and waits until the balancer sends
// it visitors.
func (f *fleet) start(ctx context.Context, name string) error {
	s, err := f.server(name)
	if err != nil {
		return err
	}
	s.doing.Lock()
	defer s.doing.Unlock()
	if s.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	addr, err := s.run(ctx, f.current(), f.redis)
	if err != nil {
		return fmt.Errorf("cluster: server %s does not start: %w %s", name, err, s.said())
	}
	f.balancer.set(name, addr)
	for !f.balancer.state(name).up {
		if !s.running() || ctx.Err() != nil {
			return fmt.Errorf("cluster: server %s is not well: %s", name, s.said())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// run starts the process and reads its address from its first line.
func (s *server) run(ctx context.Context, w way, redis string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, "app", "-name", s.name, "-way", string(w), "-redis", redis)
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, s.process.start(cmd)); err != nil {
		return "", err
	}
	s.stdin = stdin
	defer context.AfterFunc(ctx, func() { s.signal(os.Kill) })()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return "", err
	}
	_, at, _ := strings.Cut(strings.TrimSpace(line), "Listening on ")
	u, err := url.Parse(at)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("it said %q", line)
	}
	return u.Host, nil
}

// kill ends a server without warning. The balancer has to find out by itself.
func (f *fleet) kill(name string) error {
	s, err := f.server(name)
	if err != nil {
		return err
	}
	s.kill() // also one that is on its way out
	s.doing.Lock()
	defer s.doing.Unlock()
	return nil
}

// stop takes a server out in good order and waits until it is gone.
func (f *fleet) stop(ctx context.Context, name string) error {
	s, err := f.server(name)
	if err != nil {
		return err
	}
	s.doing.Lock()
	defer s.doing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	f.balancer.drain(name)
	s.signal(syscall.SIGTERM)
	if !s.await(ctx.Done()) {
		s.kill()
		return fmt.Errorf("cluster: server %s was killed, because it did not leave in %v: %s", name, stopTime, s.said())
	}
	f.balancer.set(name, "")
	return nil
}

// state is what a server does, in a word.
func (f *fleet) state(name string) string {
	s, err := f.server(name)
	at := f.balancer.state(name)
	switch {
	case err != nil || !s.running():
		return "down"
	case at.draining:
		return "draining"
	case at.up:
		return "up"
	}
	return "starting"
}

// close ends all servers.
func (f *fleet) close() {
	for _, s := range f.servers {
		s.kill()
	}
}
