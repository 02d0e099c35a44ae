package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/sojourn-go/session"
)

// The first of several servers behind nginx, whose configuration reads the cookie
// and knows the server as a.
func ExampleAffinity() {
	sessions := must(session.New(session.Config{
		Affinity: session.Affinity{Server: "a"},
	}))
	login := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "not now", http.StatusInternalServerError)
		}
	}))

	w := httptest.NewRecorder()
	login.ServeHTTP(w, httptest.NewRequest("POST", "/login", nil))
	fmt.Println(w.Header()["Set-Cookie"][1])
	// Output: server=a; Path=/; HttpOnly; Secure; SameSite=Lax
}
