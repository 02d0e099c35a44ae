package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/sojourn-go/session"
)

// A readiness probe that keeps sending visitors while sessions can be read.
func ExampleManager_Ready() {
	sessions := must(session.New(session.Config{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		switch err := sessions.Ready(r.Context()); {
		case err == nil:
			io.WriteString(w, "ready")
		case errors.Is(err, session.ErrDegraded):
			log.Print(err)
			io.WriteString(w, "degraded")
		default:
			log.Print(err)
			http.Error(w, "down", http.StatusServiceUnavailable)
		}
	})

	browser := openBrowser(mux)
	browser.get("/ready")
	// Output:
	// /ready 200 ready
}

// Close comes after the server's Shutdown and before the store's Close. Here a
// request comes all the same: what it reads is there, what it changes is refused.
func ExampleManager_Close() {
	store := must(session.Open("memory:"))
	sessions := must(session.New(session.Config{Store: store, Name: "shop"}))
	visits := session.NewKey[int]("visits")
	mux := http.NewServeMux()
	mux.HandleFunc("/count", func(_ http.ResponseWriter, r *http.Request) {
		visits.Update(session.FromContext(r.Context()), func(n int) int { return n + 1 })
	})
	mux.HandleFunc("/show", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "visits: ", visits.Get(session.FromContext(r.Context())))
	})
	server := &http.Server{Handler: sessions.Handler(mux)}

	browser := openBrowser(server.Handler)
	browser.get("/count")
	ctx := context.Background() // with a time-out, in a program that has to end
	fmt.Println(errors.Join(server.Shutdown(ctx), sessions.Close(ctx)))
	browser.get("/count")
	browser.get("/show")
	fmt.Println(store.Close())
	// Output:
	// /count 200
	// <nil>
	// /count 503 Sessions are not available at the moment. Try again soon.
	// /show 200 visits: 1
	// <nil>
}

// Counters are an expvar.Var: expvar.Publish("sessions", &counters) puts them on
// the page /debug/vars.
func ExampleCounters() {
	var counters session.Counters
	sessions := must(session.New(session.Config{OnEvent: counters.Observe}))
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	fmt.Println(&counters)
	// Output:
	// /login 200
	// {"events":{"created":1,"login":1},"calls":{}}
}
