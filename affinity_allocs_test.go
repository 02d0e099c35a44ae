//go:build !race

package session_test

import (
	"net/http"
	"testing"

	"github.com/sojourn-go/session"
)

// A visitor who is where the cookie says costs no allocation more than without an
// Affinity.
func TestAffinityThatMatchesAllocatesNothing(t *testing.T) {
	count := func(a session.Affinity, cookie string) float64 {
		m := newManager(t, session.Config{Affinity: a})
		visitor := allocVisitor(t, m, allocLogin)
		visitor.Set("Cookie", visitor.Get("Cookie")+cookie)
		handler := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = allocEmail.Get(session.FromContext(r.Context()))
			w.WriteHeader(http.StatusOK)
		}))
		w := &allocWriter{header: http.Header{}}
		return testing.AllocsPerRun(200, func() {
			clear(w.header)
			handler.ServeHTTP(w, &http.Request{Method: http.MethodGet, Header: visitor})
			if w.header["Set-Cookie"] != nil {
				t.Fatal("the visitor was taken for one who moved")
			}
		})
	}
	without := count(session.Affinity{}, "; other=1; server=a")
	with := count(session.Affinity{Server: "a"}, "; other=1; server=a")
	if with != without {
		t.Errorf("%v allocations with an Affinity that matches, %v without one", with, without)
	}
}
