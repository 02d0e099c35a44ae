package sessiontest_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// plain keeps the contract in the plainest way. The broken stores are made of
// it, so that each is wrong in one respect only.
type plain struct {
	mu   sync.Mutex
	recs map[uuid.UUID]plainRecord
}

type plainRecord struct {
	session.Record
	end time.Time
}

func newPlain() *plain { return &plain{recs: map[uuid.UUID]plainRecord{}} }

func (s *plain) find(id uuid.UUID) (plainRecord, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id)
}

func (s *plain) findLocked(id uuid.UUID) (plainRecord, bool) {
	rec, ok := s.recs[id]
	rec.TTL = time.Until(rec.end)
	return rec, ok && rec.TTL > 0
}

// put stores without a question, as no store should.
func (s *plain) put(id uuid.UUID, rec session.Record, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recs[id] = plainRecord{rec, time.Now().Add(ttl)}
}

func (s *plain) drop(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.recs, id)
}

func wholeMillis(ttl time.Duration) (time.Duration, error) {
	if ttl < time.Millisecond {
		return 0, errors.New("session: ttl is below one millisecond")
	}
	return ttl.Truncate(time.Millisecond), nil
}

func (s *plain) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	rec, ok := s.find(id)
	switch {
	case ctx.Err() != nil:
		return session.Record{}, ctx.Err()
	case !ok:
		return session.Record{}, session.ErrNotFound
	}
	return rec.Record, nil
}

func (s *plain) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	ttl, err := wholeMillis(ttl)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return session.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.findLocked(id)
	switch {
	case !ok && prev != 0:
		return session.Record{}, session.ErrNotFound
	case ok && rec.Version != prev:
		return rec.Record, session.ErrConflict
	}
	s.recs[id] = plainRecord{next, time.Now().Add(ttl)}
	return session.Record{}, nil
}

func (s *plain) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	ttl, err := wholeMillis(ttl)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.findLocked(id)
	switch {
	case !ok:
		return session.ErrNotFound
	case rec.Version != version:
		return session.ErrConflict
	}
	s.recs[id] = plainRecord{rec.Record, time.Now().Add(ttl)}
	return nil
}

func (s *plain) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec, ok := s.findLocked(id); ok && version != 0 && rec.Version != version {
		return session.ErrConflict
	}
	delete(s.recs, id)
	return nil
}

type (
	loadFunc   func(ctx context.Context, id uuid.UUID) (session.Record, error)
	saveFunc   func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error)
	touchFunc  func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error
	deleteFunc func(ctx context.Context, id uuid.UUID, version uint64) error
)

// A broken store is a plain one some of whose methods were replaced.
type broken struct {
	*plain
	load   loadFunc
	save   saveFunc
	touch  touchFunc
	delete deleteFunc
}

func newBroken(breakIt func(*broken)) session.Store {
	p := newPlain()
	b := &broken{plain: p, load: p.Load, save: p.Save, touch: p.Touch, delete: p.Delete}
	breakIt(b)
	return b
}

func (b *broken) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	return b.load(ctx, id)
}

func (b *broken) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	return b.save(ctx, id, prev, next, ttl)
}

func (b *broken) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return b.touch(ctx, id, version, ttl)
}

func (b *broken) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return b.delete(ctx, id, version)
}

// ttls changes every ttl that the store is given.
func (b *broken) ttls(change func(time.Duration) time.Duration) {
	b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
		return b.plain.Save(ctx, id, prev, next, change(ttl))
	}
	b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
		return b.plain.Touch(ctx, id, version, change(ttl))
	}
}

// records changes every record that the store is given.
func (b *broken) records(change func(session.Record) session.Record) {
	b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
		return b.plain.Save(ctx, id, prev, change(next), ttl)
	}
}

