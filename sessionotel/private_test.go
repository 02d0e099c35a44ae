package sessionotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessionotel"
	"github.com/sojourn-go/session/sessiontest"
)

// everything is all that the providers were given, as text.
func (x *telemetry) everything(t *testing.T) (spans, metrics string) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := x.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	m, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v", x.ended.GetSpans()), string(m)
}

// No call tells a user, a value or the name of a list, be it in an error of the
// store's, and none the session's ID unless asked to; and then the spans alone.
func TestNothingPrivateIsTold(t *testing.T) {
	for _, withIDs := range []bool{false, true} {
		t.Run(fmt.Sprintf("SessionIDs %v", withIDs), func(t *testing.T) {
			for _, says := range []error{nil, quoting{}, errors.New("of " + theID.String() + " on name-of-the-list"), redisSays("ERR value-of-it")} {
				for _, c := range storeCalls {
					x := collect(t)
					ctx, end := x.request(t.Context())
					store := x.wrap(t, &answering{err: says}, func(cfg *sessionotel.Config) { cfg.System, cfg.SessionIDs = "any", withIDs })
					_ = c.call(ctx, store.(session.UserStore))
					end()
					spans, metrics := x.everything(t)
					for _, private := range []string{"owner-of-it", "value-of-it", theList} {
						if strings.Contains(spans+metrics, private) {
							t.Errorf("%s, answered with %v, tells %s: %s %s", c.operation, says, private, spans, metrics)
						}
					}
					if strings.Contains(metrics, theID.String()) {
						t.Errorf("%s tells the metric an ID: %s", c.operation, metrics)
					}
					if told, want := strings.Contains(spans, theID.String()), withIDs && c.aboutOne; told != want {
						t.Errorf("%s tells the ID: %v, want %v: %s", c.operation, told, want, spans)
					}
					if id := words(x.span(t).Attributes)["sojourn.session.id"]; withIDs && c.aboutOne && id != theID.String() {
						t.Errorf("%s: sojourn.session.id is %q", c.operation, id)
					}
				}
			}
		})
	}
}

// The same of a whole visit, through a manager: no token, no user, no value.
func TestNothingOfAVisitIsTold(t *testing.T) {
	x := collect(t)
	onEvent, err := sessionotel.OnEvent(x.config())
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(session.Config{Store: x.wrap(t, new(session.MemoryStore), nil), Name: "private", OnEvent: onEvent})
	if err != nil {
		t.Fatal(err)
	}
	site := &tracedSite{telemetry: x, sessions: sessions}
	var id uuid.UUID
	visitor := sessiontest.Cookie(t, sessions, func(s *session.Session) {
		_ = s.Login("user-of-it")
		note.Set(s, "value-of-it")
		id = s.ID()
	})
	site.serve(t.Context(), visitor, func(_ context.Context, s *session.Session) { note.Set(s, "other-value") })
	site.serve(t.Context(), visitor, func(_ context.Context, s *session.Session) { s.Destroy() })
	site.serve(t.Context(), visitor, func(_ context.Context, s *session.Session) { _ = note.Get(s) }) // an unknown token
	spans, metrics := x.everything(t)
	for _, kind := range []string{"login", "destroyed", "unknown_token"} {
		if !strings.Contains(metrics, kind) {
			t.Errorf("the visit made no %s: %s", kind, metrics)
		}
	}
	for _, private := range []string{visitor.Value, visitor.Value[len(visitor.Value)/2:], id.String(), "user-of-it", "value-of-it", "other-value", "name-of-the-key"} {
		if strings.Contains(spans+metrics, private) {
			t.Errorf("the telemetry tells %q", private)
		}
	}
}
