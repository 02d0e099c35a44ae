package sessionotel_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
)

// Every call is one point of the metric and one span, with the names, the unit
// and the attributes of the database conventions.
func TestEachCallIsMeasuredByTheConventions(t *testing.T) {
	for _, c := range storeCalls {
		t.Run(c.operation, func(t *testing.T) {
			x := collect(t)
			store := new(answering)
			ctx, end := x.request(t.Context())
			defer end()
			if err := c.call(ctx, x.wrap(t, store, systemNamed("postgresql")).(session.UserStore)); err != nil {
				t.Fatal(err)
			}

			m := x.metric(t, "db.client.operation.duration")
			if m == nil || m.Unit != "s" || m.Description != "Duration of database client operations." {
				t.Fatalf("the metric is %+v", m)
			}
			point := x.point(t)
			if want := []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}; !slices.Equal(point.Bounds, want) {
				t.Errorf("boundaries %v, the conventions want %v", point.Bounds, want)
			}
			wantWords(t, "the metric", point.Attributes.ToSlice(), map[string]string{
				"db.system.name": "postgresql", "db.operation.name": c.operation, "sojourn.store.outcome": "ok",
			})

			span := x.span(t)
			if span.Name != c.span || span.SpanKind != trace.SpanKindClient || span.Status.Code != codes.Unset {
				t.Errorf("span %q, %v, status %v; want %q, client, unset", span.Name, span.SpanKind, span.Status, c.span)
			}
			wantWords(t, "the span", span.Attributes, map[string]string{
				"db.system.name": "postgresql", "db.operation.name": c.operation, "db.query.summary": c.span, "sojourn.store.outcome": "ok",
			})
			if scope := span.InstrumentationScope; scope.Name != "github.com/sojourn-go/session/sessionotel" || scope.SchemaURL == "" {
				t.Errorf("the span's scope is %+v", scope)
			}
			if ex := point.Exemplars; len(ex) != 1 || trace.SpanID(ex[0].SpanID) != span.SpanContext.SpanID() {
				t.Errorf("the metric's exemplars are %+v, want one that leads to the span", ex)
			}
			if span.Parent.SpanID() != trace.SpanFromContext(ctx).SpanContext().SpanID() {
				t.Error("the span is not the child of the one around the call")
			}
			if trace.SpanFromContext(store.ctx).SpanContext().SpanID() != span.SpanContext.SpanID() {
				t.Error("what the store calls in turn would not be a child of the span")
			}
		})
	}
}

// The metric is the span's duration, to within what it takes to make a span.
func TestMetricAndSpanAgreeOnTheDuration(t *testing.T) {
	const took = 30 * time.Millisecond
	x := collect(t)
	ctx, end := x.request(t.Context())
	defer end()
	slow := slowStore{Store: new(session.MemoryStore), takes: took}
	_, _ = x.wrap(t, slow, systemNamed("slow")).Load(ctx, theID)
	measured := time.Duration(x.point(t).Sum * float64(time.Second))
	span := x.span(t)
	if traced := span.EndTime.Sub(span.StartTime); measured < took || measured > traced {
		t.Errorf("the metric says %v, the span %v, and the call took %v at least", measured, traced, took)
	}
}

// docs/observability.md says how to see more than the conventions' boundaries do.
func TestViewReplacesTheBoundaries(t *testing.T) {
	x := collect(t, sdkmetric.WithView(sdkmetric.NewView(
		sdkmetric.Instrument{Name: "db.client.operation.duration"},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}},
	)))
	_, _ = x.wrap(t, new(session.MemoryStore), nil).Load(t.Context(), theID)
	if m := x.metric(t, "db.client.operation.duration"); m == nil {
		t.Error("nothing is recorded")
	} else if _, ok := m.Data.(metricdata.ExponentialHistogram[float64]); !ok {
		t.Errorf("the metric is a %T", m.Data)
	}
}

type slowStore struct {
	session.Store
	takes time.Duration
}

func (s slowStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	time.Sleep(s.takes)
	return s.Store.Load(ctx, id)
}