// compares has the store ask fits(wanted, there) instead of whether the
// versions are equal.
func (b *broken) compares(fits func(wanted, there uint64) bool) {
	version := func(id uuid.UUID, wanted uint64) uint64 {
		if rec, ok := b.find(id); ok && wanted != 0 && fits(wanted, rec.Version) {
			return rec.Version
		}
		return wanted
	}
	b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
		return b.plain.Save(ctx, id, version(id, prev), next, ttl)
	}
	b.touch = func(ctx context.Context, id uuid.UUID, wanted uint64, ttl time.Duration) error {
		return b.plain.Touch(ctx, id, version(id, wanted), ttl)
	}
	b.delete = func(ctx context.Context, id uuid.UUID, wanted uint64) error {
		return b.plain.Delete(ctx, id, version(id, wanted))
	}
}

// splitSave checks first and writes afterwards.
func (b *broken) splitSave(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	rec, ok := b.find(id)
	if _, err := wholeMillis(ttl); err != nil || ctx.Err() != nil || (!ok && prev != 0) || (ok && rec.Version != prev) {
		return b.plain.Save(ctx, id, prev, next, ttl)
	}
	pause()
	b.put(id, next, ttl)
	return session.Record{}, nil
}

// pause lets the others run between two halves of what should be one step.
func pause() {
	for range 3 {
		runtime.Gosched()
	}
	time.Sleep(time.Microsecond)
}

// A hoarder never drops an expired record by itself.
type hoarder struct{ *plain }

func (s hoarder) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.recs)
}

// A defect is a way for a store to be wrong, and the cases that must see it.
type defect struct {
	name    string
	open    func() session.Store
	want    []string
	inClock bool // it is one of expiry: to be seen on the real clock, too
}

// defects lists mistakes that stores in use do make, and a few that nobody
// would believe.
func defects() []defect {
	all := [][]defect{savingDefects(), touchingDefects(), deletingDefects(), expiryDefects(), versionDefects(), dataDefects(), otherDefects(), userDefects()}
	var list []defect
	for _, part := range all {
		list = append(list, part...)
	}
	return list
}

func by(breakIt func(*broken)) func() session.Store {
	return func() session.Store { return newBroken(breakIt) }
}

func savingDefects() []defect {
	return []defect{
		{name: "blind write", want: []string{
			"C1 a save creates only what is absent",
			"C1 a save replaces only the version it names",
			"C1 nothing brings back what was deleted",
			"C1 parallel saves lose nothing",
			"C1 of parallel creations one wins",
			"C4 nothing is saved after a delete",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, _ uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				b.put(id, next, ttl)
				return session.Record{}, nil
			}
		})},
		{name: "upsert after a delete", want: []string{
			"E1 what has ended is gone for every method",
			"C1 a save over nothing is not found",
			"C1 nothing brings back what was deleted",
			"C1 of a save and a delete one wins",
			"C4 nothing is saved after a delete",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrNotFound) {
					return b.plain.Save(ctx, id, 0, next, ttl)
				}
				return live, err
			}
		})},
		{name: "check and write in two steps", want: []string{
			"C1 parallel saves lose nothing",
			"C1 of parallel creations one wins",
			"C1 of a save and a delete one wins",
		}, open: by(func(b *broken) { b.save = b.splitSave })},
		{name: "creations in two steps", want: []string{
			"C1 of parallel creations one wins",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				if prev == 0 {
					return b.splitSave(ctx, id, prev, next, ttl)
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "conflict reported as not found", want: []string{
			"C1 a save creates only what is absent",
			"C1 a save replaces only the version it names",
			"C5 a save that was sent twice conflicts with itself",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrConflict) {
					return session.Record{}, session.ErrNotFound
				}
				return live, err
			}
		})},
		{name: "not found reported as conflict", want: []string{
			"C1 a save over nothing is not found",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrNotFound) {
					return live, session.ErrConflict
				}
				return live, err
			}
		})},
		{name: "conflict shows what was sent", want: []string{
			"C1 a save creates only what is absent",
			"C1 a save replaces only the version it names",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrConflict) {
					next.TTL = live.TTL
					return next, err
				}
				return live, err
			}
		})},
		{name: "a refused save moves the end", inClock: true, want: []string{
			"C1 a save replaces only the version it names",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrConflict) {
					_ = b.plain.Touch(ctx, id, live.Version, ttl)
				}
				return live, err
			}
		})},
		{name: "the owner of the creation stays", want: []string{
			"C1 a save replaces the whole record",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				if rec, ok := b.find(id); ok && prev == rec.Version {
					next.Owner = rec.Owner
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "the end of the creation stays", inClock: true, want: []string{
			"C1 a save replaces the whole record",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				if rec, ok := b.find(id); ok && prev == rec.Version && ttl > 0 {
					ttl = max(rec.TTL, time.Millisecond)
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "an expired record is live to a creation", inClock: true, want: []string{
			"C1 an expired record is absent",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				b.mu.Lock()
				_, there := b.recs[id]
				_, live := b.findLocked(id)
				b.mu.Unlock()
				if prev == 0 && there && !live {
					return session.Record{}, session.ErrConflict
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "a save is sent again when its answer is lost", want: []string{
			"C5 a save that took effect is no conflict",
		}, open: by(func(b *broken) {
			saves := 0
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				b.mu.Lock()
				saves++
				lost := saves%7 == 0
				b.mu.Unlock()
				if lost {
					return b.plain.Save(ctx, id, prev, next, ttl)
				}
				return live, err
			}
		})},
		{name: "a save that conflicts with itself is hidden", want: []string{
			"C5 a save that was sent twice conflicts with itself",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, session.ErrConflict) && live.Version == next.Version {
					return session.Record{}, nil
				}
				return live, err
			}
		})},
	}
}

