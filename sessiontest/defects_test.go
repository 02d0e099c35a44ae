package sessiontest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func deletingDefects() []defect {
	return []defect{
		{name: "unconditional delete", want: []string{
			"C1 a delete removes only the version it names",
			"C1 of a save and a delete one wins",
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.delete = func(ctx context.Context, id uuid.UUID, _ uint64) error { return b.plain.Delete(ctx, id, 0) }
		})},
		{name: "a delete that does nothing", want: []string{
			"C1 nothing brings back what was deleted",
			"C1 a delete removes only the version it names",
			"C4 nothing is saved after a delete",
		}, open: by(func(b *broken) {
			b.delete = func(context.Context, uuid.UUID, uint64) error { return nil }
		})},
		{name: "a delete in two steps", want: []string{
			"C1 of a save and a delete one wins",
		}, open: by(func(b *broken) {
			b.delete = func(ctx context.Context, id uuid.UUID, version uint64) error {
				if rec, ok := b.find(id); ok && version != 0 && version != rec.Version {
					return session.ErrConflict
				}
				pause()
				b.drop(id)
				return nil
			}
		})},
		{name: "a delete of nothing is an error", want: []string{
			"C1 deleting what is not there is no error",
		}, open: by(func(b *broken) {
			b.delete = func(ctx context.Context, id uuid.UUID, version uint64) error {
				if _, ok := b.find(id); !ok {
					return session.ErrNotFound
				}
				return b.plain.Delete(ctx, id, version)
			}
		})},
		{name: "a delete that writers outlive", want: []string{
			"C4 nothing is saved after a delete",
		}, open: by(func(b *broken) {
			deleted := map[uuid.UUID]int{}
			b.delete = func(ctx context.Context, id uuid.UUID, version uint64) error {
				b.mu.Lock()
				deleted[id] = 3 // writers on their way
				b.mu.Unlock()
				return b.plain.Delete(ctx, id, version)
			}
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				b.mu.Lock()
				deleted[id]--
				late := deleted[id] == 0
				b.mu.Unlock()
				if late {
					return b.plain.Save(ctx, id, 0, next, ttl)
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
	}
}

func expiryDefects() []defect {
	return []defect{
		{name: "ttl rounded to seconds", inClock: true, want: []string{
			"E1 a record lives for its ttl and no longer",
			"E4 a touch moves the end nearer",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration { return ttl.Round(time.Second) })
		})},
		{name: "ttl rounded up to seconds", inClock: true, want: []string{
			"E1 a record lives for its ttl and no longer",
			"E2 a ttl is rounded down",
			"E2 a ttl that rounds to nothing is an error",
			"E4 a touch moves the end nearer",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration {
				if ttl <= 0 {
					return ttl
				}
				return (ttl + time.Second - 1).Truncate(time.Second)
			})
		})},
		{name: "ttl rounded up to milliseconds", inClock: true, want: []string{
			"E2 a ttl is rounded down",
			"E2 a ttl that rounds to nothing is an error",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration { return ttl + time.Millisecond - 1 })
		})},
		{name: "end rounded down to seconds", inClock: true, want: []string{
			"E1 a record lives for its ttl and no longer",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration {
				if ttl < time.Millisecond {
					return ttl
				}
				return max(time.Until(time.Now().Add(ttl).Truncate(time.Second)), time.Millisecond)
			})
		})},
		{name: "a ttl of nothing is for ever", want: []string{
			"E2 a ttl that rounds to nothing is an error",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration {
				if ttl < time.Millisecond {
					return 1 << 62
				}
				return ttl
			})
		})},
		{name: "a ttl of nothing deletes", want: []string{
			"E2 a ttl that rounds to nothing is an error",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				if ttl < time.Millisecond {
					return b.plain.Delete(ctx, id, version)
				}
				return b.plain.Touch(ctx, id, version, ttl)
			}
		})},
		{name: "a ttl over 30 days is a date", inClock: true, want: []string{
			"E2 the shortest ttl ends and the longest holds",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration {
				if ttl > 30*24*time.Hour {
					return time.Millisecond
				}
				return ttl
			})
		})},
		{name: "expiry ignored", inClock: true, want: []string{
			"E1 a record lives for its ttl and no longer",
			"E1 what has ended is gone for every method",
			"C1 an expired record is absent",
		}, open: by(func(b *broken) {
			b.ttls(func(ttl time.Duration) time.Duration {
				if ttl < time.Millisecond {
					return ttl
				}
				return 1 << 62
			})
		})},
		{name: "expiry ignored by writes", inClock: true, want: []string{
			"E1 what has ended is gone for every method",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				b.mu.Lock()
				if rec, ok := b.recs[id]; ok && prev == rec.Version {
					rec.end = time.Now().Add(time.Second)
					b.recs[id] = rec
				}
				b.mu.Unlock()
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "a load starts the ttl anew", inClock: true, want: []string{
			"E1 a record lives for its ttl and no longer",
		}, open: by(func(b *broken) {
			b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) {
				rec, err := b.plain.Load(ctx, id)
				if err == nil {
					b.put(id, rec, max(rec.TTL, 200*time.Millisecond))
				}
				return rec, err
			}
		})},
		{name: "TTL is what was given", want: []string{
			"E1 TTL is what is left",
		}, open: by(func(b *broken) {
			b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) {
				rec, err := b.plain.Load(ctx, id)
				if err == nil {
					rec.TTL = (rec.TTL + time.Hour - 1).Truncate(time.Hour)
				}
				return rec, err
			}
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if live.TTL != 0 {
					live.TTL = 5 * time.Hour
				}
				return live, err
			}
		})},
		{name: "the dead stay in memory", want: []string{
			"E6 expired records are given back",
		}, open: func() session.Store { return hoarder{newPlain()} }},
	}
}

