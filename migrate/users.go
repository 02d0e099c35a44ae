package migrate

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A userMover is a mover between two stores that keep lists.
type userMover struct {
	*mover
	old, new session.UserStore
	name     string
	lifetime time.Duration
}

var _ session.UserStore = (*userMover)(nil)

// primary is the store whose cut-offs this phase is told of. Every cut-off of
// this phase, and of its neighbours, goes there.
func (s *userMover) primary() (primary, other session.UserStore) {
	if s.phase == WriteOld {
		return s.old, s.new
	}
	return s.new, s.old
}

// Enlist implements [session.UserStore]. It enlists in both stores, because each
// may take an ID off whose record it does not have. The order of those that come
// at once is that of the primary, which is therefore the first, as its own answer
// gives it: in a list that is read later, others may have moved behind id who count
// on being counted. Whom only the other store lists was there before.
func (s *userMover) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last session.Cut, err error) {
	primary, other := s.primary()
	var before []uuid.UUID
	if most > 0 {
		if before, err = other.List(ctx, list); err != nil {
			return nil, session.Cut{}, err
		}
	}
	if listed, last, err = primary.Enlist(ctx, list, id, ttl, min(most, 1)); err != nil {
		return nil, session.Cut{}, err
	}
	if _, _, err := other.Enlist(ctx, list, id, ttl, 0); err != nil {
		return nil, session.Cut{}, err
	}
	if most == 0 {
		return nil, last, nil
	}
	if listed == nil {
		listed = []uuid.UUID{id}
	}
	if listed = append(without(before, listed), listed...); len(listed) <= most {
		return nil, last, nil
	}
	return listed, last, nil
}

// carry enlists a session that is about to be moved, which has a hold in the new
// store by now: the old store may take it off its list once the record is gone
// there. Its place becomes that of a login now.
func (s *userMover) carry(ctx context.Context, id uuid.UUID, owner string) error {
	_, _, err := s.new.Enlist(ctx, s.name+"\x00"+owner, id, s.lifetime+clockSkew, 0)
	return err
}

// clockSkew is what a Manager adds, too: a server whose clock is behind the one
// that made the session lets it live on.
const clockSkew = time.Minute

// List implements [session.UserStore].
func (s *userMover) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	inOld, err := s.old.List(ctx, list)
	if err != nil {
		return nil, err
	}
	inNew, err := s.new.List(ctx, list)
	if err != nil {
		return nil, err
	}
	if s.phase == WriteOld && len(without(inNew, inOld)) > 1 {
		// Of logins that came in between the two lists, the old store has the order.
		again, err := s.old.List(ctx, list)
		if err != nil {
			return nil, err
		}
		inOld = append(slices.Clone(inOld), without(again, inOld)...)
	}
	return s.union(inOld, inNew), nil
}

// union puts those first that only the other store lists, as Enlist does: in WriteNew
// they were enlisted before, in WriteOld they are of a neighbour that is ahead.
// Of logins that came at once, the two stores may have different orders: which one
// is seen can change when a store drops those of whom it has no record.
func (s *userMover) union(inOld, inNew []uuid.UUID) []uuid.UUID {
	if s.phase == WriteOld {
		return append(without(inNew, inOld), inOld...)
	}
	return append(without(inOld, inNew), inNew...)
}

func without(ids, others []uuid.UUID) []uuid.UUID {
	known := make(map[uuid.UUID]bool, len(others))
	for _, id := range others {
		known[id] = true
	}
	var rest []uuid.UUID
	for _, id := range ids {
		if !known[id] {
			rest = append(rest, id)
		}
	}
	return rest
}

// CutOff implements [session.UserStore]. Each store returns its list in the step
// in which it notes the cut-off. The old store comes first, because an ID leaves
// its list only after it was put on that of the new one (carry). The Cut is that
// of the store whose last Enlist tells.
func (s *userMover) CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this session.Cut, err error) {
	inOld, oldCut, err := s.old.CutOff(ctx, list, except...)
	if err != nil {
		return nil, session.Cut{}, err
	}
	inNew, newCut, err := s.new.CutOff(ctx, list, except...)
	if err != nil {
		return nil, session.Cut{}, err
	}
	if s.phase == WriteOld {
		return s.union(inOld, inNew), oldCut, nil
	}
	return s.union(inOld, inNew), newCut, nil
}

// noList is the name of a list that nobody has: to End there is to delete.
const noList = "\x00sojourn moving\x00"

// End implements [session.UserStore]. It takes IDs off either list only after
// their records are gone from both stores. As in deleteAny, what has an envelope
// is deleted from the new store first.
func (s *userMover) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	inOld, err := s.old.LoadAll(ctx, ids)
	if err != nil {
		return err
	}
	var sealed []uuid.UUID
	for i, rec := range inOld {
		if _, _, ok := unseal(rec); ok {
			sealed = append(sealed, ids[i])
		}
	}
	if len(sealed) > 0 {
		if err := s.new.End(ctx, noList, sealed...); err != nil {
			return err
		}
	}
	if err := s.old.End(ctx, noList, ids...); err != nil {
		return err
	}
	if err := s.new.End(ctx, list, ids...); err != nil {
		return err
	}
	return s.old.End(ctx, list, ids...)
}

// LoadAll implements [session.UserStore], with one batch for each store. It is
// the look of each.
func (s *userMover) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	inOld, err := s.old.LoadAll(ctx, ids)
	if err != nil {
		return nil, err
	}
	var open []uuid.UUID // for the new store to say
	for i, rec := range inOld {
		if _, _, sealed := unseal(rec); rec.Version == 0 || sealed {
			open = append(open, ids[i])
		}
	}
	inNew, err := s.new.LoadAll(ctx, open)
	if err != nil {
		return nil, err
	}
	recs := make([]session.Record, len(ids))
	for i, rec := range inOld {
		var other session.Record
		if _, _, sealed := unseal(rec); rec.Version == 0 || sealed {
			other, inNew = inNew[0], inNew[1:]
		}
		recs[i] = s.judge(rec, other).rec
	}
	return recs, nil
}

// Versions implements [session.UserStore]. A version that may be of a hold or an
// envelope says that the record has to be looked at.
func (s *userMover) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	versions, err := s.old.Versions(ctx, ids)
	if err != nil {
		return nil, err
	}
	versions = slices.Clone(versions)
	if err := fill(versions, ids, func(v uint64) bool { return v == 0 }, func(some []uuid.UUID) ([]uint64, error) {
		return s.new.Versions(ctx, some)
	}); err != nil {
		return nil, err
	}
	return versions, fill(versions, ids, tagged, func(some []uuid.UUID) ([]uint64, error) {
		recs, err := s.LoadAll(ctx, some)
		found := make([]uint64, len(recs))
		for i, rec := range recs {
			found[i] = rec.Version
		}
		return found, err
	})
}

// fill asks again for those versions that leave something open.
func fill(versions []uint64, ids []uuid.UUID, open func(uint64) bool, ask func([]uuid.UUID) ([]uint64, error)) error {
	var at []int
	var some []uuid.UUID
	for i, v := range versions {
		if open(v) {
			at, some = append(at, i), append(some, ids[i])
		}
	}
	if len(some) == 0 {
		return nil
	}
	found, err := ask(some)
	if err != nil {
		return err
	}
	for i, v := range found {
		versions[at[i]] = v
	}
	return nil
}