// A record that is gone or that changed is an answer, and no failure (C1).
func TestAnswersAreNoErrors(t *testing.T) {
	for err, outcome := range map[error]string{
		session.ErrNotFound:                            "not_found",
		session.ErrConflict:                            "conflict",
		fmt.Errorf("wrapped: %w", session.ErrConflict): "conflict",
	} {
		for _, c := range storeCalls {
			x := collect(t)
			ctx, end := x.request(t.Context())
			if got := c.call(ctx, x.wrap(t, &answering{err: err}, systemNamed("any")).(session.UserStore)); got != err {
				t.Errorf("%s returned %v instead of %v", c.operation, got, err)
			}
			end()
			span := x.span(t)
			if span.Status.Code != codes.Unset || len(span.Events) > 0 {
				t.Errorf("%s: %v is a span with the status %v and the events %v", c.operation, err, span.Status, span.Events)
			}
			for what, got := range map[string]map[string]string{"span": words(span.Attributes), "metric": words(x.point(t).Attributes.ToSlice())} {
				if got["sojourn.store.outcome"] != outcome || got["error.type"] != "" {
					t.Errorf("%s: %v is a %s with %v, want the outcome %s and no error.type", c.operation, err, what, got, outcome)
				}
			}
		}
	}
}

// A failure is of one of few kinds, the same on the span and the metric, and
// what it says stays out of both.
func TestFailuresAreOfFewKinds(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errors.New("connection refused"))}
	for _, c := range []struct {
		name, kind, code string
		err              error
	}{
		{"deadline", "timeout", "", context.DeadlineExceeded},
		{"deadline, wrapped", "timeout", "", fmt.Errorf("load: %w", context.DeadlineExceeded)},
		{"deadline, joined", "timeout", "", errors.Join(refused, context.DeadlineExceeded)},
		{"the network's timeout", "timeout", "", &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}},
		{"the caller left", "canceled", "", fmt.Errorf("load: %w", context.Canceled)},
		{"refused", "*net.OpError", "", refused},
		{"refused, wrapped", "*net.OpError", "", fmt.Errorf("load: %w", refused)},
		{"Redis says why", "READONLY", "READONLY", fmt.Errorf("save: %w", redisSays("READONLY You can't write against a read only replica."))},
		{"Redis says why in prose", "github.com/sojourn-go/session/sessionotel_test.redisSays", "", redisSays("Protocol error: value-of-it")},
		{"a code that is a value", "github.com/sojourn-go/session/sessionotel_test.redisSays", "", redisSays("THISISWHATSOMEBODYSTOREDASVALUE x")},
		{"another store's", "github.com/sojourn-go/session/sessionotel_test.quoting", "", quoting{}},
		{"no type of its own", "*errors.errorString", "", errors.New("owner-of-it")},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := collect(t)
			ctx, end := x.request(t.Context())
			_, err := x.wrap(t, &answering{err: c.err}, systemNamed("any")).Load(ctx, theID)
			end()
			if err != c.err {
				t.Errorf("returned %v, want the store's own error", err)
			}
			want := map[string]string{"db.system.name": "any", "db.operation.name": "load", "sojourn.store.outcome": "error", "error.type": c.kind}
			if c.code != "" {
				want["db.response.status_code"] = c.code
			}
			wantWords(t, "the metric", x.point(t).Attributes.ToSlice(), want)
			span := x.span(t)
			want = maps.Clone(want)
			want["db.query.summary"] = "load session"
			wantWords(t, "the span", span.Attributes, want)
			if span.Status.Code != codes.Error || span.Status.Description != "" || len(span.Events) > 0 {
				t.Errorf("the span has the status %+v and the events %v, want an error without words", span.Status, span.Events)
			}
		})
	}
}

type redisSays string

func (e redisSays) Error() string { return string(e) }
func (redisSays) RedisError()     {}

type quoting struct{}

func (quoting) Error() string { return "no room for value-of-it of owner-of-it on name-of-the-list" }

// A call whose context has ended is measured like any other: those are the calls
// that an operator looks for.
func TestCallsThatRanOutOfTimeAreMeasured(t *testing.T) {
	x := collect(t)
	ctx, end := x.request(t.Context())
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := x.wrap(t, new(session.MemoryStore), nil).Load(ctx, theID); !errors.Is(err, context.Canceled) {
		t.Fatalf("the store says %v", err)
	}
	x.point(t)
	x.span(t)
}

// Without a trace to be a part of there is no span: the poll of open streams
// (Session.Done) would be a trace of its own each second. The metric has it.
func TestNoTraceBeginsWithAStoreCall(t *testing.T) {
	x := collect(t)
	for _, c := range storeCalls {
		if err := c.call(t.Context(), x.wrap(t, new(answering), systemNamed("any")).(session.UserStore)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(x.durations(t)), len(storeCalls); got != want {
		t.Errorf("%d operations measured, want %d", got, want)
	}
	if spans := x.spans(); len(spans) > 0 {
		t.Errorf("%d spans without a trace: %v", len(spans), spans)
	}
}
