package sessionotel_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
	"github.com/sojourn-go/session/sessiontest"
)

var note = session.NewKey[string]("name-of-the-key")

// quiet is for tests that provoke what a manager logs.
var quiet = slog.New(slog.DiscardHandler)

// A tracedSite is a manager of a wrapped store, with a span around each request
// as otelhttp makes one.
type tracedSite struct {
	*telemetry
	sessions *session.Manager
}

func newTracedSite(t *testing.T, store session.Store, timeout time.Duration) *tracedSite {
	t.Helper()
	x := collect(t)
	m, err := session.New(session.Config{Store: x.wrap(t, store, systemNamed("any")), Name: "traced", StoreTimeout: timeout, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return &tracedSite{telemetry: x, sessions: m}
}

// serve answers one request, and returns its span and those of the store calls.
func (s *tracedSite) serve(ctx context.Context, visitor *http.Cookie, handler func(context.Context, *session.Session)) (status int, around trace.SpanContext, calls []tracetest.SpanStub) {
	s.ended.Reset()
	ctx, end := s.request(ctx)
	r := httptest.NewRequest(http.MethodGet, "https://shop.example/", nil).WithContext(ctx)
	if visitor != nil {
		r.AddCookie(visitor)
	}
	w := httptest.NewRecorder()
	s.sessions.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		handler(r.Context(), session.FromContext(r.Context()))
	})).ServeHTTP(w, r)
	end()
	return w.Code, trace.SpanContextFromContext(ctx), s.spans()
}

func spanNames(spans []tracetest.SpanStub) string {
	var names []string
	for _, s := range spans {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// A valuedStore notes which value each call found in its context.
type valuedStore struct {
	session.UserStore
	mu    sync.Mutex
	found []any
}

type valueKey struct{}

func (s *valuedStore) note(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, ctx.Value(valueKey{}))
}

func (s *valuedStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	s.note(ctx)
	return s.UserStore.Load(ctx, id)
}

func (s *valuedStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	s.note(ctx)
	return s.UserStore.Save(ctx, id, prev, next, ttl)
}

func (s *valuedStore) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	s.note(ctx)
	return s.UserStore.Touch(ctx, id, version, ttl)
}

func (s *valuedStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	s.note(ctx)
	return s.UserStore.Delete(ctx, id, version)
}

func (s *valuedStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	s.note(ctx)
	return s.UserStore.Enlist(ctx, list, id, ttl, most)
}

// A request's store calls are in its trace, and their contexts carry its values:
// also those that go on when the client has left (R11).
func TestStoreCallsAreChildrenOfTheRequest(t *testing.T) {
	read := func(_ context.Context, s *session.Session) { _ = note.Get(s) }
	for _, c := range []struct {
		name    string
		visitor func(*session.Session) // nil: none
		later   time.Duration
		handler func(context.Context, *session.Session)
		want    string
	}{
		{"anonymous (R1)", nil, 0, read, ""},
		{"read", func(s *session.Session) { note.Set(s, "a") }, 0, read, "load session"},
		{"first write", nil, 0, func(_ context.Context, s *session.Session) { note.Set(s, "a") }, "save session"},
		{"write", func(s *session.Session) { note.Set(s, "a") }, 0, func(_ context.Context, s *session.Session) { note.Set(s, "b") }, "load session, save session"},
		{"read after a while (R4)", func(s *session.Session) { note.Set(s, "a") }, 10 * time.Minute, read, "load session, touch session"},
		{"login", nil, 0, func(_ context.Context, s *session.Session) { _ = s.Login("alice") }, "save session, enlist session"},
		{"logout", func(s *session.Session) { _ = s.Login("alice") }, 0, func(_ context.Context, s *session.Session) { s.Destroy() }, "load session, delete session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &valuedStore{UserStore: new(session.MemoryStore)}
				site := newTracedSite(t, store, 0)
				var visitor *http.Cookie
				if c.visitor != nil {
					visitor = sessiontest.Cookie(t, site.sessions, c.visitor)
				}
				time.Sleep(c.later)
				store.found = nil

				status, around, calls := site.serve(context.WithValue(t.Context(), valueKey{}, "the request's"), visitor, c.handler)
				if status != http.StatusOK || spanNames(calls) != c.want {
					t.Fatalf("answered %d with the spans %q, want %q", status, spanNames(calls), c.want)
				}
				for _, span := range calls {
					if span.Parent.SpanID() != around.SpanID() || span.SpanContext.TraceID() != around.TraceID() {
						t.Errorf("%q is no child of the request's span", span.Name)
					}
				}
				for i, found := range store.found {
					if found != "the request's" {
						t.Errorf("store call %d found %v in its context", i, found)
					}
				}
				if len(store.found) != len(calls) {
					t.Errorf("%d store calls and %d spans", len(store.found), len(calls))
				}
			})
		})
	}
}

