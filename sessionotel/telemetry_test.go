package sessionotel_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessionotel"
)

// A telemetry collects what a test's providers are given.
type telemetry struct {
	reader *sdkmetric.ManualReader
	ended  *tracetest.InMemoryExporter
	meters *sdkmetric.MeterProvider
	traces *sdktrace.TracerProvider
}

func collect(t testing.TB, options ...sdkmetric.Option) *telemetry {
	x := &telemetry{reader: sdkmetric.NewManualReader(), ended: tracetest.NewInMemoryExporter()}
	x.meters = sdkmetric.NewMeterProvider(append(options, sdkmetric.WithReader(x.reader))...)
	x.traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(x.ended))
	t.Cleanup(func() {
		if err := errors.Join(x.meters.Shutdown(context.Background()), x.traces.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *telemetry) config() sessionotel.Config {
	return sessionotel.Config{MeterProvider: x.meters, TracerProvider: x.traces}
}

func (x *telemetry) wrap(t testing.TB, store session.Store, change func(*sessionotel.Config)) session.Store {
	t.Helper()
	cfg := x.config()
	if change != nil {
		change(&cfg)
	}
	wrapped, err := sessionotel.Wrap(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// request is a context with a span around it, which end ends.
func (x *telemetry) request(ctx context.Context) (_ context.Context, end func()) {
	ctx, span := x.traces.Tracer("test").Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func() { span.End() }
}

// spans returns those of the wrapper, in the order in which they ended.
func (x *telemetry) spans() []tracetest.SpanStub {
	return slices.DeleteFunc(x.ended.GetSpans(), func(s tracetest.SpanStub) bool { return s.InstrumentationScope.Name == "test" })
}

// span is the one that there is.
func (x *telemetry) span(t testing.TB) tracetest.SpanStub {
	t.Helper()
	spans := x.spans()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1: %v", len(spans), spans)
	}
	return spans[0]
}

// metric returns what was recorded under a name, and nil if nothing was.
func (x *telemetry) metric(t testing.TB, name string) *metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := x.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for i := range scope.Metrics {
			if scope.Metrics[i].Name == name {
				return &scope.Metrics[i]
			}
		}
	}
	return nil
}

// durations returns the points of db.client.operation.duration.
func (x *telemetry) durations(t testing.TB) []metricdata.HistogramDataPoint[float64] {
	t.Helper()
	m := x.metric(t, "db.client.operation.duration")
	if m == nil {
		return nil
	}
	h, ok := m.Data.(metricdata.Histogram[float64])
	if !ok {
		t.Fatalf("db.client.operation.duration is a %T", m.Data)
	}
	return h.DataPoints
}

// point is the one that there is, of one call.
func (x *telemetry) point(t testing.TB) *metricdata.HistogramDataPoint[float64] {
	t.Helper()
	points := x.durations(t)
	if len(points) != 1 || points[0].Count != 1 {
		t.Fatalf("%d points of the metric, want one with one call: %+v", len(points), points)
	}
	return &points[0]
}

// words makes attributes comparable, and readable in a failure.
func words(attributes []attribute.KeyValue) map[string]string {
	m := make(map[string]string, len(attributes))
	for _, kv := range attributes {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

func wantWords(t *testing.T, what string, got []attribute.KeyValue, want map[string]string) {
	t.Helper()
	if m := words(got); !maps.Equal(m, want) || len(m) != len(got) {
		t.Errorf("%s has the attributes %v, want %v", what, got, want)
	}
}

// An answering store says the same to every call, and remembers the context of
// the last one.
type answering struct {
	err error
	ctx context.Context
}

func (s *answering) note(ctx context.Context) error { s.ctx = ctx; return s.err }

func (s *answering) Load(ctx context.Context, _ uuid.UUID) (session.Record, error) {
	return session.Record{}, s.note(ctx)
}

func (s *answering) Save(ctx context.Context, _ uuid.UUID, _ uint64, _ session.Record, _ time.Duration) (session.Record, error) {
	return session.Record{}, s.note(ctx)
}

func (s *answering) Touch(ctx context.Context, _ uuid.UUID, _ uint64, _ time.Duration) error {
	return s.note(ctx)
}

func (s *answering) Delete(ctx context.Context, _ uuid.UUID, _ uint64) error { return s.note(ctx) }

func (s *answering) Enlist(ctx context.Context, _ string, _ uuid.UUID, _ time.Duration, _ int) ([]uuid.UUID, session.Cut, error) {
	return nil, session.Cut{}, s.note(ctx)
}

func (s *answering) List(ctx context.Context, _ string) ([]uuid.UUID, error) {
	return nil, s.note(ctx)
}

func (s *answering) CutOff(ctx context.Context, _ string, _ ...uuid.UUID) ([]uuid.UUID, session.Cut, error) {
	return nil, session.Cut{}, s.note(ctx)
}

func (s *answering) End(ctx context.Context, _ string, _ ...uuid.UUID) error { return s.note(ctx) }

func (s *answering) LoadAll(ctx context.Context, _ []uuid.UUID) ([]session.Record, error) {
	return nil, s.note(ctx)
}

func (s *answering) Versions(ctx context.Context, _ []uuid.UUID) ([]uint64, error) {
	return nil, s.note(ctx)
}

// What must not be told, in the arguments of every call and in errors.
var (
	theID     = uuid.MustParse("6f1b0f0e-7d1c-4a51-9c9e-0a4f4c1d2e3f")
	theRecord = session.Record{Version: 1, Owner: "owner-of-it", Data: []byte("value-of-it")}
)

const theList = "name-of-the-list"

// storeCalls are all that can be asked of a store, by db.operation.name.
var storeCalls = []struct {
	operation, span string
	aboutOne        bool // session, which has an ID
	call            func(context.Context, session.UserStore) error
}{
	{"load", "load session", true, func(ctx context.Context, s session.UserStore) error {
		_, err := s.Load(ctx, theID)
		return err
	}},
	{"save", "save session", true, func(ctx context.Context, s session.UserStore) error {
		_, err := s.Save(ctx, theID, 0, theRecord, time.Hour)
		return err
	}},
	{"touch", "touch session", true, func(ctx context.Context, s session.UserStore) error {
		return s.Touch(ctx, theID, 1, time.Hour)
	}},
	{"delete", "delete session", true, func(ctx context.Context, s session.UserStore) error {
		return s.Delete(ctx, theID, 0)
	}},
	{"enlist", "enlist session", true, func(ctx context.Context, s session.UserStore) error {
		_, _, err := s.Enlist(ctx, theList, theID, time.Hour, 0)
		return err
	}},
	{"list", "list sessions", false, func(ctx context.Context, s session.UserStore) error {
		_, err := s.List(ctx, theList)
		return err
	}},
	{"cut_off", "cut_off sessions", false, func(ctx context.Context, s session.UserStore) error {
		_, _, err := s.CutOff(ctx, theList, theID)
		return err
	}},
	{"end", "end sessions", false, func(ctx context.Context, s session.UserStore) error {
		return s.End(ctx, theList, theID)
	}},
	{"load_all", "load_all sessions", false, func(ctx context.Context, s session.UserStore) error {
		_, err := s.LoadAll(ctx, []uuid.UUID{theID})
		return err
	}},
	{"versions", "versions sessions", false, func(ctx context.Context, s session.UserStore) error {
		_, err := s.Versions(ctx, []uuid.UUID{theID})
		return err
	}},
}
