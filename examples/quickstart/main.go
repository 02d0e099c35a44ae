// Quickstart counts a visitor's visits. The page says what was committed, so the
// count is exact however fast one clicks, and on however many servers.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sojourn-go/session"
)

var visits = session.NewKey[int]("visits")

func main() {
	addr := flag.String("addr", "localhost:8080", "listen on this address")
	url := flag.String("store", cmp.Or(os.Getenv("SESSION_STORE"), "memory:"), "keep sessions here: memory: or, for example, redis://localhost:6379")
	flag.Parse()

	store, err := session.Open(*url)
	exitOn(err)
	defer store.Close()
	// InsecureHTTP because this program speaks plain http, and not every client
	// keeps a Secure cookie from there, not even from localhost. A site on https
	// leaves Cookie out.
	sessions, err := session.New(session.Config{Store: store, Name: "quickstart", Cookie: session.Cookie{InsecureHTTP: true}})
	exitOn(err)

	kind, _, _ := strings.Cut(*url, ":") // the rest may hold a password
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		n, err := visits.UpdateNow(r.Context(), session.FromContext(r.Context()), func(n int) int { return n + 1 })
		if err != nil {
			log.Print(err)
			http.Error(w, "The visit could not be counted. Try again.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "Visit %d, kept in %s.\n", n, kind)
	})
	exitOn(serve(*addr, sessions.Handler(mux)))
}

// serve answers until the program is asked to stop, and lets running requests end.
func serve(addr string, h http.Handler) error {
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Listening on http://%s/\n", l.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	<-stop.Done()
	// Longer than the 5 seconds that net/http gives connections without a request.
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

func exitOn(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
