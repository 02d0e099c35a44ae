package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Config.MaxPerUser: what a login does about the others of its user.

// trim ends the oldest of a user's sessions, or this login, if there are more
// than Config.MaxPerUser. Those that are on the list and gone are not counted,
// and are taken off it. Of logins at once each trims what is before it on the list,
// so that the last one leaves no more than may be, and none misses its own place.
func (c *committer) trim(id uuid.UUID, user string, listed []uuid.UUID) error {
	found, err := c.lookUp(user, listed)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(found.live, func(stored userRecord) bool { return stored.id == id })
	if at < 0 { // ended by another server since it was enlisted: the cookie would open nothing
		return c.undo(id, user, ErrEnded)
	}
	var evicted []userRecord
	if extra := len(found.live) - c.m.maxPerUser; extra > 0 {
		// Who had a place has it still: the other is counting them.
		if c.m.refuseLogins && at >= c.m.maxPerUser && !c.placed {
			return c.undo(id, user, ErrTooManySessions)
		}
		if !c.m.refuseLogins {
			evicted, err = c.evict(found.live[:at], extra)
		}
	}
	if ended := append(idsOf(evicted), found.gone...); err == nil && len(ended) > 0 {
		err = c.sendLogin(func(ctx context.Context) error { return c.m.end(ctx, user, ended) })
	}
	c.m.tellEnded(c.request, EventEvicted, user, evicted) // also if others could not be ended
	return err
}

// evict deletes the records of the n sessions of before that logged in the longest
// ago. The list does not always tell which: who logged in again is moved to its end
// a moment after that was saved. It returns what is gone.
//
// One that logs in again meanwhile, later than this login, comes to know of it, and
// evicts for both; one that did so earlier spares this one, and is not the oldest
// any more. With MaxPerUser 1 it may be the only one.
func (c *committer) evict(before []userRecord, n int) (gone []userRecord, err error) {
	oldest := byLogin(before)
	if c.placed {
		oldest = slices.DeleteFunc(oldest, func(l loggedIn) bool { return l.at >= c.base.authenticated })
	}
	for round := 0; n > 0 && len(oldest) > 0; {
		next := oldest[0]
		oldest = oldest[1:]
		again, err := c.evictOne(&next)
		switch {
		case err != nil:
			return gone, err
		case !again:
			gone, n = append(gone, next.userRecord), n-1
		case next.at > c.base.authenticated:
			n--
		case !c.breathe(round):
			return gone, c.failed("delete", ErrConflict)
		default:
			oldest, round = append(oldest, next), round+1
		}
	}
	return gone, nil
}

// A loggedIn is a user's session and the time of its login, in milliseconds since
// 1970.
type loggedIn struct {
	userRecord
	at int64
}

// byLogin puts what a list names in the order of logins, the oldest first. What
// cannot be read (R15) keeps its place behind the one before it.
func byLogin(listed []userRecord) []loggedIn {
	sorted := make([]loggedIn, len(listed))
	at := int64(0)
	for i, stored := range listed {
		if is, err := parseRecord(stored.Record, stored.id); err == nil {
			at = is.authenticated
		}
		sorted[i] = loggedIn{stored, at}
	}
	slices.SortStableFunc(sorted, func(a, b loggedIn) int { return cmp.Compare(a.at, b.at) })
	return sorted
}

// evictOne deletes a session unless it changed by a login, of which old then tells.
func (c *committer) evictOne(old *loggedIn) (again bool, err error) {
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
		if is, err := parseRecord(old.Record, old.id); err == nil && is.authenticated != old.at {
			old.at = is.authenticated
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
	found, err := c.lookUp(user, listed)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(found.live, func(stored userRecord) bool { return c.base.exists() && stored.id == c.base.id() })
	if len(others) >= c.m.maxPerUser {
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
