package sessiontest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// userDefects are the mistakes that a store can make with its lists.
func userDefects() []defect {
	list := slices.Concat(enlistDefects(), limitDefects(), cutDefects(), cutIDDefects(), exceptDefects(), endDefects(), readDefects(), userRaceDefects(), userContextDefects())
	for _, d := range list {
		for i, want := range d.want {
			d.want[i] = "UserStore/" + want
		}
	}
	return list
}

func enlistDefects() []defect {
	return []defect{
		{name: "a list in the order of its IDs", want: []string{
			"List is in the order of Enlist",
			"many IDs at once",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) {
				slices.SortFunc(l.ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
			})
		})},
		{name: "a list in the order in which it ends", want: []string{
			"List is in the order of Enlist",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) {
				slices.SortStableFunc(l.ids, func(a, b uuid.UUID) int { return l.ends[a].Compare(l.ends[b]) })
			})
		})},
		{name: "an ID stays where it was first", want: []string{
			"Enlist again moves to the end",
		}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				b.mu.Lock()
				l := b.at(list)
				if slices.Contains(l.ids, id) {
					defer b.mu.Unlock()
					l.ends[id] = time.Now().Add(ttl)
					return l.over(most), l.lastCut(id), ctx.Err()
				}
				b.mu.Unlock()
				return b.plainUsers.Enlist(ctx, list, id, ttl, most)
			}
		})},
		{name: "an ID is listed as often as it was enlisted", want: []string{
			"Enlist again moves to the end",
			"Enlist tells the list when it is over most",
		}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				l := b.at(list)
				l.ids = append(l.ids, id)
				l.ends[id] = time.Now().Add(ttl)
				return l.over(most), l.lastCut(id), ctx.Err()
			}
		})},
		{name: "only what has a record is enlisted", want: []string{
			"Enlist needs no record",
		}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				if _, ok := b.find(id); !ok {
					return nil, session.Cut{}, session.ErrNotFound
				}
				return b.plainUsers.Enlist(ctx, list, id, ttl, most)
			}
		})},
		{name: "a list ends as its last Enlist says", inClock: true, want: []string{
			"Enlist keeps an ID for its ttl",
			"Enlist takes nothing off that is kept",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, ttl time.Duration) { l.endAll(time.Now().Add(ttl)) })
		})},
		{name: "a list ends as its first Enlist says", inClock: true, want: []string{
			"Enlist keeps an ID for its ttl",
			"Enlist takes nothing off that is kept",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) { l.endAll(l.ends[l.ids[0]]) })
		})},
		{name: "an ID is kept for seconds", inClock: true, want: []string{
			"Enlist keeps an ID for its ttl",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, id uuid.UUID, ttl time.Duration) {
				l.ends[id] = time.Now().Add(ttl.Truncate(time.Second))
			})
		})},
		{name: "a list of the newest hundred", want: []string{
			"Enlist takes nothing off that is kept",
			"many IDs at once",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) { l.ids = l.ids[max(0, len(l.ids)-100):] })
		})},
		{name: "what has run out is never taken off", want: []string{
			"Enlist takes off what was kept long enough",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) { l.endAll(time.Now().Add(1 << 62)) })
		})},
		{name: "a list in use is kept as a whole", want: []string{
			"Enlist takes off what was kept long enough",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, ttl time.Duration) {
				for _, id := range l.ids {
					l.ends[id] = time.Now().Add(max(ttl, 2*time.Hour))
				}
			})
		})},
		{name: "a list that never was is not found", want: []string{
			"a list that never was is empty",
		}, open: byUsers(func(b *brokenUsers) {
			b.list = func(ctx context.Context, list string) ([]uuid.UUID, error) {
				ids, err := b.plainUsers.List(ctx, list)
				if err == nil && len(ids) == 0 {
					return nil, session.ErrNotFound
				}
				return ids, err
			}
		})},
		{name: "names folded to lower case", want: []string{
			"T3 lists are kept apart",
		}, open: byUsers(func(b *brokenUsers) { b.names(strings.ToLower) })},
		{name: "names up to 256 bytes", want: []string{
			"T3 lists are kept apart",
		}, open: byUsers(func(b *brokenUsers) {
			b.names(func(name string) string { return name[:min(len(name), 256)] })
		})},
		{name: "a list reaches the record of its name", want: []string{
			"T3 lists are kept apart",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				if id, err := uuid.Parse(list); err == nil && len(list) == 36 {
					b.drop(id)
				}
				return b.plainUsers.End(ctx, list, ids...)
			}
		})},
	}
}

