package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// What a committer sends to the store, and what it makes of the answers (C1, C5).

// save sends one write. It is done when the store has it; otherwise the plan is
// to be folded again over what the store holds.
//
// A creation is sent again with another secret. Its condition is that there be
// no record, so a copy that was stalled on its way could take effect after a
// logout: what it then makes must be nothing that a cookie opens (C1).
func (c *committer) save(o *outcome) (done bool, err error) {
	next, base, ttl, err := c.build(o)
	if err != nil {
		return false, err
	}
	id, prev := c.target(o)
	for failures := 0; ; {
		if o.fresh && c.sent {
			c.earlier = append(c.earlier, c.attempt)
			c.version, c.line = 0, nil
			if next, base, ttl, err = c.build(o); err != nil {
				return false, err
			}
		}
		c.sent = true
		ctx, release := c.sendContext(failures)
		c.known = false
		conflicting, err := c.m.store.Save(ctx, id, prev, next, ttl)
		if err != nil && errors.Is(err, ErrConflict) && conflicting.Version == 0 {
			conflicting, err = c.loadConflict(ctx, id)
		}
		release()
		switch {
		case err == nil:
			c.landed(o, base, ttl)
			return true, nil
		case errors.Is(err, ErrConflict):
			return c.conflict(o, conflicting, id)
		case errors.Is(err, ErrNotFound):
			c.rebase(content{})
			return false, nil
		}
		failures++
		c.m.event(c.request, Event{Kind: EventStoreFailed, ID: id, Err: err})
		// A store that is full says so for sure, and asking again is part of a flood.
		if errors.Is(err, errMemoryFull) || !c.again(failures) {
			return false, c.failed("save", err)
		}
	}
}

// landed notes that the store holds what the attempt wrote, or more.
func (c *committer) landed(o *outcome, base content, left time.Duration) {
	c.wrote, c.known = true, true
	c.outcome, c.base, c.left, c.at = *o, base, left, c.now()
}

// conflict takes the record that is there instead of the one we saw: our own,
// if an answer was lost (C5), or another request's, to merge with (C2).
func (c *committer) conflict(o *outcome, stored Record, id uuid.UUID) (done bool, err error) {
	there, err := parseRecord(stored, id)
	switch {
	case errors.Is(err, errUnreadable):
		c.standing = unreadable
		return false, nil
	case err != nil:
		c.m.event(c.request, Event{Kind: EventRecordRefused, ID: id, Err: err})
		c.standing = ended
		return false, nil
	case c.made(&there):
		c.landed(o, there, stored.TTL)
		return true, nil
	case o.fresh:
		return false, c.failed("save", fmt.Errorf("session %s is new and in the store already: %w", id, ErrConflict))
	}
	c.rebase(there)
	return false, nil
}

// made reports whether a record is what one of the attempt's sends left, and
// settles on that one's secret.
func (a *attempt) made(there *content) bool {
	for _, e := range a.earlier {
		if there.committed(e.version) {
			a.version, a.hash, a.line = e.version, e.hash, e.line
		}
	}
	return there.committed(a.version)
}

// rebase puts the plan on another record, if the presented secret still opens
// it (C3). No record means that the session is gone.
func (c *committer) rebase(there content) {
	c.newest, c.known, c.handed = true, true, false
	if !there.exists() || !equalHash(there.hash(), &c.presented) {
		c.standing = ended
	}
	c.merged = c.merged || c.base.version != there.version
	c.base = there
}

// reload asks for the newest record, for a commit that would change nothing.
func (c *committer) reload() (done bool, err error) {
	id := c.base.id()
	ctx, release := c.sendContext(0)
	stored, err := c.m.store.Load(ctx, id)
	release()
	if errors.Is(err, ErrNotFound) {
		c.rebase(content{})
		return false, nil
	}
	if err != nil {
		return false, c.failed("load", err)
	}
	return c.conflict(&outcome{}, stored, id)
}

// target is the record to write and the version that must be there.
func (c *committer) target(o *outcome) (id uuid.UUID, prev uint64) {
	if o.fresh {
		return c.id, 0
	}
	return c.base.id(), c.base.version
}