func TestCommitAfterTheClientLeftIsInTheTrace(t *testing.T) {
	site := newTracedSite(t, new(session.MemoryStore), 0)
	visitor := sessiontest.Cookie(t, site.sessions, func(s *session.Session) { note.Set(s, "a") })
	ctx, leave := context.WithCancel(t.Context())
	_, around, calls := site.serve(ctx, visitor, func(_ context.Context, s *session.Session) {
		note.Set(s, "b")
		leave()
	})
	if spanNames(calls) != "load session, save session" {
		t.Fatalf("the spans are %q", spanNames(calls))
	}
	if save := calls[1]; save.Parent.SpanID() != around.SpanID() || save.Status.Code != codes.Unset {
		t.Errorf("the save is %+v, want a child of the request's span that did not fail", save)
	}
}

// A handler that saves inside of a span of its own finds the call under it.
func TestSaveIsAChildOfTheSpanItIsCalledIn(t *testing.T) {
	site := newTracedSite(t, new(session.MemoryStore), 0)
	var own trace.SpanContext
	_, _, calls := site.serve(t.Context(), nil, func(ctx context.Context, s *session.Session) {
		note.Set(s, "a")
		ctx, span := site.traces.Tracer("test").Start(ctx, "checkout")
		defer span.End()
		own = span.SpanContext()
		if err := s.Save(ctx); err != nil {
			t.Error(err)
		}
	})
	if spanNames(calls) != "save session" || calls[0].Parent.SpanID() != own.SpanID() {
		t.Errorf("the spans are %q, want one save under the handler's own span", spanNames(calls))
	}
}

// What a real server's ways to fail look like: the deadline reaches it through
// the wrapper, and the error is told by its kind.
func TestRedisFailuresAreToldByKind(t *testing.T) {
	admin := func(command ...any) func(*redistest.Server) {
		return func(s *redistest.Server) {
			if err := s.Admin().Do(context.Background(), command...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, call, kind string
		fail             func(*redistest.Server)
	}{
		{"away", "load session", "*net.OpError", func(s *redistest.Server) { s.Stop() }},
		{"silent", "load session", "timeout", func(s *redistest.Server) { s.Pause() }},
		{"a replica", "save session", "READONLY", admin("replicaof", "127.0.0.1", "1")},
		{"full", "save session", "OOM", admin("config", "set", "maxmemory", "1")},
		{"forbidding", "load session", "NOPERM", admin("acl", "setuser", "default", "-get")},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Config{})
			store, err := session.Open("redis://" + server.Addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			site := newTracedSite(t, store, 4*time.Second)
			visitor := sessiontest.Cookie(t, site.sessions, func(s *session.Session) { note.Set(s, "a") })
			c.fail(server)
			status, _, calls := site.serve(t.Context(), visitor, func(_ context.Context, s *session.Session) { note.Set(s, "b") })
			if c.name == "silent" {
				server.Resume()
			}
			if status != http.StatusServiceUnavailable {
				t.Fatalf("answered %d with the spans %q", status, spanNames(calls))
			}
			// Not the last one: the manager tries again until its time is over, and on a
			// busy machine what is over then is the last try.
			if !slices.ContainsFunc(calls, func(s tracetest.SpanStub) bool {
				return s.Name == c.call && s.Status.Code == codes.Error && words(s.Attributes)["error.type"] == c.kind
			}) {
				t.Errorf("no %q with the error.type %s: %+v", c.call, c.kind, calls)
			}
		})
	}
}