func touchingDefects() []defect {
	return []defect{
		{name: "unconditional touch", inClock: true, want: []string{
			"E4 a touch of another version changes nothing",
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, _ uint64, ttl time.Duration) error {
				rec, _ := b.find(id)
				return b.plain.Touch(ctx, id, rec.Version, ttl)
			}
		})},
		{name: "a stale touch moves the end and then complains", inClock: true, want: []string{
			"E4 a touch of another version changes nothing",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				err := b.plain.Touch(ctx, id, version, ttl)
				if rec, ok := b.find(id); ok && errors.Is(err, session.ErrConflict) {
					_ = b.plain.Touch(ctx, id, rec.Version, ttl)
				}
				return err
			}
		})},
		{name: "a touch that creates", want: []string{
			"E1 what has ended is gone for every method",
			"E4 a touch creates nothing",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				if _, ok := b.find(id); !ok {
					b.put(id, session.Record{Version: version}, ttl)
				}
				return b.plain.Touch(ctx, id, version, ttl)
			}
		})},
		{name: "a touch that writes values back", want: []string{
			"E4 a touch in parallel undoes nothing",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				rec, ok := b.find(id)
				if _, err := wholeMillis(ttl); err != nil || ctx.Err() != nil || !ok || rec.Version != version {
					return b.plain.Touch(ctx, id, version, ttl)
				}
				pause()
				b.put(id, rec.Record, ttl)
				return nil
			}
		})},
		{name: "a touch that changes the version", want: []string{
			"E4 a touch changes nothing but the end",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				err := b.plain.Touch(ctx, id, version, ttl)
				if rec, ok := b.find(id); ok && err == nil {
					rec.Version++
					b.put(id, rec.Record, ttl)
				}
				return err
			}
		})},
		{name: "a touch that does nothing", inClock: true, want: []string{
			"E4 a touch moves the end later",
			"E4 a touch moves the end nearer",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				if rec, ok := b.find(id); ok && rec.Version == version {
					_, err := wholeMillis(ttl)
					return err
				}
				return b.plain.Touch(ctx, id, version, ttl)
			}
		})},
		{name: "a touch that cannot shorten", inClock: true, want: []string{
			"E4 a touch moves the end nearer",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				if rec, ok := b.find(id); ok && ttl > 0 {
					ttl = max(ttl, rec.TTL)
				}
				return b.plain.Touch(ctx, id, version, ttl)
			}
		})},
	}
}
