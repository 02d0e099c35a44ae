package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// A breaker turns calls away while the store is away, so that requests are
// answered at once and do not pile up behind time-outs.
//
// Nobody is turned away on a guess. The store is suspected when a call was sent
// and for an eighth of StoreTimeout neither that call nor a later one was
// answered. It is then asked for an ID that nobody has: only if that fails too,
// and still no call was answered, is it away. From then on calls end at once,
// and the same question, put by one goroutine at a time, finds out when the store
// is back. Any answer to any call says so as well.
//
// An answer is a call's success, ErrNotFound or ErrConflict. The question is a
// Load, so a store that refuses only writes is never away: its readers stay.
type breaker struct {
	m   *Manager
	ask func(context.Context) error

	asked atomic.Int64              // when the first call was sent that no answer came after, since started; 0: none was
	armed atomic.Bool               // a look is due, or running: there is one at a time
	away  atomic.Pointer[storeAway] // what calls are told; nil: they go through

	mu       sync.Mutex
	failures [manyFailures]time.Time // the newest, in a ring
	next     int                     // place in it
	newest   error
}

const (
	// probeEvery is the pause between two questions to a store that is away.
	probeEvery = 100 * time.Millisecond
	// manyFailures within lately are worth telling an operator (Ready). One commit
	// can make five of them, and readiness probes commonly come every ten seconds.
	manyFailures = 5
	lately       = 10 * time.Second
)

// suspectAfter and askFor add up to half of StoreTimeout, which is what the first
// send of a commit may take (C5): whoever comes later than that into an outage
// does not wait, and a store that needs longer could not be written to anyhow.
// The question's floor keeps a StoreTimeout of a few milliseconds from making
// every store look away; with it the breaker stays closed, and is not needed.
func (b *breaker) suspectAfter() time.Duration { return b.m.timeout / 8 }
func (b *breaker) askFor() time.Duration       { return max(3*b.m.timeout/8, probeEvery) }

// storeAway is the error of calls that were not sent.
type storeAway struct {
	cause error
	since time.Time
}

func (e *storeAway) Error() string {
	return fmt.Sprintf("session: the store is away (%v); nothing was sent, and calls go through again as soon as a probe is answered", e.cause)
}

func (e *storeAway) Unwrap() error { return e.cause }

func turnedAway(err error) bool {
	_, away := errors.AsType[*storeAway](err)
	return away
}

// begin is nil if a call may be sent.
func (b *breaker) begin() error {
	if away := b.away.Load(); away != nil {
		return away
	}
	if b.asked.Load() == 0 && b.asked.CompareAndSwap(0, int64(sinceStart())) {
		b.arm()
	}
	return nil
}

// end judges a call that was sent. A caller who left says nothing about the store.
func (b *breaker) end(ctx context.Context, err error) {
	switch {
	case err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict):
		b.answered()
	case !errors.Is(ctx.Err(), context.Canceled):
		b.failed(err)
	}
}

func (b *breaker) answered() {
	if b.asked.Load() != 0 { // written by every call otherwise, and read by all
		b.asked.Store(0)
	}
	if away := b.away.Load(); away != nil && b.away.CompareAndSwap(away, nil) {
		b.m.event(context.Background(), Event{Kind: EventStoreBack, Duration: time.Since(away.since)})
	}
}

func (b *breaker) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures[b.next%manyFailures] = time.Now()
	b.next++
	b.newest = err
}

// trouble tells of calls that failed lately, too many to be nothing.
func (b *breaker) trouble() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	oldest := b.failures[b.next%manyFailures]
	if oldest.IsZero() || time.Since(oldest) > lately {
		return nil
	}
	return fmt.Errorf("%d calls or more failed within %v, the last one with: %w", manyFailures, lately, b.newest)
}

// answeredSince reports whether a call was answered after t.
func (b *breaker) answeredSince(t time.Duration) bool {
	asked := time.Duration(b.asked.Load())
	return asked == 0 || asked > t
}

// arm has the store looked after, unless it is.
func (b *breaker) arm() {
	if !b.armed.Load() && b.armed.CompareAndSwap(false, true) {
		b.lookIn(b.suspectAfter())
	}
}

// lookIn holds the breaker weakly: a manager that nobody refers to any more is
// garbage, whether its store is away or not.
func (b *breaker) lookIn(d time.Duration) {
	ref := weak.Make(b)
	time.AfterFunc(d, func() {
		if b := ref.Value(); b != nil {
			b.look()
		}
	})
}

// look finds out whether the store is away, or back. It comes again until there
// is nothing to find out, or until the manager is closed.
func (b *breaker) look() {
	asked, away := b.asked.Load(), b.away.Load() != nil
	if !b.m.writes.enter() {
		b.away.Store(nil) // nobody would find out that it is back, and readers are still served
		return            // still armed, so this was the last one
	}
	defer b.m.writes.leave()
	switch waiting := sinceStart() - time.Duration(asked); {
	case !away && asked == 0:
		b.rest()
		return
	case !away && waiting < b.suspectAfter():
		b.lookIn(b.suspectAfter() - waiting)
		return
	}
	ctx, cancel := context.WithTimeout(b.m.life, b.askFor())
	defer cancel()
	err := b.ask(ctx)
	if !away && asked == b.asked.Load() && !errors.Is(ctx.Err(), context.Canceled) {
		b.open(err)
	}
	b.lookIn(probeEvery)
}

// rest leaves the store alone until the next call. One that was begun behind
// look's back found it armed, and left that to it.
func (b *breaker) rest() {
	b.armed.Store(false)
	if b.asked.Load() != 0 {
		b.arm()
	}
}

// open is called by look alone. The event comes first, so that the one of the
// closing comes after it.
func (b *breaker) open(cause error) {
	b.m.event(context.Background(), Event{Kind: EventStoreAway, Err: cause})
	b.away.Store(&storeAway{cause: cause, since: time.Now()})
}
