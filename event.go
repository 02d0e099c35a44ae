package session

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
)

// An Event tells [Config.OnEvent] what happened to a session. It holds public
// names only: no token, no secret, no byte that a client sent (T2).
type Event struct {
	Kind EventKind
	ID   uuid.UUID // the session; uuid.Nil if none is known
	User string    // the bound user; "" is anonymous or unknown
	Key  string    // EventValueRefused: the key's name
	Err  error     // the cause, where there is one
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
	EventLoginRefused    EventKind = "login_refused"    // a login was undone: revoked while it ran, or one too many
	EventExpired         EventKind = "expired"          // a record was found past its lifetime (E3)
	EventUnknownToken    EventKind = "unknown_token"    // a well-formed token that opens nothing (R2)
	EventSuperseded      EventKind = "superseded"       // a token that was replaced a moment ago (C7)
	EventAmbiguousCookie EventKind = "ambiguous_cookie" // two live tokens in one request (R3)
	EventWriteRefused    EventKind = "write_refused"    // changes to a session that had ended (C3), or that came too late for a cookie (R7)
	EventConflictMerged  EventKind = "conflict_merged"  // changes were re-applied on another request's (C2)
	EventRecordRefused   EventKind = "record_refused"   // a stored record is damaged, foreign or of a newer format (R15, T4)
	EventValueRefused    EventKind = "value_refused"    // a stored value is not of its key's type (R9)
	EventTouchFailed     EventKind = "touch_failed"     // the idle time of a session could not be extended (R4)
	EventStoreFailed     EventKind = "store_failed"     // the store did not answer, or answered with an error
)

// LogValue shows the event as slog attributes.
func (e Event) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 5)
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
	if e.Err != nil {
		attrs = append(attrs, slog.String("err", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// event tells the hook, and logs what an operator has to act on.
func (m *Manager) event(ctx context.Context, e Event) {
	if m.onEvent != nil {
		m.onEvent(ctx, e)
	}
	switch e.Kind {
	case EventRecordRefused, EventValueRefused, EventTouchFailed, EventStoreFailed, EventWriteRefused, EventLoginRefused:
		m.logger.LogAttrs(ctx, slog.LevelWarn, "session: "+string(e.Kind), slog.Any("event", e))
	}
}