func versionDefects() []defect {
	return []defect{
		{name: "a counter for a version", want: []string{
			"C1 a save creates only what is absent",
			"C5 a save that was sent twice conflicts with itself",
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				next.Version = prev + 1
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "versions ordered with less", want: []string{
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.compares(func(wanted, there uint64) bool { return wanted >= there })
		})},
		{name: "versions ordered as signed", want: []string{
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.compares(func(wanted, there uint64) bool { return int64(wanted) >= int64(there) })
		})},
		{name: "versions compared as floats", want: []string{
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.compares(func(wanted, there uint64) bool { return float64(wanted) == float64(there) })
		})},
		{name: "versions without their highest bit", want: []string{
			"C5 versions are compared for equality only",
		}, open: by(func(b *broken) {
			b.compares(func(wanted, there uint64) bool { return wanted<<1 == there<<1 })
		})},
	}
}

func dataDefects() []defect {
	return []defect{
		{name: "one buffer for every load", want: []string{
			"C2 what was handed out does not change",
		}, open: by(func(b *broken) {
			buffer := make([]byte, 1<<20)
			b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) {
				rec, err := b.plain.Load(ctx, id)
				b.mu.Lock()
				defer b.mu.Unlock()
				rec.Data = buffer[:copy(buffer, rec.Data)]
				return rec, err
			}
		})},
		{name: "a save writes into the bytes that are there", want: []string{
			"C2 what was handed out does not change",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				rec, ok := b.find(id)
				next.Data = bytes.Clone(next.Data)
				if ok && rec.Version == prev && len(rec.Data) == len(next.Data) {
					b.mu.Lock()
					defer b.mu.Unlock()
					copy(rec.Data, next.Data)
					next.Data = rec.Data
					b.recs[id] = plainRecord{next, time.Now().Add(ttl)}
					return session.Record{}, nil
				}
				return b.plain.Save(ctx, id, prev, next, ttl)
			}
		})},
		{name: "data kept as text", want: []string{
			"T5 any data comes back",
		}, open: by(func(b *broken) {
			b.records(func(rec session.Record) session.Record {
				rec.Data = bytes.ToValidUTF8(rec.Data, []byte("?"))
				return rec
			})
		})},
		{name: "data up to 64 KiB", want: []string{
			"T5 any data comes back",
		}, open: by(func(b *broken) {
			b.records(func(rec session.Record) session.Record {
				rec.Data = rec.Data[:min(len(rec.Data), 64<<10-1)]
				return rec
			})
		})},
		{name: "data without its spaces", want: []string{
			"T5 any data comes back",
		}, open: by(func(b *broken) {
			b.records(func(rec session.Record) session.Record {
				rec.Data = bytes.TrimSpace(rec.Data)
				return rec
			})
		})},
		{name: "owners up to 255 bytes", want: []string{
			"L1 any owner comes back",
		}, open: by(func(b *broken) {
			b.records(func(rec session.Record) session.Record {
				rec.Owner = rec.Owner[:min(len(rec.Owner), 255)]
				return rec
			})
		})},
		{name: "owners folded to lower case", want: []string{
			"L1 any owner comes back",
		}, open: by(func(b *broken) {
			b.records(func(rec session.Record) session.Record {
				rec.Owner = strings.ToLower(rec.Owner)
				return rec
			})
		})},
		{name: "half an ID", want: []string{
			"T4 records are kept apart",
		}, open: by(func(b *broken) {
			half := func(id uuid.UUID) uuid.UUID { return uuid.UUID(append(id[:8:8], make([]byte, 8)...)) }
			b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) { return b.plain.Load(ctx, half(id)) }
			b.delete = func(ctx context.Context, id uuid.UUID, version uint64) error {
				return b.plain.Delete(ctx, half(id), version)
			}
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				return b.plain.Touch(ctx, half(id), version, ttl)
			}
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				return b.plain.Save(ctx, half(id), prev, next, ttl)
			}
		})},
	}
}

