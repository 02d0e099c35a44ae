package sessionotel_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessionotel"
)

// A program has its providers from its own set-up, with which the zero Config
// does, and the span of a request from otelhttp. Here both are made by hand, so
// that there is something to show.
func Example() {
	ended, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	cfg := sessionotel.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(ended)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	}

	store, err := session.Open("memory:") // or redis://host
	exitOn(err)
	defer store.Close()
	measured, err := sessionotel.Wrap(store, cfg)
	exitOn(err)
	onEvent, err := sessionotel.OnEvent(cfg)
	exitOn(err)
	sessions, err := session.New(session.Config{Store: measured, Name: "shop", OnEvent: onEvent})
	exitOn(err)

	theme := session.NewKey[string]("theme")
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		theme.Set(session.FromContext(r.Context()), "dark")
	}))
	// The request's span is outside of the manager, so that it is around the store.
	ctx, span := cfg.TracerProvider.Tracer("shop").Start(context.Background(), "POST /theme")
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/theme", nil).WithContext(ctx))
	span.End()

	for _, s := range ended.GetSpans() {
		fmt.Println("span:", s.Name)
		for _, kv := range s.Attributes {
			fmt.Printf("  %s: %s\n", kv.Key, kv.Value.String())
		}
		for _, e := range s.Events {
			fmt.Printf("  event %s: %s\n", e.Name, e.Attributes[0].Value.String())
		}
	}
	var collected metricdata.ResourceMetrics
	exitOn(reader.Collect(context.Background(), &collected))
	for _, m := range collected.ScopeMetrics[0].Metrics {
		fmt.Println("metric:", m.Name, m.Unit)
	}
	// Output:
	// span: save session
	//   db.system.name: sojourn.memory
	//   db.operation.name: save
	//   db.query.summary: save session
	//   sojourn.store.outcome: ok
	// span: POST /theme
	//   event sojourn.session.event: created
	// metric: db.client.operation.duration s
	// metric: sojourn.session.events {event}
}

func exitOn(err error) {
	if err != nil {
		panic(err)
	}
}
