package session

import (
	"context"
	"sync"
	"time"
)

// A storeContext carries a request's values into the store, but not its
// cancellation: a commit goes on when the client has left (R11). It ends at a
// deadline. Its timer is built when somebody asks for Done, so that a store in
// memory, which never waits, does not pay for one.
type storeContext struct {
	context.Context // the request's, for its values
	deadline        time.Time
	attempt         int // how often the same was sent before

	mu     sync.Mutex
	timed  context.Context
	cancel context.CancelFunc
}

func (c *storeContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *storeContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(context.WithoutCancel(c.Context), c.deadline)
	}
	return c.timed.Done()
}

func (c *storeContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.timed != nil:
		return c.timed.Err()
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value hides the request's own cancellation once there is a timer: contexts
// that are derived from this one find theirs by it.
func (c *storeContext) Value(key any) any {
	if key == (attemptKey{}) {
		return c.attempt
	}
	c.mu.Lock()
	timed := c.timed
	c.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return c.Context.Value(key)
}

type attemptKey struct{}

// attemptOf is 0 for calls that are sent once.
func attemptOf(ctx context.Context) int {
	attempt, _ := ctx.Value(attemptKey{}).(int)
	return attempt
}

func (c *storeContext) String() string { return "session.storeContext" }

// release stops the timer, if there is one.
func (c *storeContext) release() {
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// storeContext bounds calls to the store, d from now; release is for when they
// are over. A [MemoryStore] answers at once and knows no values: it needs none of
// this.
func (m *Manager) storeContext(request context.Context, now time.Time, d time.Duration) (ctx context.Context, release func()) {
	if m.memory != nil {
		return context.Background(), func() {}
	}
	c := &storeContext{Context: request, deadline: now.Add(d)}
	return c, c.release
}
