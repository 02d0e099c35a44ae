package sessionotel

import (
	"errors"
	"fmt"
	"reflect"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
)

// Config says where the telemetry goes, and what is in it. The zero value uses
// the providers that the program installed with [otel.SetMeterProvider] and
// [otel.SetTracerProvider].
type Config struct {
	// MeterProvider gets the metrics. nil: otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// TracerProvider gets the spans. nil: otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// System is the store's db.system.name, such as postgresql; the database
	// conventions list those known. "": redis for a [session.RedisStore],
	// sojourn.memory for a [session.MemoryStore], and for what [session.Open]
	// returned accordingly. Required with any other store.
	System string
	// SessionIDs puts the session's ID on the spans, as sojourn.session.id. It is
	// no credential, but it ties a visitor's requests together for whoever reads
	// the traces. false: no span tells whose it is.
	SessionIDs bool
}

// Wrap returns a store that asks store, and measures and traces every call. It is
// a [session.UserStore] if store is one. Nothing else of store shows through:
// Close, if it has one, stays the caller's to call.
//
// A Manager knows a [session.MemoryStore] by its type, and spares it what a store
// that may wait needs, such as deadlines and the record's recent versions (C5).
// Wrapped it is a store like any other.
//
// The error says what is wrong with store or cfg, or is the provider's.
func Wrap(store session.Store, cfg Config) (session.Store, error) {
	if store == nil {
		return nil, errors.New("sessionotel: Wrap needs a store; pass what session.Open or session.NewRedisStore returned")
	}
	if _, twice := store.(interface{ measured() }); twice {
		return nil, errors.New("sessionotel: the store is wrapped already, and each call would count twice; wrap it once")
	}
	if cfg.System == "" {
		cfg.System = systemOf(store)
	}
	if cfg.System == "" {
		return nil, fmt.Errorf("sessionotel: Config.System is missing, and a %T does not tell; name its database as the OpenTelemetry conventions do for db.system.name", store)
	}
	in, err := newInstruments(cfg)
	if err != nil {
		return nil, err
	}
	wrapped := measuredStore{store: store, in: in}
	if users, ok := store.(session.UserStore); ok {
		return &measuredUserStore{measuredStore: wrapped, users: users}, nil
	}
	return &wrapped, nil
}

// systemOf names the database of the stores that ship with the library. What
// session.Open returns embeds one of them.
func systemOf(store session.Store) string {
	t := structOf(reflect.TypeOf(store))
	if name := systems[t]; name != "" || t.Kind() != reflect.Struct {
		return name
	}
	for f := range t.NumField() {
		if field := t.Field(f); field.Anonymous {
			if name := systems[structOf(field.Type)]; name != "" {
				return name
			}
		}
	}
	return ""
}

var systems = map[reflect.Type]string{
	reflect.TypeFor[session.RedisStore]():  "redis",
	reflect.TypeFor[session.MemoryStore](): "sojourn.memory",
}

func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func (cfg *Config) meter() metric.Meter {
	provider := cfg.MeterProvider
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	return provider.Meter(scope, metric.WithSchemaURL(schemaURL))
}

func (cfg *Config) tracer() trace.Tracer {
	provider := cfg.TracerProvider
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	return provider.Tracer(scope, trace.WithSchemaURL(schemaURL))
}
