package sessionotel

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
)

// OnEvent returns a function for [session.Config.OnEvent]. It counts the events
// by kind, in sojourn.session.events, and notes each on the span that it happened
// in. Of the event itself only the kind is told. Events that tell of a call to the
// store are left out: Wrap measures those. Of cfg only the providers are used.
//
// The error is the provider's.
func OnEvent(cfg Config) (func(context.Context, session.Event), error) {
	events, err := cfg.meter().Int64Counter("sojourn.session.events",
		metric.WithUnit("{event}"), metric.WithDescription("Number of things that happened to sessions, by kind."))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e session.Event) {
		if e.Kind == session.EventStoreCall {
			return
		}
		kind := keyEventKind.String(string(e.Kind))
		events.Add(ctx, 1, metric.WithAttributes(kind))
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.AddEvent("sojourn.session.event", trace.WithAttributes(kind))
		}
	}, nil
}
