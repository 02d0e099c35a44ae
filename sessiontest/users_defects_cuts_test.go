package sessiontest_test

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func cutIDDefects() []defect {
	const (
		own     = "CutOff returns what it noted"
		unique  = "CutOffs of one list have IDs of their own"
		carried = "last has the ID that its CutOff returned"
	)
	return []defect{
		{name: "CutOff returns no Cut", want: []string{own, carried}, open: byUsers(func(b *brokenUsers) {
			b.tellsThis(func(session.Cut) session.Cut { return session.Cut{} })
		})},
		{name: "CutOff returns how long ago the last one was", want: []string{own}, open: byUsers(func(b *brokenUsers) {
			var last time.Time
			b.tellsThis(func(this session.Cut) session.Cut {
				b.mu.Lock()
				defer b.mu.Unlock()
				if !last.IsZero() {
					this.Ago = time.Since(last)
				}
				last = time.Now()
				return this
			})
		})},
		{name: "CutOff returns the one before it", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.tellsThis(func(this session.Cut) session.Cut { this.ID = max(1, this.ID-1); return this })
		})},
		{name: "the ID of a Cut is its time in hours", want: []string{unique}, open: byUsers(func(b *brokenUsers) {
			b.numbers(func(*plainList) uint64 { return uint64(time.Now().Unix() / 3600) })
		})},
		{name: "the ID of a Cut is chosen before it is noted", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.cutOff = func(ctx context.Context, list string, except ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
				b.mu.Lock()
				next := b.made + 1
				b.mu.Unlock()
				pause()
				ids, this, err := b.plainUsers.CutOff(ctx, list, except...)
				this.ID = next
				return ids, this, err
			}
		})},
		{name: "the ID of a Cut is its place", want: []string{unique}, open: byUsers(func(b *brokenUsers) {
			b.numbers(func(l *plainList) uint64 { return uint64(len(l.cuts)) })
		})},
		{name: "last has the ID of a Cut that excepts", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.lastCut(id)
				if last.ID != 0 {
					last.ID = l.cuts[len(l.cuts)-1].id
				}
				return last
			})
		})},
		{name: "last has the ID of the first Cut of its time", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.newest(id)
				for _, c := range l.cuts {
					if c.at.Equal(last.at) {
						return session.Cut{ID: c.id, Ago: l.sinceCut(id)}
					}
				}
				return session.Cut{}
			})
		})},
		{name: "every Enlist gives a Cut another ID", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.lastCut(id)
				if last.ID != 0 {
					last.ID = rand.Uint64()
				}
				return last
			})
		})},
		{name: "the IDs of Cuts as floats", want: []string{carried}, open: byUsers(func(b *brokenUsers) {
			b.numbers(func(*plainList) uint64 { return 1<<60 + rand.Uint64N(1<<60) })
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.lastCut(id)
				last.ID = uint64(float64(last.ID))
				return last
			})
		})},
		{name: "no Cut is one of less than no time", want: []string{
			"last tells how long ago the list was cut off",
		}, open: byUsers(func(b *brokenUsers) {
			b.tellsLast(func(l *plainList, id uuid.UUID) session.Cut {
				last := l.lastCut(id)
				last.Ago = l.sinceCut(id)
				return last
			})
		})},
	}
}
