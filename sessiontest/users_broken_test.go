package sessiontest_test

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// plainUsers keeps the contract of a UserStore in the plainest way, and the
// broken ones are made of it. It is not part of plain, so that a defect of
// records is seen by the cases of records.
type plainUsers struct {
	*plain
	lists map[string]*plainList
	made  uint64 // cut-offs
	free  bool   // does what it may: takes off what has no record, and names a Cut by its time
}

type plainList struct {
	ids  []uuid.UUID
	ends map[uuid.UUID]time.Time
	cuts []plainCut // oldest first
}

type plainCut struct {
	id     uint64
	at     time.Time
	except []uuid.UUID
}

func newPlainUsers() *plainUsers {
	return &plainUsers{plain: newPlain(), lists: map[string]*plainList{}}
}

// at returns a list without what is over. The lock is held.
func (s *plainUsers) at(name string) *plainList {
	l := s.lists[name]
	if l == nil {
		l = &plainList{ends: map[uuid.UUID]time.Time{}}
		s.lists[name] = l
	}
	now := time.Now()
	l.ids = slices.DeleteFunc(l.ids, func(id uuid.UUID) bool {
		return !now.Before(l.ends[id]) || s.free && !s.isLive(id)
	})
	l.cuts = slices.DeleteFunc(l.cuts, func(c plainCut) bool { return now.Sub(c.at) > time.Hour })
	return l
}

func (s *plainUsers) isLive(id uuid.UUID) bool {
	_, ok := s.findLocked(id)
	return ok
}

func (l *plainList) add(id uuid.UUID, ttl time.Duration) {
	l.remove(id)
	l.ids = append(l.ids, id)
	l.ends[id] = time.Now().Add(ttl)
}

func (l *plainList) remove(ids ...uuid.UUID) {
	l.ids = slices.DeleteFunc(l.ids, func(id uuid.UUID) bool { return slices.Contains(ids, id) })
}

func (l *plainList) over(most int) []uuid.UUID {
	if most == 0 || len(l.ids) <= most {
		return nil
	}
	return slices.Clone(l.ids)
}

// newest returns the newest cut-off that is for id, the zero plainCut if there is
// none.
func (l *plainList) newest(id uuid.UUID) plainCut {
	for _, c := range slices.Backward(l.cuts) {
		if !slices.Contains(c.except, id) {
			return c
		}
	}
	return plainCut{}
}

// sinceCut is negative if there is none.
func (l *plainList) sinceCut(id uuid.UUID) time.Duration {
	if c := l.newest(id); c.id != 0 {
		return time.Since(c.at).Truncate(time.Millisecond)
	}
	return -1
}

func (l *plainList) cut(id uuid.UUID, since time.Duration) session.Cut {
	if since < 0 {
		return session.Cut{}
	}
	return session.Cut{ID: l.newest(id).id, Ago: since}
}

func (l *plainList) lastCut(id uuid.UUID) session.Cut { return l.cut(id, l.sinceCut(id)) }

func (s *plainUsers) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	if ctx.Err() != nil {
		return nil, session.Cut{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.at(list)
	l.add(id, ttl)
	return l.over(most), l.lastCut(id), nil
}

func (s *plainUsers) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at(list).ids), nil
}

func (s *plainUsers) CutOff(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	if ctx.Err() != nil {
		return nil, session.Cut{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.at(list)
	if s.made++; s.free {
		s.made = uint64(time.Now().UnixMicro())
	}
	l.cuts = append(l.cuts, plainCut{s.made, time.Now(), slices.Clone(except)})
	return slices.Clone(l.ids), session.Cut{ID: s.made}, nil
}

func (s *plainUsers) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.recs, id)
	}
	s.at(list).remove(ids...)
	return nil
}

func (s *plainUsers) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	recs := make([]session.Record, len(ids))
	for i, id := range ids {
		if rec, ok := s.find(id); ok {
			recs[i] = rec.Record
		}
	}
	return recs, nil
}

func (s *plainUsers) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	recs, err := s.LoadAll(ctx, ids)
	var versions []uint64
	for _, rec := range recs {
		versions = append(versions, rec.Version)
	}
	return versions, err
}

type (
	enlistFunc   func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error)
	listFunc     func(ctx context.Context, list string) ([]uuid.UUID, error)
	cutOffFunc   func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error)
	endFunc      func(ctx context.Context, list string, ids ...uuid.UUID) error
	loadAllFunc  func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error)
	versionsFunc func(ctx context.Context, ids []uuid.UUID) ([]uint64, error)
)

