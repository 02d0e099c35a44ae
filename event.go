package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// An Event tells [Config.OnEvent] what happened to a session, or to the store. It
// holds public names only: no token, no secret, no byte that a client sent (T2).
type Event struct {
	Kind EventKind
	ID   uuid.UUID // the session; uuid.Nil if none is known
	User string    // the bound user; "" is anonymous or unknown
	Key  string    // EventValueRefused: the key's name
	Err  error     // the cause, where there is one

	// Op is which call an EventStoreCall tells of: load, save, touch, delete, one
	// of those of a UserStore (enlist, list, cut_off, end, load_all, versions), or
	// probe, by which the manager finds out whether its store is away.
	Op string
	// Attempt says of a call how often the same change was sent before, without a
	// known outcome: it is 1 for a first retry.
	Attempt int
	// Duration is how long the call took, or, of an EventStoreBack, how long calls
	// were turned away.
	Duration time.Duration
}

// EventKind names what happened. The words are stable, for logs and counters.
type EventKind string

// The kinds of events.
const (
	EventCreated         EventKind = "created"          // a session was stored for the first time
	EventLogin           EventKind = "login"            // a user was bound and got a new secret (L1)
	EventRenewed         EventKind = "renewed"          // a new secret without a login
	EventDestroyed       EventKind = "destroyed"        // logged out
	EventRevoked         EventKind = "revoked"          // ended by Revoke, RevokeUser, RevokeOthers or RevokeAny
	EventEvicted         EventKind = "evicted"          // ended by a newer login of the same user (Config.MaxPerUser)
	EventLoginRefused    EventKind = "login_refused"    // a login was undone: revoked or evicted while it ran, or one too many
	EventExpired         EventKind = "expired"          // a record was found past its lifetime (E3)
	EventUnknownToken    EventKind = "unknown_token"    // a well-formed token that opens nothing (R2)
	EventSuperseded      EventKind = "superseded"       // a token that was replaced a moment ago (C7)
	EventAmbiguousCookie EventKind = "ambiguous_cookie" // two live tokens in one request (R3)
	EventWriteRefused    EventKind = "write_refused"    // changes to a session that had ended (C3), or that came too late for a cookie (R7)
	EventConflictMerged  EventKind = "conflict_merged"  // changes were re-applied on another request's (C2)
	EventRecordRefused   EventKind = "record_refused"   // a stored record is damaged, foreign or of a newer format (R15, T4)
	EventValueRefused    EventKind = "value_refused"    // a stored value is not of its key's type (R9)
	EventTouchFailed     EventKind = "touch_failed"     // the idle time of a session could not be extended (R4)
	EventStoreFailed     EventKind = "store_failed"     // the store did not answer, or answered with an error, or is away and was not asked
	EventStoreCall       EventKind = "store_call"       // a call to a store that is no MemoryStore ended; Err is what it returned, ErrNotFound and ErrConflict included
	EventStoreAway       EventKind = "store_away"       // the store answers nothing: from now on calls to it end at once
	EventStoreBack       EventKind = "store_back"       // it answers again
)

// LogValue shows the event as slog attributes.
func (e Event) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("kind", string(e.Kind)))
	if e.ID != uuid.Nil {
		attrs = append(attrs, slog.String("id", e.ID.String()))
	}
	if e.User != "" {
		attrs = append(attrs, slog.String("user", e.User))
	}
	if e.Key != "" {
		attrs = append(attrs, slog.String("key", e.Key))
	}
	if e.Op != "" {
		attrs = append(attrs, slog.String("op", e.Op))
	}
	if e.Attempt != 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Duration != 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("err", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// event tells the hook, and logs what an operator has to act on. That the store
// is away is logged once, not with every call that was not sent.
func (m *Manager) event(ctx context.Context, e Event) {
	if m.onEvent != nil {
		m.onEvent(ctx, e)
	}
	level := slog.LevelWarn
	switch e.Kind {
	case EventRecordRefused, EventValueRefused, EventWriteRefused, EventLoginRefused, EventStoreAway:
	case EventTouchFailed, EventStoreFailed:
		if turnedAway(e.Err) {
			return
		}
	case EventStoreBack:
		level = slog.LevelInfo
	default:
		return
	}
	m.logger.LogAttrs(ctx, level, "session: "+string(e.Kind), slog.Any("event", e))
}
