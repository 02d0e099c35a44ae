package sessionotel

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/sojourn-go/session"
)

const (
	scope     = "github.com/sojourn-go/session/sessionotel"
	schemaURL = semconv.SchemaURL
)

// What the conventions have no name for is under a name of ours. session.* is
// theirs, and means the sessions of client applications.
const (
	keyOutcome   = attribute.Key("sojourn.store.outcome")
	keySessionID = attribute.Key("sojourn.session.id")
	keyEventKind = attribute.Key("sojourn.session.event.kind")
)

// What a call came to. A record that is gone or that changed is an answer like
// any other: the Manager asked whether it is (C1).
var (
	outcomeOK       = keyOutcome.String("ok")
	outcomeNotFound = keyOutcome.String("not_found")
	outcomeConflict = keyOutcome.String("conflict")
	outcomeError    = keyOutcome.String("error")
)

// boundaries are those that the conventions recommend, in seconds.
var boundaries = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

// operations names the calls of a store: db.operation.name, and what the call is
// about. Together they are the span's name.
var operations = [...]struct{ name, target string }{
	opLoad:     {"load", "session"},
	opSave:     {"save", "session"},
	opTouch:    {"touch", "session"},
	opDelete:   {"delete", "session"},
	opEnlist:   {"enlist", "session"},
	opList:     {"list", "sessions"},
	opCutOff:   {"cut_off", "sessions"},
	opEnd:      {"end", "sessions"},
	opLoadAll:  {"load_all", "sessions"},
	opVersions: {"versions", "sessions"},
}

const (
	opLoad = iota
	opSave
	opTouch
	opDelete
	opEnlist
	opList
	opCutOff
	opEnd
	opLoadAll
	opVersions
)

// instruments measure the calls to one store.
type instruments struct {
	tracer     trace.Tracer
	duration   metric.Float64Histogram
	sessionIDs bool
	operations [len(operations)]operation
}

// An operation is what all calls of one name have in common, made once, because
// attributes that are made for each call are most of what telemetry costs.
type operation struct {
	spanName   string
	attributes []attribute.KeyValue // of the span and of the metric
	begin      []trace.SpanStartOption
	ok         answer
	notFound   answer
	conflict   answer
}

// An answer is how a call ends that did not fail.
type answer struct {
	span   []attribute.KeyValue
	metric []metric.RecordOption
}

func newInstruments(cfg Config) (*instruments, error) {
	duration, err := dbconv.NewClientOperationDuration(cfg.meter(), metric.WithExplicitBucketBoundaries(boundaries...))
	if err != nil {
		return nil, err
	}
	in := &instruments{tracer: cfg.tracer(), duration: duration.Inst(), sessionIDs: cfg.SessionIDs}
	for i, o := range operations {
		in.operations[i] = newOperation(cfg.System, o.name, o.target)
	}
	return in, nil
}

func newOperation(system, name, target string) operation {
	spanName := name + " " + target
	attributes := []attribute.KeyValue{semconv.DBSystemNameKey.String(system), semconv.DBOperationName(name)}
	answer := func(outcome attribute.KeyValue) answer {
		set := attribute.NewSet(append(attributes, outcome)...)
		return answer{
			span:   []attribute.KeyValue{outcome},
			metric: []metric.RecordOption{metric.WithAttributeSet(set)},
		}
	}
	return operation{
		spanName:   spanName,
		attributes: attributes[:2:2],
		begin: []trace.SpanStartOption{
			trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(append(attributes, semconv.DBQuerySummary(spanName))...),
		},
		ok:       answer(outcomeOK),
		notFound: answer(outcomeNotFound),
		conflict: answer(outcomeConflict),
	}
}

// A call is one that is under way.
type call struct {
	in    *instruments
	op    *operation
	ctx   context.Context
	span  trace.Span // nil: there is no trace to be a part of
	began time.Time
}

// begin starts a span, if there is a trace that it can be a part of: without one,
// the poll of open streams would be a trace of its own each second (Session.Done).
// The store is to be called with the call's ctx. id is uuid.Nil if the call is
// about more sessions than one.
func (in *instruments) begin(ctx context.Context, op int, id uuid.UUID) call {
	c := call{in: in, op: &in.operations[op], ctx: ctx}
	if trace.SpanContextFromContext(ctx).IsValid() {
		c.ctx, c.span = in.tracer.Start(ctx, c.op.spanName, c.op.begin...)
		if in.sessionIDs && id != uuid.Nil && c.span.IsRecording() {
			c.span.SetAttributes(keySessionID.String(id.String()))
		}
	}
	c.began = time.Now()
	return c
}

// end measures the call. The metric is recorded while the span is the context's,
// so that an exemplar can lead from one to the other.
func (c *call) end(err error) {
	seconds := time.Since(c.began).Seconds()
	switch {
	case err == nil:
		c.answered(&c.op.ok, seconds)
	case errors.Is(err, session.ErrNotFound):
		c.answered(&c.op.notFound, seconds)
	case errors.Is(err, session.ErrConflict):
		c.answered(&c.op.conflict, seconds)
	default:
		c.failed(err, seconds)
	}
	if c.span != nil {
		c.span.End()
	}
}

func (c *call) answered(a *answer, seconds float64) {
	c.in.duration.Record(c.ctx, seconds, a.metric...)
	if c.span != nil {
		c.span.SetAttributes(a.span...)
	}
}

// failed says of what kind the error is, and never what it says: the text of
// another's store may quote a user or a value.
func (c *call) failed(err error, seconds float64) {
	why := append(failure(err), outcomeError)
	c.in.duration.Record(c.ctx, seconds, metric.WithAttributes(append(why, c.op.attributes...)...))
	if c.span != nil {
		c.span.SetAttributes(why...)
		c.span.SetStatus(codes.Error, "")
	}
}
