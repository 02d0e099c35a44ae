package sessionotel_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessionotel"
	"github.com/sojourn-go/session/sessiontest"
)

func systemNamed(name string) func(*sessionotel.Config) {
	return func(cfg *sessionotel.Config) { cfg.System = name }
}

// Wrapped, a store keeps the contract that it kept before.
func TestWrapKeepsTheContractOfMemoryStore(t *testing.T) {
	sessiontest.TestStore(t, func(t *testing.T) session.Store {
		return collect(t).wrap(t, new(session.MemoryStore), nil)
	}, sessiontest.Options{})
}

func TestWrapKeepsTheContractOfRedisStore(t *testing.T) {
	client := redistest.Start(t, redistest.Config{}).Client(&redis.Options{})
	sessiontest.TestStore(t, func(t *testing.T) session.Store {
		store, err := session.NewRedisStore(client, session.RedisConfig{Prefix: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		return collect(t).wrap(t, store, nil)
	}, sessiontest.Options{RealTime: true})
}

// onlyStore hides whatever else a store can do.
type onlyStore struct{ session.Store }

// What a store cannot do, the wrapped one does not claim to: a Manager would
// believe it.
func TestWrapIsAUserStoreIfTheStoreIs(t *testing.T) {
	x := collect(t)
	if _, ok := x.wrap(t, new(answering), systemNamed("any")).(session.UserStore); !ok {
		t.Error("a wrapped UserStore is none any more")
	}
	if _, ok := x.wrap(t, onlyStore{new(answering)}, systemNamed("any")).(session.UserStore); ok {
		t.Error("a wrapped Store claims to keep lists")
	}
}

type embedsMemory struct{ *session.MemoryStore }

func TestWrapKnowsTheSystemOrAsks(t *testing.T) {
	client := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	defer client.Close()
	redisStore, err := session.NewRedisStore(client, session.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(url string) session.Store {
		store, err := session.Open(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		return store
	}
	for _, c := range []struct {
		name  string
		store session.Store
		set   string
		want  string // "": refused
	}{
		{"MemoryStore", new(session.MemoryStore), "", "sojourn.memory"},
		{"RedisStore", redisStore, "", "redis"},
		{"Open of memory", open("memory:"), "", "sojourn.memory"},
		{"Open of Redis", open("redis://localhost"), "", "redis"},
		{"Open of a Cluster", open("redis+cluster://localhost"), "", "redis"},
		{"what embeds one", embedsMemory{new(session.MemoryStore)}, "", "sojourn.memory"},
		{"set", redisStore, "valkey", "valkey"},
		{"another store", onlyStore{redisStore}, "postgresql", "postgresql"},
		{"another store, not set", onlyStore{redisStore}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := collect(t)
			cfg := x.config()
			cfg.System = c.set
			wrapped, err := sessionotel.Wrap(c.store, cfg)
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), "Config.System") {
					t.Errorf("the error is %v, want one that names Config.System", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = wrapped.Touch(t.Context(), theID, 1, 0) // refused before anything is sent
			if got := words(x.point(t).Attributes.ToSlice())["db.system.name"]; got != c.want {
				t.Errorf("the system is %q, want %s", got, c.want)
			}
		})
	}
}

func TestWrapRefusesWithAWayOut(t *testing.T) {
	x := collect(t)
	broken := x.config()
	broken.MeterProvider = brokenMeters{}
	for name, c := range map[string]struct {
		store session.Store
		cfg   sessionotel.Config
		says  string
	}{
		"no store":         {nil, x.config(), "session.Open"},
		"wrapped twice":    {x.wrap(t, new(session.MemoryStore), nil), x.config(), "wrap it once"},
		"a faulty metrics": {new(session.MemoryStore), broken, "no histograms today"},
	} {
		store, err := sessionotel.Wrap(c.store, c.cfg)
		if err == nil || store != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want no store and an error with %q", name, store, err, c.says)
		}
	}
	if f, err := sessionotel.OnEvent(broken); err == nil || f != nil {
		t.Errorf("OnEvent hides the provider's error: %v", err)
	}
}

var errNoInstrument = errors.New("no histograms today")

type brokenMeters struct{ noop.MeterProvider }

func (brokenMeters) Meter(string, ...metric.MeterOption) metric.Meter { return brokenMeter{} }

type brokenMeter struct{ noop.Meter }

func (brokenMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, errNoInstrument
}

func (brokenMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return nil, errNoInstrument
}
