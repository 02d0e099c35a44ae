package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// How often a commit sends, and how long it waits for the answers (C5).

// sendContext bounds one call to the store. An answer that never comes must
// leave time to send again: each call may take half of what is left (C5).
func (c *committer) sendContext(failures int) (ctx context.Context, release func()) {
	now := c.now()
	left := c.deadline.Sub(now)
	if failures < 3 {
		left /= 2
	}
	ctx, release = c.m.storeContext(c.request, now, left)
	if call, guarded := ctx.(*storeContext); guarded {
		call.attempt = failures
	}
	return ctx, release
}

// loadConflict asks for what a store could not give with its ErrConflict.
func (c *committer) loadConflict(ctx context.Context, id uuid.UUID) (Record, error) {
	rec, err := c.m.store.Load(ctx, id)
	if err == nil {
		err = ErrConflict
	}
	return rec, err
}

const maxSends = 5

// again reports whether a call that failed is to be sent once more: at once,
// then after growing pauses, as long as the commit has time and the store is not
// known to be away.
func (c *committer) again(failures int) bool {
	if c.m.guard.away() || failures >= maxSends || !time.Now().Before(c.deadline) {
		return false
	}
	if failures == 1 {
		return true
	}
	return c.sleep(10 * time.Millisecond << (2 * (failures - 2))) // 10, 40, 160 ms
}

// breathe lets the others of a crowd go first: writers in many processes that
// meet in one record would otherwise refuse each other in step.
func (c *committer) breathe(round int) bool {
	if round < 3 {
		return time.Now().Before(c.deadline)
	}
	return c.sleep(rand.N(time.Millisecond << min(round, 5)))
}

func (c *committer) sleep(d time.Duration) bool {
	if !time.Now().Add(d).Before(c.deadline) {
		return false
	}
	time.Sleep(d)
	return true
}

// failed ends a commit that the store did not let through. Losing to other
// writers says nothing about the store.
func (c *committer) failed(op string, err error) error {
	e := &Error{Op: op, Err: err}
	if !errors.Is(err, ErrConflict) {
		c.gaveUp = e
	}
	return e
}

// refused reports whether err settles that nothing was stored, and nothing will be.
func refused(err error) bool {
	var e *Error
	return errors.Is(err, ErrEnded) || errors.Is(err, ErrTooManySessions) || errors.Is(err, ErrCommitted) || errors.As(err, &e) && (e.Op == "encode" || errors.Is(err, errUnreadable))
}