func otherDefects() []defect {
	return []defect{
		{name: "reads that lag", want: []string{
			"C1 a delete removes only the version it names",
			"L1 a load sees what was confirmed",
		}, open: by(lag)},
		{name: "a failure reported as not found", want: []string{
			"R11 a call ends with its context",
		}, open: by(func(b *broken) {
			b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) {
				rec, err := b.plain.Load(ctx, id)
				if err != nil {
					return session.Record{}, session.ErrNotFound
				}
				return rec, nil
			}
		})},
		{name: "calls that outlast their context", want: []string{
			"R11 a call ends with its context",
		}, open: by(func(b *broken) {
			b.touch = func(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
				if ctx.Err() != nil {
					time.Sleep(30 * time.Second)
				}
				return b.plain.Touch(context.WithoutCancel(ctx), id, version, ttl)
			}
		})},
		{name: "a success that was none", want: []string{
			"R11 a call ends with its context",
		}, open: by(func(b *broken) {
			b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
				live, err := b.plain.Save(ctx, id, prev, next, ttl)
				if errors.Is(err, context.Canceled) {
					return session.Record{}, nil
				}
				return live, err
			}
		})},
	}
}

// lag makes Load see a record as it was before the last write to it, as a
// replica does.
func lag(b *broken) {
	former := map[uuid.UUID]plainRecord{}
	remember := func(id uuid.UUID) {
		b.mu.Lock()
		defer b.mu.Unlock()
		former[id] = b.recs[id]
	}
	b.save = func(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
		if prev != 0 { // so that a creation is seen
			remember(id)
		}
		return b.plain.Save(ctx, id, prev, next, ttl)
	}
	b.delete = func(ctx context.Context, id uuid.UUID, version uint64) error {
		remember(id)
		return b.plain.Delete(ctx, id, version)
	}
	b.load = func(ctx context.Context, id uuid.UUID) (session.Record, error) {
		b.mu.Lock()
		rec, ok := former[id]
		delete(former, id)
		b.mu.Unlock()
		if ok && rec.Version != 0 {
			rec.TTL = time.Until(rec.end)
			return rec.Record, nil
		}
		return b.plain.Load(ctx, id)
	}
}