func (l *plainList) endAll(at time.Time) {
	for _, id := range l.ids {
		l.ends[id] = at
	}
}

func limitDefects() []defect {
	const limit = "Enlist tells the list when it is over most"
	return []defect{
		{name: "a list is told when it is at most", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.tells(func(l *plainList, most int) []uuid.UUID {
				if most == 0 {
					return nil
				}
				return l.over(most - 1)
			})
		})},
		{name: "the new one does not count", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.tells(func(l *plainList, most int) []uuid.UUID {
				if most == 0 {
					return nil
				}
				return l.over(most + 1)
			})
		})},
		{name: "a limit of nothing", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.tells(func(l *plainList, most int) []uuid.UUID { return slices.Clone(l.ids[:max(0, len(l.ids)-most)]) })
		})},
		{name: "the newest is told first", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.tells(func(l *plainList, most int) []uuid.UUID {
				ids := l.over(most)
				slices.Reverse(ids)
				return ids
			})
		})},
		{name: "the store ends the oldest by itself", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.tells(func(l *plainList, most int) []uuid.UUID {
				ids := l.over(most)
				if ids != nil {
					l.ids = l.ids[len(l.ids)-most:]
				}
				return ids
			})
		})},
	}
}

func cutDefects() []defect {
	return []defect{
		{name: "a list is empty once it was cut off", want: []string{
			"CutOff returns the list and takes nothing off it",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { l.ids = nil }) })},
		{name: "the exceptions are not on the list", want: []string{
			"CutOff returns the list and takes nothing off it",
		}, open: byUsers(func(b *brokenUsers) {
			b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
				ids, this, err := b.plainUsers.CutOff(ctx, list, except...)
				return slices.DeleteFunc(ids, func(id uuid.UUID) bool { return slices.Contains(except, id) }), this, err
			}
		})},
		{name: "nothing is noted", want: []string{
			"last tells how long ago the list was cut off",
			"an Enlist beside a CutOff is listed or told",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { l.cuts = nil }) })},
		{name: "a list that was not cut off was cut off just now", want: []string{
			"last tells how long ago the list was cut off",
			"CutOff of one list is not told on another",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.lastCut(id)
				last.ID = max(1, last.ID)
				return last
			})
		})},
		{name: "the first CutOff counts", want: []string{
			"last tells how long ago the list was cut off",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { l.cuts = l.cuts[:1] }) })},
		{name: "every Enlist starts the time anew", inClock: true, want: []string{
			"last tells how long ago the list was cut off",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsCut(func(l *plainList, id uuid.UUID) time.Duration {
				since := l.sinceCut(id)
				for i := range l.cuts {
					l.cuts[i].at = time.Now()
				}
				return since
			})
		})},
		{name: "the time since a CutOff in seconds", inClock: true, want: []string{
			"last tells how long ago the list was cut off",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsCut(func(l *plainList, id uuid.UUID) time.Duration {
				return l.sinceCut(id) / time.Second * time.Second
			})
		})},
		{name: "two clocks of milliseconds", want: []string{
			"last is rounded down",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) {
				last := &l.cuts[len(l.cuts)-1]
				last.at = last.at.Truncate(time.Millisecond)
			})
			b.tellsCut(func(l *plainList, id uuid.UUID) time.Duration {
				if l.sinceCut(id) < 0 {
					return -1
				}
				return time.Now().Truncate(time.Millisecond).Sub(l.cuts[len(l.cuts)-1].at)
			})
		})},
		{name: "the time since a CutOff rounded up", want: []string{
			"last is rounded down",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsCut(func(l *plainList, id uuid.UUID) time.Duration {
				if since := l.sinceCut(id); since >= 0 {
					return since + time.Millisecond
				}
				return -1
			})
		})},
		{name: "a CutOff is forgotten after ten minutes", want: []string{
			"CutOff is remembered for an hour",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsCut(func(l *plainList, id uuid.UUID) time.Duration {
				if since := l.sinceCut(id); since <= 10*time.Minute {
					return since
				}
				return -1
			})
		})},
		{name: "a CutOff is forgotten with what is listed", want: []string{
			"CutOff outlasts what is listed",
		}, open: byUsers(func(b *brokenUsers) {
			b.list = func(ctx context.Context, list string) ([]uuid.UUID, error) {
				ids, err := b.plainUsers.List(ctx, list)
				if len(ids) == 0 && err == nil {
					b.mu.Lock()
					defer b.mu.Unlock()
					delete(b.lists, list)
				}
				return ids, err
			}
		})},
		{name: "a list that never was is not cut off", want: []string{
			"CutOff outlasts what is listed",
			"last is rounded down",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) {
				if len(l.ids) == 0 {
					l.cuts = nil
				}
			})
		})},
		{name: "one CutOff for all lists", want: []string{
			"CutOff of one list is not told on another",
		}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				listed, last, err := b.plainUsers.Enlist(ctx, list, id, ttl, most)
				b.mu.Lock()
				defer b.mu.Unlock()
				for _, l := range b.lists {
					if other := l.lastCut(id); last.ID == 0 {
						last = other
					}
				}
				return listed, last, err
			}
		})},
	}
}

