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
// than Config.MaxPerUser. Those that are on the list and dead are not counted,
// and are taken off it.
func (c *committer) trim(id uuid.UUID, user string, listed []uuid.UUID) error {
	found, dead, err := c.lookUp(user, listed)
	if err != nil {
		return err
	}
	var evicted []userRecord
	if extra := len(found) - c.m.maxPerUser; extra > 0 {
		at := slices.IndexFunc(found, func(stored userRecord) bool { return stored.id == id })
		if c.m.refuseLogins && at >= c.m.maxPerUser {
			return c.undo(id, user, ErrTooManySessions)
		}
		if !c.m.refuseLogins {
			// Not itself: a login that came after it does that, and knows better.
			evicted = slices.DeleteFunc(slices.Clone(found[:extra]), func(stored userRecord) bool { return stored.id == id })
		}
	}
	evicted, err = c.evict(evicted)
	if err != nil {
		return err
	}
	ended := append(idsOf(evicted), dead...)
	if len(ended) == 0 {
		return nil
	}
	if err := c.sendLogin(func(ctx context.Context) error { return c.m.end(ctx, user, ended) }); err != nil {
		return err
	}
	c.m.tellEnded(c.request, EventEvicted, user, evicted)
	return nil
}

// evict deletes the records of sessions, but for those that logged in again since
// they were looked up: they are not old any more, and their login came to know of
// this one. It returns what is gone.
func (c *committer) evict(old []userRecord) (gone []userRecord, err error) {
	for _, stored := range old {
		isGone, err := c.evictOne(stored)
		if err != nil {
			return nil, err
		}
		if isGone {
			gone = append(gone, stored)
		}
	}
	return gone, nil
}

func (c *committer) evictOne(old userRecord) (gone bool, err error) {
	was, _ := parseRecord(old.Record, old.id) // one that cannot be read (R15) says 0
	stored := old.Record
	for round := 0; ; round++ {
		changed := false
		err := c.sendLogin(func(ctx context.Context) error {
			err := c.m.store.Delete(ctx, old.id, stored.Version)
			changed = errors.Is(err, ErrConflict)
			if changed {
				var there Record // not stored itself: version 0 would delete unconditionally
				if there, err = c.m.store.Load(ctx, old.id); err == nil {
					stored = there
				}
			}
			if errors.Is(err, ErrNotFound) {
				changed, err = false, nil
			}
			return err
		})
		if err != nil || !changed {
			return err == nil, err
		}
		if is, _ := parseRecord(stored, old.id); is.authenticated != was.authenticated {
			return false, nil
		}
		if !c.breathe(round) {
			return false, c.failed("delete", ErrConflict)
		}
	}
}

func (c *committer) lookUp(user string, listed []uuid.UUID) (found []userRecord, dead []uuid.UUID, err error) {
	err = c.sendLogin(func(ctx context.Context) (err error) {
		found, dead, err = c.m.lookUp(ctx, user, listed)
		return err
	})
	return found, dead, err
}

// fits refuses a login that would be one too many before it costs the visitor
// what they have. Two that come at once may both pass: trim decides then.
func (c *committer) fits(o *outcome) error {
	if !o.login || !c.m.refuseLogins || c.sent || c.asked {
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
	found, dead, err := c.lookUp(user, listed)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(found, func(stored userRecord) bool { return c.base.exists() && stored.id == c.base.id() })
	if len(others) >= c.m.maxPerUser {
		c.m.event(c.request, Event{Kind: EventLoginRefused, ID: c.before.id, User: user, Err: ErrTooManySessions})
		c.undone = true
		return ErrTooManySessions
	}
	if len(dead) > 0 {
		return c.sendLogin(func(ctx context.Context) error { return c.m.end(ctx, user, dead) })
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
