package migrate

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A mover is the Store of all phases.
type mover struct {
	old, new session.Store
	phase    Phase
	stats    stats
	// carry puts a user's session on the list of the new store before it is moved.
	// Nil: the stores keep no lists.
	carry func(ctx context.Context, id uuid.UUID, owner string) error
}

// A view is what is true of an ID, and where it is written.
type view struct {
	rec      session.Record // zero: there is none
	inOld    bool           // else in new, if it is anywhere
	key      uint64         // the version under which it is written and deleted there
	hold     uint64         // in new, where there is no record; 0: none
	envelope uint64         // in old; 0: none
}

// judge needs what new has only if old has no record of its own.
func (s *mover) judge(inOld, inNew session.Record) view {
	next, hold, sealed := unseal(inOld)
	switch {
	case inOld.Version != 0 && !sealed:
		s.stats.answeredByOld()
		return view{rec: inOld, inOld: true, key: inOld.Version}
	case exists(inNew):
		s.stats.fromNew.Add(1)
		return view{rec: inNew, key: inNew.Version, envelope: envelopeOf(inOld, sealed)}
	case sealed && inNew.Version == hold:
		s.stats.answeredByOld()
		return view{rec: next, key: hold, envelope: inOld.Version}
	}
	return view{hold: inNew.Version, envelope: envelopeOf(inOld, sealed)}
}

func envelopeOf(inOld session.Record, sealed bool) uint64 {
	if !sealed {
		return 0
	}
	return inOld.Version
}

// look asks the old store first, whose answer decides whether the new one counts.
// In this order two answers are enough: what is not in the old store does not come
// back to it, and an envelope without its hold stays without.
func (s *mover) look(ctx context.Context, id uuid.UUID) (view, error) {
	inOld, err := load(ctx, s.old, id)
	if err != nil {
		return view{}, err
	}
	var inNew session.Record
	if _, _, sealed := unseal(inOld); inOld.Version == 0 || sealed {
		if inNew, err = load(ctx, s.new, id); err != nil {
			return view{}, err
		}
	}
	return s.judge(inOld, inNew), nil
}

// load returns the zero Record where there is none.
func load(ctx context.Context, from session.Store, id uuid.UUID) (session.Record, error) {
	rec, err := from.Load(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return session.Record{}, nil
	}
	return rec, err
}

// Load implements [session.Store]. A record in the new store is the only one, so
// those who write there begin with it.
func (s *mover) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	if s.phase != WriteOld {
		rec, err := load(ctx, s.new, id)
		if err != nil {
			return session.Record{}, err
		}
		if exists(rec) {
			s.stats.fromNew.Add(1)
			return rec, nil
		}
		if s.phase == NewOnly {
			return session.Record{}, session.ErrNotFound
		}
	}
	v, err := s.look(ctx, id)
	if err == nil && v.rec.Version == 0 {
		err = session.ErrNotFound
	}
	return v.rec, err
}

// rounds bound a write that others keep overtaking. Each of them got on with it.
const rounds = 100

var errOvertaken = errors.New("session: others changed the record at every attempt to move it; try again")

// overtaken reports that a conditional write changed nothing, because what it was
// to replace is not there any more.
func overtaken(err error) bool {
	return errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound)
}

// Save implements [session.Store].
func (s *mover) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	if live, err, known := s.saveAtOnce(ctx, id, prev, next, ttl); known {
		return live, err
	}
	for range rounds {
		v, err := s.look(ctx, id)
		switch {
		case err != nil:
			return session.Record{}, err
		case v.rec.Version != prev && v.rec.Version == 0:
			return session.Record{}, session.ErrNotFound
		case v.rec.Version != prev:
			return v.rec, session.ErrConflict
		}
		if err := s.write(ctx, id, v, next, ttl); !overtaken(err) {
			return session.Record{}, err
		}
	}
	return session.Record{}, errOvertaken
}

