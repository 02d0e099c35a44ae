package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Config.MaxPerUser: what a login does about the others of its user.

// trim ends the oldest of a user's sessions, or this login, if there are more
// than Config.MaxPerUser. Those that are on the list and gone are not counted,
// and are taken off it.
//
// Everybody trims what was before them on the list when they got their place, the
// oldest first. So of logins at once the last one leaves no more than may be, and
// none ends what another one counts on.
func (c *committer) trim(id uuid.UUID, user string) error {
	found, err := c.lookUp(user, c.listed)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(found.live, func(stored userRecord) bool { return stored.id == id })
	extra := len(found.live) - c.m.maxPerUser
	switch {
	case at < 0: // ended by another server since it was enlisted: the cookie would open nothing
		return c.undo(id, user, ErrEnded)
	case extra <= 0:
	case !c.m.refuseLogins:
		gone, err := c.evict(id, user, found.live[:at], extra)
		c.m.tellEnded(c.request, EventEvicted, user, gone) // also if others could not be ended
		if err != nil {
			return err
		}
		found.gone = append(found.gone, idsOf(gone)...)
	case !c.early: // who had a place has it still, and the others were counting them
		return c.undo(id, user, ErrTooManySessions)
	}
	if len(found.gone) == 0 {
		return nil
	}
	return c.sendLogin(func(ctx context.Context) error { return c.m.end(ctx, user, found.gone) })
}

// evict deletes the records of the first n of before, and returns what is gone.
//
// Who logs in again moves behind id first and is saved then (moveUp), and counts id
// itself. So the list is asked for after the records were, and again when one of
// them has changed by a login.
func (c *committer) evict(id uuid.UUID, user string, before []userRecord, n int) (gone []userRecord, err error) {
	for round := 0; ; round++ {
		were := len(before)
		if before, err = c.stillBefore(id, user, before); err != nil {
			return gone, err
		}
		n -= were - len(before)
		for again := false; !again; {
			if n <= 0 || len(before) == 0 {
				return gone, nil
			}
			if again, err = c.evictOne(&before[0]); err != nil {
				return gone, err
			}
			if !again {
				gone, before, n = append(gone, before[0]), before[1:], n-1
			}
		}
		if !c.breathe(round) {
			return gone, c.failed("delete", ErrConflict)
		}
	}
}

// stillBefore leaves out who was moved behind id, which a login of theirs did, or
// taken off the list. If id was, then by a later login or by a revocation: this login
// has failed.
func (c *committer) stillBefore(id uuid.UUID, user string, before []userRecord) ([]userRecord, error) {
	var listed []uuid.UUID
	err := c.sendLogin(func(ctx context.Context) (err error) {
		listed, err = c.m.listed(ctx, user)
		return err
	})
	if err != nil {
		return nil, err
	}
	at := slices.Index(listed, id)
	if at < 0 {
		return nil, c.undo(id, user, ErrEnded)
	}
	ahead := make(map[uuid.UUID]bool, at)
	for _, other := range listed[:at] {
		ahead[other] = true
	}
	return slices.DeleteFunc(before, func(stored userRecord) bool { return !ahead[stored.id] }), nil
}

// evictOne deletes a session unless its secret changed, which may be a login, or
// nobody can tell (R15). old is then as it is now.
func (c *committer) evictOne(old *userRecord) (again bool, err error) {
	was, _ := parseRecord(old.Record, old.id)
	for round := 0; ; round++ {
		changed := false
		err := c.sendLogin(func(ctx context.Context) error {
			err := c.m.store.Delete(ctx, old.id, old.Version)
			changed = errors.Is(err, ErrConflict)
			if changed {
				var there Record // not old itself: version 0 would delete unconditionally
				if there, err = c.m.store.Load(ctx, old.id); err == nil {
					old.Record = there
				}
			}
			if errors.Is(err, ErrNotFound) {
				changed, err = false, nil
			}
			return err
		})
		if err != nil || !changed {
			return false, err
		}
		is, err := parseRecord(old.Record, old.id)
		if err != nil || !was.exists() || !equalHash(is.hash(), (*[hashSize]byte)(was.hash())) {
			return true, nil
		}
		if !c.breathe(round) {
			return false, c.failed("delete", ErrConflict)
		}
	}
}

func (c *committer) lookUp(user string, listed []uuid.UUID) (found lookedUp, err error) {
	err = c.sendLogin(func(ctx context.Context) (err error) {
		found, err = c.m.lookUp(ctx, user, listed)
		return err
	})
	return found, err
}

// fits refuses a login that would be one too many before it costs the visitor
// what they have. Two that come at once may both pass: trim decides then.
func (c *committer) fits(o *outcome) error {
	if !o.login || !c.m.refuseLogins || c.sent || c.asked || c.hasPlace(o) {
		return nil
	}
	c.asked = true
	user := o.user
	var listed []uuid.UUID
	err := c.sendLogin(func(ctx context.Context) (err error) {
		listed, err = c.m.listed(ctx, user)
		return err
	})
	if err != nil || len(listed) < c.m.maxPerUser {
		return err
	}
	found, err := c.lookUp(user, listed)
	if err != nil {
		return err
	}
	if len(found.live) >= c.m.maxPerUser {
		c.m.event(c.request, Event{Kind: EventLoginRefused, ID: c.before.id, User: user, Err: ErrTooManySessions})
		c.undone = true
		return ErrTooManySessions
	}
	if len(found.gone) > 0 {
		return c.sendLogin(func(ctx context.Context) error { return c.m.end(ctx, user, found.gone) })
	}
	return nil
}

func checkPerUser(cfg *Config, users UserStore) error {
	switch {
	case cfg.MaxPerUser < 0:
		return fmt.Errorf("session: Config.MaxPerUser is %d: choose how many sessions a user may have, or 0 for any number", cfg.MaxPerUser)
	case cfg.MaxPerUser > 0 && users == nil:
		return fmt.Errorf("session: Config.MaxPerUser needs a store that knows a user's sessions, and a %T does not implement session.UserStore", cfg.Store)
	case cfg.RefuseLogins && cfg.MaxPerUser == 0:
		return errors.New("session: Config.RefuseLogins says what to do at Config.MaxPerUser, which is not set")
	}
	return nil
}