// A brokenUsers is a plainUsers some of whose methods were replaced.
type brokenUsers struct {
	*plainUsers
	enlist   enlistFunc
	list     listFunc
	cutOff   cutOffFunc
	end      endFunc
	loadAll  loadAllFunc
	versions versionsFunc
}

func (b *brokenUsers) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	return b.enlist(ctx, list, id, ttl, most)
}

func (b *brokenUsers) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	return b.list(ctx, list)
}

func (b *brokenUsers) CutOff(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	return b.cutOff(ctx, list, except...)
}

func (b *brokenUsers) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	return b.end(ctx, list, ids...)
}

func (b *brokenUsers) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	return b.loadAll(ctx, ids)
}

func (b *brokenUsers) Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
	return b.versions(ctx, ids)
}

// byUsers is by for a store that keeps lists.
func byUsers(breakIt func(*brokenUsers)) func() session.Store {
	return func() session.Store {
		p := newPlainUsers()
		b := &brokenUsers{p, p.Enlist, p.List, p.CutOff, p.End, p.LoadAll, p.Versions}
		breakIt(b)
		return b
	}
}

// enlists has the store do and say something else after it put an ID on a list.
// The lock is held.
func (b *brokenUsers) enlists(then func(l *plainList, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut)) {
	b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
		if ctx.Err() != nil {
			return nil, session.Cut{}, ctx.Err()
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		l := b.at(list)
		l.add(id, ttl)
		listed, last := then(l, id, ttl, most)
		return listed, last, nil
	}
}

// edits changes a list after an ID was put on it.
func (b *brokenUsers) edits(edit func(l *plainList, id uuid.UUID, ttl time.Duration)) {
	b.enlists(func(l *plainList, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut) {
		edit(l, id, ttl)
		return l.over(most), l.lastCut(id)
	})
}

// tells changes the list that Enlist gives.
func (b *brokenUsers) tells(over func(l *plainList, most int) []uuid.UUID) {
	b.enlists(func(l *plainList, id uuid.UUID, _ time.Duration, most int) ([]uuid.UUID, session.Cut) {
		return over(l, most), l.lastCut(id)
	})
}

// tellsCut changes the time that Enlist gives, negative for no Cut at all.
func (b *brokenUsers) tellsCut(sinceCut func(l *plainList, id uuid.UUID) time.Duration) {
	b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut { return l.cut(id, sinceCut(l, id)) })
}

// tellsLast changes the Cut that Enlist gives.
func (b *brokenUsers) tellsLast(last func(l *plainList, id uuid.UUID) session.Cut) {
	b.enlists(func(l *plainList, id uuid.UUID, _ time.Duration, most int) ([]uuid.UUID, session.Cut) {
		return l.over(most), last(l, id)
	})
}

// notes changes what CutOff noted. The lock is held.
func (b *brokenUsers) notes(edit func(l *plainList)) {
	b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
		ids, this, err := b.plainUsers.CutOff(ctx, list, except...)
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			edit(b.lists[list])
		}
		return ids, this, err
	}
}

// numbers changes the ID of what CutOff noted. The lock is held.
func (b *brokenUsers) numbers(id func(l *plainList) uint64) {
	b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
		ids, this, err := b.plainUsers.CutOff(ctx, list, except...)
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			l := b.lists[list]
			this.ID = id(l)
			l.cuts[len(l.cuts)-1].id = this.ID
		}
		return ids, this, err
	}
}

// tellsThis changes the Cut that CutOff gives.
func (b *brokenUsers) tellsThis(change func(session.Cut) session.Cut) {
	b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
		ids, this, err := b.plainUsers.CutOff(ctx, list, except...)
		return ids, change(this), err
	}
}

// names changes every name that the store is given.
func (b *brokenUsers) names(change func(string) string) {
	b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
		return b.plainUsers.Enlist(ctx, change(list), id, ttl, most)
	}
	b.list = func(ctx context.Context, list string) ([]uuid.UUID, error) {
		return b.plainUsers.List(ctx, change(list))
	}
	b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
		return b.plainUsers.CutOff(ctx, change(list), except...)
	}
	b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
		return b.plainUsers.End(ctx, change(list), ids...)
	}
}

// readsIDs asks for other IDs than the store is given.
func (b *brokenUsers) readsIDs(change func([]uuid.UUID) []uuid.UUID) {
	b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
		return b.plainUsers.LoadAll(ctx, change(ids))
	}
	b.versions = func(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
		return b.plainUsers.Versions(ctx, change(ids))
	}
}