// saveAtOnce tries what nearly always is right, without a look: the record is in
// the store that this phase writes, or in none. A definite refusal that leaves
// something open is not known; an unknown outcome is, and is not sent again (C5).
func (s *mover) saveAtOnce(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (live session.Record, err error, known bool) {
	first, other := s.new, s.old
	if s.phase == WriteOld {
		first, other = s.old, s.new
	}
	if prev == 0 { // what is in the other store is in the way
		there, err := load(ctx, other, id)
		if err != nil || there.Version != 0 {
			return session.Record{}, err, err != nil
		}
	}
	live, err = first.Save(ctx, id, prev, next, ttl)
	decided := s.phase == NewOnly
	if s.phase == WriteOld && errors.Is(err, session.ErrNotFound) { // nor does it come back there
		decided = true
		live, err = s.new.Save(ctx, id, prev, next, ttl)
	}
	switch _, _, sealed := unseal(live); {
	case !overtaken(err):
		return session.Record{}, err, true
	case errors.Is(err, session.ErrNotFound):
		return session.Record{}, err, decided
	default:
		return live, err, exists(live) && !sealed // a record that counts, in either store
	}
}

// write puts next in the place of what the view shows, in one atomic step.
func (s *mover) write(ctx context.Context, id uuid.UUID, v view, next session.Record, ttl time.Duration) (err error) {
	switch {
	case v.inOld && s.phase != WriteOld:
		return s.move(ctx, id, v.key, next, ttl)
	case v.inOld:
		_, err = s.old.Save(ctx, id, v.key, next, ttl)
	case v.rec.Version != 0:
		_, err = s.new.Save(ctx, id, v.key, next, ttl)
	case s.phase == WriteOld: // a creation
		s.discard(ctx, id, v.envelope)
		_, err = s.old.Save(ctx, id, 0, next, ttl)
		return err
	default:
		_, err = s.new.Save(ctx, id, v.hold, next, ttl)
	}
	if err == nil {
		s.discard(ctx, id, v.envelope)
	}
	return err
}

// move takes the record of version from out of the old store, as next. Its errors
// are those of a Save: once the envelope is there, others may have replaced or
// deleted next, which is no failure of this one.
func (s *mover) move(ctx context.Context, id uuid.UUID, from uint64, next session.Record, ttl time.Duration) error {
	hold, err := s.hold(ctx, id, next.Owner, ttl)
	if err != nil {
		return err
	}
	if s.carry != nil && next.Owner != "" {
		if err := s.carry(ctx, id, next.Owner); err != nil {
			return err
		}
	}
	envelope := seal(next, hold)
	if _, err := s.old.Save(ctx, id, from, envelope, ttl); err != nil {
		return err
	}
	s.stats.moved.Add(1)
	if _, err := s.new.Save(ctx, id, hold, next, ttl); err != nil && !overtaken(err) {
		return err
	}
	s.discard(ctx, id, envelope.Version)
	return nil
}

// hold returns the version of a hold that lasts. Nobody takes one away that a
// mover may count on: of two movers, the one that is refused has made the hold,
// perhaps, which the other one uses.
func (s *mover) hold(ctx context.Context, id uuid.UUID, owner string, ttl time.Duration) (version uint64, err error) {
	mine := newHold(owner)
	there, err := s.new.Save(ctx, id, 0, mine, holdTTL(ttl))
	if errors.Is(err, session.ErrConflict) && there.Version == 0 {
		there, err = s.new.Load(ctx, id)
		if err == nil {
			err = session.ErrConflict
		}
	}
	switch {
	case err == nil:
		return mine.Version, nil
	case !errors.Is(err, session.ErrConflict) || !isHold(there):
		return 0, err
	case there.TTL < holdTTL(ttl)-holdLonger/2:
		return there.Version, s.new.Touch(ctx, id, there.Version, holdTTL(ttl))
	}
	return there.Version, nil
}

// discard deletes an envelope whose hold is gone, and is nothing any more. If that
// fails it expires.
func (s *mover) discard(ctx context.Context, id uuid.UUID, envelope uint64) {
	if envelope != 0 {
		_ = s.old.Delete(ctx, id, envelope)
	}
}

// Touch implements [session.Store]. In WriteNew it moves what is in the old store,
// so that after an idle timeout nothing that is alive is left there.
func (s *mover) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	first := s.new
	if s.phase == WriteOld {
		first = s.old
	}
	err := first.Touch(ctx, id, version, ttl)
	decided := s.phase == NewOnly
	if s.phase == WriteOld && errors.Is(err, session.ErrNotFound) {
		decided = true
		err = s.new.Touch(ctx, id, version, ttl)
	}
	if !overtaken(err) || decided && errors.Is(err, session.ErrNotFound) {
		return err
	}
	for range rounds {
		v, err := s.look(ctx, id)
		switch {
		case err != nil:
			return err
		case v.rec.Version == 0:
			return session.ErrNotFound
		case v.rec.Version != version:
			return session.ErrConflict
		}
		if err := s.touch(ctx, id, v, ttl); !overtaken(err) {
			return err
		}
	}
	return errOvertaken
}