func exceptDefects() []defect {
	last := func(l *plainList) *plainCut { return &l.cuts[len(l.cuts)-1] }
	return []defect{
		{name: "exceptions are told too", want: []string{
			"CutOff is not told to whom it excepts",
			"CutOff counts each with its own exceptions",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { last(l).except = nil }) })},
		{name: "only one exception", want: []string{
			"CutOff is not told to whom it excepts",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) { last(l).except = last(l).except[:min(1, len(last(l).except))] })
		})},
		{name: "only what is listed is excepted", want: []string{
			"CutOff is not told to whom it excepts",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) {
				last(l).except = slices.DeleteFunc(last(l).except, func(id uuid.UUID) bool { return !slices.Contains(l.ids, id) })
			})
		})},
		{name: "only the newest CutOff is noted", want: []string{
			"CutOff is not told to whom it excepts",
			"CutOff counts each with its own exceptions",
			"CutOff is remembered for an hour",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { l.cuts = l.cuts[len(l.cuts)-1:] }) })},
		{name: "exceptions hold for older CutOffs", want: []string{
			"CutOff is not told to whom it excepts",
			"CutOff counts each with its own exceptions",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) {
				for i := range l.cuts[1:] {
					l.cuts[i].except = append(l.cuts[i].except, last(l).except...)
				}
			})
		})},
		{name: "exceptions hold for later CutOffs", want: []string{
			"CutOff is not told to whom it excepts",
			"CutOff counts each with its own exceptions",
		}, open: byUsers(func(b *brokenUsers) {
			b.notes(func(l *plainList) {
				if n := len(l.cuts); n > 1 {
					last(l).except = append(last(l).except, l.cuts[n-2].except...)
				}
			})
		})},
		{name: "only the last ten CutOffs are noted", want: []string{
			"CutOff counts each with its own exceptions",
			"CutOff is remembered for an hour",
		}, open: byUsers(func(b *brokenUsers) { b.notes(func(l *plainList) { l.cuts = l.cuts[max(0, len(l.cuts)-10):] }) })},
		{name: "exceptions are forgotten after half an hour", want: []string{
			"CutOff is remembered for an hour",
		}, open: byUsers(func(b *brokenUsers) {
			b.edits(func(l *plainList, _ uuid.UUID, _ time.Duration) {
				for i, c := range l.cuts {
					if time.Since(c.at) > 30*time.Minute {
						l.cuts[i].except = nil
					}
				}
			})
		})},
		{name: "the exceptions are the caller's own", want: []string{
			"C2 lists and records that were handed out do not change",
		}, open: byUsers(func(b *brokenUsers) {
			b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
				ids, this, err := b.plainUsers.CutOff(ctx, list)
				if err == nil {
					b.mu.Lock()
					defer b.mu.Unlock()
					last(b.lists[list]).except = except
				}
				return ids, this, err
			}
		})},
	}
}

