package sessiontest_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func readDefects() []defect {
	const (
		all      = "LoadAll is Load for each"
		versions = "Versions are those of the live records"
	)
	return []defect{
		{name: "what is not there is left out", want: []string{all, versions}, open: byUsers(func(b *brokenUsers) {
			b.readsIDs(func(ids []uuid.UUID) []uuid.UUID {
				return slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { _, ok := b.find(id); return !ok })
			})
		})},
		{name: "an ID is read once", want: []string{all, versions}, open: byUsers(func(b *brokenUsers) {
			b.readsIDs(func(ids []uuid.UUID) []uuid.UUID {
				seen := map[uuid.UUID]bool{}
				ids = slices.Clone(ids)
				for i, id := range ids {
					if seen[id] {
						ids[i] = uuid.UUID{}
					}
					seen[id] = true
				}
				return ids
			})
		})},
		{name: "records in the order of their IDs", want: []string{all, versions}, open: byUsers(func(b *brokenUsers) {
			b.readsIDs(sorted)
		})},
		{name: "the caller's IDs are put in order", want: []string{all}, open: byUsers(func(b *brokenUsers) {
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				copy(ids, sorted(ids))
				return recs, err
			}
		})},
		{name: "a thousand records at most", want: []string{"many IDs at once"}, open: byUsers(func(b *brokenUsers) {
			b.readsIDs(func(ids []uuid.UUID) []uuid.UUID {
				return append(slices.Clone(ids[:min(len(ids), 1000)]), make([]uuid.UUID, max(0, len(ids)-1000))...)
			})
		})},
		{name: "what is not there is not found", want: []string{all}, open: byUsers(func(b *brokenUsers) {
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				if slices.ContainsFunc(recs, func(rec session.Record) bool { return rec.Version == 0 }) {
					return nil, session.ErrNotFound
				}
				return recs, err
			}
		})},
		{name: "records without what is left of them", want: []string{all}, open: byUsers(func(b *brokenUsers) {
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				for i := range recs {
					recs[i].TTL = 0
				}
				return recs, err
			}
		})},
		{name: "versions as floats", want: []string{versions}, open: byUsers(func(b *brokenUsers) {
			b.versions = func(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
				got, err := b.plainUsers.Versions(ctx, ids)
				for i, v := range got {
					got[i] = uint64(float64(v))
				}
				return got, err
			}
		})},
		{name: "no IDs are an error", want: []string{"no IDs at all"}, open: byUsers(func(b *brokenUsers) {
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				if len(ids) == 0 {
					return nil, errors.New("wrong number of arguments")
				}
				return b.plainUsers.LoadAll(ctx, ids)
			}
		})},
		{name: "what has ended has a version", inClock: true, want: []string{
			"E1 LoadAll and Versions miss what has ended",
		}, open: byUsers(func(b *brokenUsers) {
			b.versions = func(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
				got, err := b.plainUsers.Versions(ctx, ids)
				b.mu.Lock()
				defer b.mu.Unlock()
				for i := range got {
					got[i] = b.recs[ids[i]].Version
				}
				return got, err
			}
		})},
		{name: "versions from a replica", want: []string{
			"L1 LoadAll and Versions see what was confirmed",
		}, open: byUsers(func(b *brokenUsers) {
			former := map[uuid.UUID]uint64{}
			b.versions = func(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
				got, err := b.plainUsers.Versions(ctx, ids)
				b.mu.Lock()
				defer b.mu.Unlock()
				for i := range got {
					got[i], former[ids[i]] = former[ids[i]], got[i]
				}
				return got, err
			}
		})},
		{name: "one buffer for all records", want: []string{
			"C2 lists and records that were handed out do not change",
		}, open: byUsers(func(b *brokenUsers) {
			buffer := make([]byte, 0, 1<<20)
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				b.mu.Lock()
				defer b.mu.Unlock()
				buffer = buffer[:0]
				for i, rec := range recs {
					at := len(buffer)
					buffer = append(buffer, rec.Data...)
					recs[i].Data = buffer[at:len(buffer):len(buffer)]
				}
				return recs, err
			}
		})},
		{name: "a list that is the store's own", want: []string{
			"C2 lists and records that were handed out do not change",
		}, open: byUsers(func(b *brokenUsers) {
			b.list = func(ctx context.Context, list string) ([]uuid.UUID, error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.at(list).ids, ctx.Err()
			}
		})},
	}
}

