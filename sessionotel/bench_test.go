package sessionotel_test

import (
	"context"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessionotel"
)

// A costing is one way to be measured, with the allocations that it costs a call
// with the SDK of go.mod. The package documentation has the same numbers.
type costing struct {
	name   string
	allocs float64
	store  session.Store
	ctx    context.Context
}

// costings are all ways to load one record from a MemoryStore. Spans go to a
// processor that drops them: what exporting costs is the exporter's.
func costings(t testing.TB) []costing {
	t.Helper()
	memory := new(session.MemoryStore)
	if _, err := memory.Save(t.Context(), theID, 0, theRecord, time.Hour); err != nil {
		t.Fatal(err)
	}
	x := collect(t)
	traced := func(sampler sdktrace.Sampler) (session.Store, context.Context) {
		x.traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(dropping{}), sdktrace.WithSampler(sampler))
		ctx, end := x.request(t.Context())
		t.Cleanup(end)
		return x.wrap(t, memory, nil), ctx
	}
	unsampled, inUnsampled := traced(sdktrace.NeverSample())
	sampled, inSampled := traced(sdktrace.AlwaysSample())
	return []costing{
		{"not wrapped", 0, memory, t.Context()},
		{"no SDK", 0, x.wrap(t, memory, func(cfg *sessionotel.Config) { *cfg = sessionotel.Config{} }), t.Context()},
		{"metric", 0, sampled, t.Context()},
		{"metric and a span that is not sampled", 3, unsampled, inUnsampled},
		{"metric and span", 6, sampled, inSampled},
	}
}

type dropping struct{}

func (dropping) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (dropping) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (dropping) Shutdown(context.Context) error                  { return nil }
func (dropping) ForceFlush(context.Context) error                { return nil }

func BenchmarkLoad(b *testing.B) {
	for _, c := range costings(b) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.store.Load(c.ctx, theID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