func endDefects() []defect {
	return []defect{
		{name: "End takes off and deletes nothing", want: []string{
			"End deletes whatever the version and delists",
			"End deletes before it delists",
			"C1 nothing brings back what was ended",
			"C4 End beats every writer",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.at(list).remove(ids...)
				return ctx.Err()
			}
		})},
		{name: "End deletes and takes nothing off", want: []string{
			"End deletes whatever the version and delists",
			"parallel Enlist and End lose nothing",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, _ string, ids ...uuid.UUID) error {
				return b.plainUsers.End(ctx, "another list", ids...)
			}
		})},
		{name: "End ends all of the list", want: []string{
			"End deletes whatever the version and delists",
			"no IDs at all",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				listed, err := b.plainUsers.List(ctx, list)
				return errors.Join(err, b.plainUsers.End(ctx, list, append(ids, listed...)...))
			}
		})},
		{name: "End deletes what is listed only", want: []string{
			"End of what is not there is no error",
			"C1 nothing brings back what was ended",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				listed, err := b.plainUsers.List(ctx, list)
				ids = slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { return !slices.Contains(listed, id) })
				return errors.Join(err, b.plainUsers.End(ctx, list, ids...))
			}
		})},
		{name: "End of nothing is not found", want: []string{
			"End of what is not there is no error",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				for _, id := range ids {
					if _, ok := b.find(id); !ok {
						return session.ErrNotFound
					}
				}
				return b.plainUsers.End(ctx, list, ids...)
			}
		})},
		{name: "what has no record is not taken off", want: []string{
			"End of what is not there is no error",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				ids = slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { _, ok := b.find(id); return !ok })
				return b.plainUsers.End(ctx, list, ids...)
			}
		})},
		{name: "End takes off first", want: []string{
			"End deletes before it delists",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				b.mu.Lock()
				b.at(list).remove(ids...)
				b.mu.Unlock()
				time.Sleep(10 * time.Microsecond) // a round trip
				return b.plainUsers.End(ctx, list, ids...)
			}
		})},
		{name: "a save over what was ended", want: []string{
			"C1 nothing brings back what was ended",
			"C4 End beats every writer",
		}, open: func() session.Store { return &upserter{newPlainUsers()} }},
		{name: "End asks for the version that it saw", want: []string{
			"C4 End beats every writer",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				time.Sleep(10 * time.Microsecond) // a round trip
				for i, rec := range recs {
					_ = b.plain.Delete(ctx, ids[i], rec.Version)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				b.at(list).remove(ids...)
				return err
			}
		})},
		{name: "End of a thousand at most", want: []string{
			"many IDs at once",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				return b.plainUsers.End(ctx, list, ids[:min(len(ids), 1000)]...)
			}
		})},
	}
}

// An upserter takes a save over a version when there is no record any more.
type upserter struct{ *plainUsers }

func (s *upserter) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	live, err := s.plain.Save(ctx, id, prev, next, ttl)
	if errors.Is(err, session.ErrNotFound) {
		return s.plain.Save(ctx, id, 0, next, ttl)
	}
	return live, err
}