// build makes the next record of the session, the view of it, and its ttl.
func (c *committer) build(o *outcome) (next Record, base content, ttl time.Duration, err error) {
	now := c.now()
	d := draft{
		user: o.user, created: o.created, authenticated: o.authenticated,
		written: now.UnixMilli(), window: c.m.window(), outcome: o,
	}
	if o.fresh {
		c.beginFresh(now)
		d.id, d.created = c.id, c.freshAt
		d.end = d.created + c.m.lifetime.Milliseconds()
	} else {
		d.id, d.base, d.end = c.base.id(), &c.base, c.m.endOf(&c.base)
		copy(d.hash[:], c.base.hash())
	}
	if o.login {
		d.end = d.written + c.m.lifetime.Milliseconds() // L1
	}
	if o.mints() {
		c.mint(d.id, until(d.end, now.UnixNano()))
		d.hash = c.hash
	}
	if c.version == 0 {
		c.version = newVersion()
	}
	ttl = min(c.m.idle, until(d.end, now.UnixNano())).Truncate(time.Millisecond)
	if ttl < time.Millisecond {
		return Record{}, content{}, 0, ErrEnded // the lifetime ran out between stand and here (E2)
	}
	data := d.encode()
	// What a busy moment adds to a record, and a quiet one takes away, must not
	// decide whether a value fits.
	if size := len(data) - (d.valuesAt - d.historyAt); size > c.m.maxBytes {
		return Record{}, content{}, 0, &Error{Op: "encode", Err: fmt.Errorf("the session needs %d bytes, Config.MaxBytes allows %d; keep large values elsewhere and their names here", size, c.m.maxBytes)}
	}
	base = content{ // what parseRecord would say of it
		data: data, version: c.version, user: o.user,
		created: d.created, authenticated: d.authenticated, end: d.end,
		historyAt: uint32(d.historyAt), valuesAt: uint32(d.valuesAt),
	}
	next = Record{Version: c.version, Owner: o.user, Data: data}
	next.check()
	return next, base, ttl, nil
}

// window is how long versions are remembered (C5). A MemoryStore loses no answers.
func (m *Manager) window() time.Duration {
	if m.memory != nil {
		return 0
	}
	return 2 * m.timeout
}

func (c *committer) beginFresh(now time.Time) {
	if c.freshID == uuid.Nil {
		c.freshID, c.freshAt = newID(), now.UnixMilli()
	}
	if c.id == uuid.Nil {
		c.id = c.freshID
	}
}

// mint makes the attempt's secret, once: a write that is sent again carries the same.
func (c *committer) mint(id uuid.UUID, left time.Duration) {
	if c.line != nil {
		return
	}
	t := mint(id)
	c.hash = hashSecret(c.m.name, &t)
	line := c.m.cookie.set(&t, left)
	c.line = &line
}

// drop deletes the record that the plan leaves behind. By a request that saw a
// user this is unconditional; by one that saw an anonymous session it gives way
// to a Login (C4).
func (c *committer) drop() error {
	id := c.base.id()
	for failures := 0; ; {
		version := c.base.version
		if c.base.user != "" {
			version = 0
		}
		ctx, release := c.sendContext(failures)
		c.known = false
		err := c.m.store.Delete(ctx, id, version)
		if errors.Is(err, ErrConflict) {
			err = c.giveWay(ctx, id)
		}
		release()
		switch {
		case err == nil || errors.Is(err, ErrNotFound):
			c.dropped(id)
			return nil
		case errors.Is(err, errGaveWay):
			c.base, c.standing = content{}, ended
			return nil
		case errors.Is(err, ErrConflict): // changed, and still anonymous
			if time.Now().Before(c.deadline) {
				continue
			}
			return c.failed("delete", err)
		}
		failures++
		c.m.event(c.request, Event{Kind: EventStoreFailed, ID: id, Err: err})
		if !c.again(failures) {
			return c.failed("delete", err)
		}
	}
}

// dropped notes that the record is gone. A session that had ended before stays
// ended for this request: the visitor may hold the cookie of a newer one, which
// must neither be cleared nor replaced.
func (c *committer) dropped(id uuid.UUID) {
	c.deleted, c.owner, c.known = id, c.base.user, true
	c.clear = c.standing == live && c.s.cookied && c.cookie
	c.base = content{}
	if c.standing == live {
		c.standing = anonymous
	}
}

var errGaveWay = errors.New("a login came first")

// giveWay looks again at a record that changed under a logout of an anonymous
// session: with a user it stays (C4), unless it was this request that bound him.
func (c *committer) giveWay(ctx context.Context, id uuid.UUID) error {
	stored, err := c.m.store.Load(ctx, id)
	if err != nil {
		return err
	}
	there, err := parseRecord(stored, id)
	c.s.mu.Lock()
	moot := c.s.seldom().moot // no other commit of this session runs that would change it
	c.s.mu.Unlock()
	if err != nil || there.user != "" && (moot == nil || !moot.made(&there)) {
		return errGaveWay
	}
	c.base = there
	return ErrConflict
}
