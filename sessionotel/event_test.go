package sessionotel_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessionotel"
	"github.com/sojourn-go/session/sessiontest"
)

// Events are counted by kind, and noted on the span that they happened in, with
// nothing but the kind.
func TestOnEventCountsByKind(t *testing.T) {
	x := collect(t)
	onEvent, err := sessionotel.OnEvent(x.config())
	if err != nil {
		t.Fatal(err)
	}
	whole := session.Event{Kind: session.EventLogin, ID: theID, User: "owner-of-it", Key: "key-of-it", Err: errors.New("value-of-it")}
	ctx, end := x.request(t.Context())
	onEvent(ctx, whole)
	onEvent(ctx, whole)
	onEvent(t.Context(), session.Event{Kind: session.EventRevoked}) // by a program's own doing, without a trace
	end()

	m := x.metric(t, "sojourn.session.events")
	if m == nil || m.Unit != "{event}" {
		t.Fatalf("the metric is %+v", m)
	}
	sum, ok := m.Data.(metricdata.Sum[int64])
	if !ok || !sum.IsMonotonic {
		t.Fatalf("the metric is %+v, want a counter", m.Data)
	}
	counts := map[string]int64{}
	for _, p := range sum.DataPoints {
		wantWords(t, "the metric", p.Attributes.ToSlice(), map[string]string{"sojourn.session.event.kind": words(p.Attributes.ToSlice())["sojourn.session.event.kind"]})
		counts[words(p.Attributes.ToSlice())["sojourn.session.event.kind"]] = p.Value
	}
	if len(counts) != 2 || counts["login"] != 2 || counts["revoked"] != 1 {
		t.Errorf("counted %v, want two logins and a revocation", counts)
	}

	requests := x.ended.GetSpans()
	if len(requests) != 1 || len(requests[0].Events) != 2 {
		t.Fatalf("the spans are %+v, want the request's with two events", requests)
	}
	for _, e := range requests[0].Events {
		if e.Name != "sojourn.session.event" {
			t.Errorf("the span has the event %q", e.Name)
		}
		wantWords(t, "the span's event", e.Attributes, map[string]string{"sojourn.session.event.kind": "login"})
	}
}

// Wrap measures the calls to the store. Counted here too, they would be most of
// what is counted.
func TestOnEventLeavesStoreCallsToWrap(t *testing.T) {
	x := collect(t)
	onEvent, err := sessionotel.OnEvent(x.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := x.request(t.Context())
	onEvent(ctx, session.Event{Kind: session.EventStoreCall})
	end()
	if m := x.metric(t, "sojourn.session.events"); m != nil {
		t.Errorf("a call to the store is counted: %+v", m.Data)
	}
	if events := x.ended.GetSpans()[0].Events; len(events) > 0 {
		t.Errorf("a call to the store is noted on the span: %v", events)
	}
}

// What a manager tells reaches the span of the request that it happened in.
func TestManagersEventsAreOnTheRequestsSpan(t *testing.T) {
	x := collect(t)
	onEvent, err := sessionotel.OnEvent(x.config())
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(session.Config{OnEvent: onEvent})
	if err != nil {
		t.Fatal(err)
	}
	site := &tracedSite{telemetry: x, sessions: sessions}
	visitor := sessiontest.Cookie(t, sessions, func(s *session.Session) { note.Set(s, "a") })
	site.serve(t.Context(), visitor, func(_ context.Context, s *session.Session) { _ = s.Login("alice") })
	events := x.ended.GetSpans()[0].Events
	if len(events) != 1 || words(events[0].Attributes)["sojourn.session.event.kind"] != "login" {
		t.Errorf("the request's span has the events %v, want one login", events)
	}
}