// touch writes the record as it is where it cannot be touched where it is.
func (s *mover) touch(ctx context.Context, id uuid.UUID, v view, ttl time.Duration) error {
	switch {
	case v.inOld && s.phase == WriteOld:
		return s.old.Touch(ctx, id, v.key, ttl)
	case !v.inOld && v.key == v.rec.Version:
		return s.new.Touch(ctx, id, v.key, ttl)
	}
	v.rec.TTL = 0
	return s.write(ctx, id, v, v.rec, ttl)
}

// Delete implements [session.Store].
func (s *mover) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if version == 0 {
		return s.deleteAny(ctx, id)
	}
	for range rounds {
		err := s.old.Delete(ctx, id, version)
		if err == nil { // and nothing can be moved any more
			return s.deleteNew(ctx, id, version)
		}
		if !errors.Is(err, session.ErrConflict) {
			return err
		}
		v, err := s.look(ctx, id)
		switch {
		case err != nil:
			return err
		case v.rec.Version != 0 && v.rec.Version != version:
			return session.ErrConflict
		case v.inOld:
			continue
		case v.rec.Version != 0:
			if err = s.new.Delete(ctx, id, v.key); errors.Is(err, session.ErrConflict) {
				continue
			}
		}
		if err == nil {
			s.discard(ctx, id, v.envelope)
		}
		return err
	}
	return errOvertaken
}

// deleteNew is for an ID that the old store has no record of.
func (s *mover) deleteNew(ctx context.Context, id uuid.UUID, version uint64) error {
	err := s.new.Delete(ctx, id, version)
	if !errors.Is(err, session.ErrConflict) {
		return err
	}
	there, err := load(ctx, s.new, id)
	if err == nil && exists(there) {
		err = session.ErrConflict
	}
	return err
}

// deleteAny deletes from the old store first, but for an envelope: without that,
// its mover could still put the record into the new store, and who saw it gone
// would see it again until the second delete. A busy writer can make a delete by
// version come too late for so long only.
func (s *mover) deleteAny(ctx context.Context, id uuid.UUID) error {
	for range 3 {
		inOld, err := load(ctx, s.old, id)
		if err != nil {
			return err
		}
		if _, _, sealed := unseal(inOld); inOld.Version == 0 || sealed {
			err := s.new.Delete(ctx, id, 0)
			if err == nil && sealed {
				s.discard(ctx, id, inOld.Version)
			}
			return err
		}
		if err := s.old.Delete(ctx, id, inOld.Version); err == nil {
			return s.new.Delete(ctx, id, 0)
		} else if !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
	if err := s.old.Delete(ctx, id, 0); err != nil {
		return err
	}
	return s.new.Delete(ctx, id, 0)
}
