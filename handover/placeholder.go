package handover

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// A record is not created in the shared store, it replaces a placeholder there.
//
// The condition of a creation is that there be no record. So a creation whose
// answer was lost could not be sent again: if the first one took effect and the
// visitor logged out since, the second would bring the session back; and a copy
// that was stalled on its way could do so at any time (C1, C5). What can be
// created twice, or late, without harm is a record that opens nothing. The record
// itself is then saved over the version of the placeholder, which is random, used
// by one creation and never again: once it was replaced or deleted, no copy of
// that save can take effect.

// placeholderMark begins with the format of no record, so that a server without
// this package leaves it alone: such a visitor is anonymous and gets no cookie
// (R15). Behind it comes the ttl that the placeholder was created with, in
// milliseconds.
var placeholderMark = []byte("\xffhandover: this session is on its way\x00")

const (
	// placeholderExtra is how much longer than the record a placeholder lives, so
	// that it is there even if the record is touched before it is taken.
	placeholderExtra = time.Hour
	// placeholderFresh is the age up to which a placeholder is taken for a record
	// that is about to arrive. Older ones were left by a server that crashed, or
	// that the shared store did not answer.
	placeholderFresh = 10 * time.Second
)

func newPlaceholder(rec session.Record) (p session.Record, ttl time.Duration) {
	ttl = wholeMillis(rec.TTL) + placeholderExtra
	data := binary.BigEndian.AppendUint64(bytes.Clone(placeholderMark), uint64(ttl.Milliseconds()))
	// With the owner, because a MemoryStore with a cap evicts what has none.
	return session.Record{Version: newVersion(), Owner: rec.Owner, Data: data}, ttl
}

func isPlaceholder(rec session.Record) bool { return bytes.HasPrefix(rec.Data, placeholderMark) }

// placeholderAge is measured on the store's clock alone.
func placeholderAge(p session.Record) time.Duration {
	rest := p.Data[len(placeholderMark):]
	if len(rest) != 8 {
		return placeholderFresh // not ours: old
	}
	return time.Duration(binary.BigEndian.Uint64(rest))*time.Millisecond - p.TTL
}

// loadShared is Load for which a placeholder is a record that comes in a moment.
func loadShared(ctx context.Context, shared session.Store, id uuid.UUID) (session.Record, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		rec, err := shared.Load(ctx, id)
		switch {
		case err != nil:
			return session.Record{}, err
		case !isPlaceholder(rec):
			return rec, nil
		case placeholderAge(rec) >= placeholderFresh:
			return session.Record{}, session.ErrNotFound
		}
		if err := sleep(ctx, pause); err != nil {
			return session.Record{}, fmt.Errorf("session: handover: another server is handing this session over and has not finished; try again: %w", err)
		}
	}
}

// announce puts a placeholder for rec into the shared store, or finds the one of
// an earlier attempt, and returns its version. 0: there is a record of that ID,
// which nobody but a second New over the same sessions can have put there.
func announce(ctx context.Context, shared session.Store, id uuid.UUID, rec session.Record) (place uint64, err error) {
	p, ttl := newPlaceholder(rec)
	there, err := shared.Save(ctx, id, 0, p, ttl)
	if errors.Is(err, session.ErrConflict) && there.Version == 0 {
		if there, err = shared.Load(ctx, id); err == nil {
			err = session.ErrConflict
		}
	}
	switch {
	case err == nil:
		return p.Version, nil
	case !errors.Is(err, session.ErrConflict):
		return 0, err
	case !isPlaceholder(there):
		return 0, nil
	}
	// It may end before the record that it stands for.
	return there.Version, shared.Touch(ctx, id, there.Version, ttl)
}

// newVersion is from crypto/rand, because two machines that were resumed from one
// snapshot would draw the same from another generator.
func newVersion() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// wholeMillis rounds up, where a store rounds down: a record that moves must not
// end before its time (E1).
func wholeMillis(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
