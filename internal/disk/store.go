// Package disk is a store in a file, and a comparison of what a request costs
// over it, over Redis with and without a file, and over memory: docs/many-servers.md
// has the figures.
//
// It is no product. It exists so that "sessions live in memory" is a measured
// choice, does the least that the contract of session.Store asks, and never gives
// back the room of records that expired.
package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
	bolt "go.etcd.io/bbolt"
)

var bucket = []byte("sessions")

// Store is a session.Store in one file of bbolt. What Save, Touch and Delete
// confirmed is on the disk: each waits for a transaction that was synced, which
// it shares with the calls that arrived meanwhile, as Redis does with
// appendfsync always.
type Store struct {
	db   *bolt.DB
	txns atomic.Int64

	mu      sync.Mutex
	waiting []*call
	running bool // a goroutine is writing, and looks at waiting when it is done
}

var _ session.StoreCloser = (*Store)(nil)

// A call is one write on its way.
type call struct {
	do   func(*bolt.Bucket) error
	err  error
	done chan struct{}
}

// Open opens the file at path, or makes it.
func Open(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &Store{db: db}, nil
}

// Close closes the file. Calls that are under way are waited for.
func (s *Store) Close() error { return s.db.Close() }

// Syncs is how often the file was synced for what was written since Open: twice
// for each transaction, the pages and then the page that makes them count. What
// making the file longer costs is not in it.
func (s *Store) Syncs() int64 { return 2 * s.txns.Load() }

// Load reads, and waits for no writer.
func (s *Store) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	if err := ctx.Err(); err != nil {
		return session.Record{}, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		rec, err = load(tx.Bucket(bucket), id)
		return err
	})
	return rec, err
}

// Save compares and writes in one transaction (C1).
func (s *Store) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	var live session.Record
	err := s.write(ctx, func(b *bolt.Bucket) error {
		rec, err := load(b, id)
		switch {
		case err == nil && rec.Version != prev:
			live = rec
			return session.ErrConflict
		case err != nil && (err != session.ErrNotFound || prev != 0):
			return err
		}
		return put(b, id, next, ttl)
	})
	if err != session.ErrConflict {
		return session.Record{}, err // live is the transaction's when ctx ended first
	}
	return live, err
}

// Touch writes the record again with another end.
func (s *Store) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	return s.write(ctx, func(b *bolt.Bucket) error {
		rec, err := load(b, id)
		if err != nil {
			return err
		}
		if rec.Version != version {
			return session.ErrConflict
		}
		return put(b, id, rec, ttl)
	})
}

// Delete compares and deletes in one transaction; version 0 does not compare.
func (s *Store) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	return s.write(ctx, func(b *bolt.Bucket) error {
		rec, err := load(b, id)
		if err == session.ErrNotFound {
			return nil
		}
		if err == nil && version != 0 && rec.Version != version {
			return session.ErrConflict
		}
		return b.Delete(id[:])
	})
}

// write has do done in the next transaction and waits until it is synced. A do
// that returns an error has changed nothing.
func (s *Store) write(ctx context.Context, do func(*bolt.Bucket) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{do: do, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	if !s.running {
		s.running = true
		go s.writeAll()
	}
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeAll writes what waits, a transaction at a time, until nothing does.
func (s *Store) writeAll() {
	for {
		s.mu.Lock()
		calls := s.waiting
		s.waiting = nil
		s.running = len(calls) > 0
		s.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		s.transact(calls)
	}
}

func (s *Store) transact(calls []*call) {
	s.txns.Add(1)
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		for _, c := range calls {
			c.err = c.do(b)
		}
		return nil
	})
	for _, c := range calls {
		if err != nil {
			c.err = err
		}
		close(c.done)
	}
}

// A value is the end in nanoseconds since 1970, the version, the length of the
// owner, the owner and the data.
const fixed = 8 + 8 + 4

// put writes rec, whose ttl is rounded down to milliseconds, as those of the
// library's own stores are (E2).
func put(b *bolt.Bucket, id uuid.UUID, rec session.Record, ttl time.Duration) error {
	ttl = ttl.Truncate(time.Millisecond)
	if ttl <= 0 {
		return errors.New("session: a ttl below a millisecond; give a longer one")
	}
	v := make([]byte, 0, fixed+len(rec.Owner)+len(rec.Data))
	v = binary.BigEndian.AppendUint64(v, uint64(time.Now().Add(ttl).UnixNano()))
	v = binary.BigEndian.AppendUint64(v, rec.Version)
	v = binary.BigEndian.AppendUint32(v, uint32(len(rec.Owner)))
	v = append(v, rec.Owner...)
	return b.Put(id[:], append(v, rec.Data...))
}

// load returns the live record, or session.ErrNotFound. It copies: what the file
// is mapped to may not be kept.
func load(b *bolt.Bucket, id uuid.UUID) (session.Record, error) {
	v := b.Get(id[:])
	if len(v) < fixed {
		return session.Record{}, session.ErrNotFound
	}
	left := time.Until(time.Unix(0, int64(binary.BigEndian.Uint64(v))))
	owner := int(binary.BigEndian.Uint32(v[16:]))
	if left <= 0 || len(v) < fixed+owner {
		return session.Record{}, session.ErrNotFound
	}
	return session.Record{
		Version: binary.BigEndian.Uint64(v[8:]),
		Owner:   string(v[fixed : fixed+owner]),
		Data:    append([]byte(nil), v[fixed+owner:]...),
		TTL:     left,
	}, nil
}
