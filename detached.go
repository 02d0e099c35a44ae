package session

import (
	"context"
	"net/http"

	"github.com/sojourn-go/session/internal/detached"
)

func init() { detached.New = newDetached }

// newDetached serves sessiontest.Context: a session as a handler would find it,
// on a manager and a store of its own.
func newDetached(ctx context.Context, prepare func(context.Context)) context.Context {
	// A name that no Manager in the tested handler has (R13): this cookie goes nowhere.
	m, err := New(Config{Cookie: Cookie{Name: "sessiontest"}})
	if err != nil {
		panic(err)
	}
	r := new(http.Request).WithContext(ctx)
	x := newExchange(m, noResponse{}, r)
	if prepare == nil {
		return x
	}
	prepare(x)
	s := x.use()
	if err := s.Save(ctx); err != nil {
		panic(err)
	}
	next := newExchange(m, noResponse{}, r)
	if s.base.exists() {
		next.use().present(s.base, live, s.left, s.loaded)
	}
	return next
}

// noResponse is the response of a session without a request.
type noResponse struct{}

func (noResponse) Header() http.Header         { return http.Header{} }
func (noResponse) Write(b []byte) (int, error) { return len(b), nil }
func (noResponse) WriteHeader(int)             {}
