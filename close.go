package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Close ends the manager's work: from then on it writes nothing more, it waits
// for what is being written, and what it does in the background ends. Call it
// when no more requests come, and before the store is closed, which is the
// caller's to do:
//
//	err := errors.Join(server.Shutdown(ctx), sessions.Close(ctx), store.Close())
//
// Requests that come all the same are served from their sessions, unless they
// change them: those are answered 503 with Retry-After, and nothing of them is
// stored. Sessions are not kept alive any more, what revokes sessions returns an
// error, and the streams that hang on [Session.Done] are told to end within a
// second.
//
// If ctx ends before the writing does, the error says so and how much is left;
// call Close again to go on waiting. Close may be called several times, and by
// several goroutines.
func (m *Manager) Close(ctx context.Context) error {
	m.writes.close()
	m.endLife()
	select {
	case <-m.writes.drained:
		return nil
	default: // a ctx that has ended does not hide that there is nothing to wait for
	}
	select {
	case <-m.writes.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("session: Close: %d commits or other uses of the store still run, and may fail if it is closed now: %w", m.writes.running(), context.Cause(ctx))
	}
}

var errManagerClosed = errors.New("session: the Manager was closed, and nothing was sent; close it after http.Server.Shutdown has returned")

// writes counts what is being written, so that Close can wait for it. It is one
// number, because every commit passes here: how many there are, plus closing
// once no more may begin.
type writes struct {
	state   atomic.Int64
	drained chan struct{} // closed when closing, and none is left
	once    sync.Once
}

const closing = 1 << 62

// enter reports whether a write may begin; leave must follow if it may.
func (w *writes) enter() bool {
	if w.state.Add(1) < closing {
		return true
	}
	w.leave()
	return false
}

func (w *writes) leave() {
	if w.state.Add(-1) == closing {
		w.once.Do(func() { close(w.drained) })
	}
}

func (w *writes) close() {
	if w.state.Or(closing) == 0 {
		w.once.Do(func() { close(w.drained) })
	}
}

func (w *writes) running() int64 { return w.state.Load() &^ closing }