func sorted(ids []uuid.UUID) []uuid.UUID {
	return slices.SortedFunc(slices.Values(ids), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
}

func userRaceDefects() []defect {
	const (
		slips = "an Enlist beside a CutOff is listed or told"
		limit = "of parallel Enlists all are listed and one sees all"
	)
	return []defect{
		{name: "CutOff reads the list and notes it afterwards", want: []string{slips}, open: byUsers(func(b *brokenUsers) {
			b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
				ids, err := b.plainUsers.List(ctx, list)
				pause()
				_, this, noted := b.plainUsers.CutOff(ctx, list, except...)
				return ids, this, errors.Join(err, noted)
			}
		})},
		{name: "Enlist asks for the CutOff and adds afterwards", want: []string{slips}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				b.mu.Lock()
				last := b.at(list).lastCut(id)
				b.mu.Unlock()
				pause()
				listed, _, err := b.plainUsers.Enlist(ctx, list, id, ttl, most)
				return listed, last, err
			}
		})},
		{name: "Enlist counts and adds afterwards", want: []string{limit}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				there, err := b.plainUsers.List(ctx, list)
				pause()
				_, last, enlisted := b.plainUsers.Enlist(ctx, list, id, ttl, 0)
				there = append(slices.DeleteFunc(there, func(other uuid.UUID) bool { return other == id }), id)
				if most == 0 || len(there) <= most {
					there = nil
				}
				return there, last, errors.Join(err, enlisted)
			}
		})},
		{name: "Enlist writes the list back", want: []string{
			slips, limit, "parallel Enlist and End lose nothing",
		}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				ids, err := b.plainUsers.List(ctx, list)
				pause()
				b.mu.Lock()
				defer b.mu.Unlock()
				l := b.at(list)
				l.ids = ids
				l.add(id, ttl)
				return l.over(most), l.lastCut(id), err
			}
		})},
		{name: "End writes the list back", want: []string{
			"parallel Enlist and End lose nothing",
		}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				there, err := b.plainUsers.List(ctx, list)
				pause()
				b.mu.Lock()
				b.at(list).ids = there
				b.mu.Unlock()
				return errors.Join(err, b.plainUsers.End(ctx, list, ids...))
			}
		})},
	}
}

func userContextDefects() []defect {
	const ended = "R11 a call on lists ends with its context"
	return []defect{
		{name: "a failure of LoadAll is nothing there", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.loadAll = func(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
				recs, err := b.plainUsers.LoadAll(ctx, ids)
				if err != nil {
					return make([]session.Record, len(ids)), nil
				}
				return recs, nil
			}
		})},
		{name: "a failure of Versions is nothing there", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.versions = func(ctx context.Context, ids []uuid.UUID) ([]uint64, error) {
				versions, err := b.plainUsers.Versions(ctx, ids)
				if err != nil {
					return make([]uint64, len(ids)), nil
				}
				return versions, nil
			}
		})},
		{name: "a failure of List is an empty one", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.list = func(ctx context.Context, list string) ([]uuid.UUID, error) {
				ids, _ := b.plainUsers.List(ctx, list)
				return ids, nil
			}
		})},
		{name: "an Enlist that did not happen", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.enlist = func(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
				listed, last, _ := b.plainUsers.Enlist(ctx, list, id, ttl, most)
				return listed, last, nil
			}
		})},
		{name: "a CutOff that did not happen", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
				if ctx.Err() != nil {
					ids, err := b.plainUsers.List(context.WithoutCancel(ctx), list)
					return ids, session.Cut{ID: 1}, err
				}
				return b.plainUsers.CutOff(ctx, list, except...)
			}
		})},
		{name: "an End that did not happen", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				_ = b.plainUsers.End(ctx, list, ids...)
				return nil
			}
		})},
		{name: "an End that gives up halfway", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				b.mu.Lock()
				b.at(list).remove(ids...)
				b.mu.Unlock()
				return b.plainUsers.End(ctx, list, ids...)
			}
		})},
		{name: "an End that outlasts its context", want: []string{ended}, open: byUsers(func(b *brokenUsers) {
			b.end = func(ctx context.Context, list string, ids ...uuid.UUID) error {
				if ctx.Err() != nil {
					time.Sleep(30 * time.Second)
				}
				return b.plainUsers.End(context.WithoutCancel(ctx), list, ids...)
			}
		})},
	}
}
