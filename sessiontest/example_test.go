package sessiontest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// The unit test of a handler needs neither middleware nor store.
func ExampleContext() {
	cart := session.NewKey[[]string]("cart")
	handler := func(w http.ResponseWriter, r *http.Request) { // the handler under test
		s := session.FromContext(r.Context())
		fmt.Fprintf(w, "%s has %d things in the cart", s.User(), len(cart.Get(s)))
	}

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(sessiontest.Context(r.Context(), func(s *session.Session) {
		if err := s.Login("alice"); err != nil {
			panic(err)
		}
		cart.Set(s, []string{"kettle", "teapot"})
	}))
	w := httptest.NewRecorder()
	handler(w, r)
	fmt.Println(w.Body)
	// Output:
	// alice has 2 things in the cart
}

// What a handler did to the session can be looked at afterwards.
func ExampleContext_afterwards() {
	cart := session.NewKey[[]string]("cart")
	add := func(_ http.ResponseWriter, r *http.Request) { // the handler under test
		cart.Update(session.FromContext(r.Context()), func(items []string) []string { return append(items, "kettle") })
	}

	ctx := sessiontest.Context(context.Background(), nil)
	add(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
	fmt.Println(cart.Get(session.FromContext(ctx)))
	// Output:
	// [kettle]
}

// A test that goes through the middleware begins with a visitor who is logged
// in.
func ExampleCookie() {
	sessions, err := session.New(session.Config{})
	if err != nil {
		panic(err)
	}
	site := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "Hello, ", session.FromContext(r.Context()).User())
	}))

	t := new(testing.T) // the test's own
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(sessiontest.Cookie(t, sessions, func(s *session.Session) {
		if err := s.Login("alice"); err != nil {
			t.Fatal(err)
		}
	}))
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output:
	// Hello, alice
}
