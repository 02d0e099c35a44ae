package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sojourn-go/session"
)

// count is what visitors would miss.
var count = session.NewKey[int]("count")

const (
	sessionCookie = "cluster-sid"

	// drainTime bounds the handing over of a server that leaves.
	drainTime = 10 * time.Second
	// noticeTime is how long a server that leaves goes on answering after its
	// health turned, so that the balancer, which asks every checkInterval, sends
	// nobody any more when the door closes.
	noticeTime = 5 * checkInterval
)

// An answer is what the application says about a visitor.
type answer struct {
	Server  string    `json:"server"`
	User    string    `json:"user"`
	Count   int       `json:"count"`
	ID      string    `json:"id"` // the beginning of the session's, which opens nothing
	Created time.Time `json:"created"`
}

// figures are what a server says about itself.
type figures struct {
	Requests int64 `json:"requests"`
	Sessions int   `json:"sessions"` // in its memory
	CPU      int64 `json:"cpu"`      // microseconds since it started
}

// An app is one of the servers: it has visitors with sessions, and knows nothing
// of the other servers.
type app struct {
	name     string
	sessions *session.Manager
	keep     *keep
	requests atomic.Int64
}

// runApp is the program in the role of a server. It ends when it is asked to, and
// when its standard input does, which the fleet holds open.
func runApp(args []string) error {
	flags := flag.NewFlagSet("app", flag.ContinueOnError)
	name := flags.String("name", "A", "what the balancer calls this server")
	chosen := flags.String("way", string(stickyMemory), "how it keeps sessions: memory, drain or redis")
	url := flags.String("redis", "", "the Redis for drain and redis, as session.Open takes it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	keep, err := openKeep(way(*chosen), *url)
	if err != nil {
		return err
	}
	a := &app{name: *name, keep: keep}
	a.sessions, err = session.New(session.Config{
		Store: keep.store,
		Name:  "cluster",
		// InsecureHTTP because this program speaks plain http. A site on https leaves
		// Cookie out.
		Cookie: session.Cookie{Name: sessionCookie, InsecureHTTP: true},
	})
	if err != nil {
		return err
	}
	return a.serve()
}

func (a *app) serve() error {
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // whoever started this server is gone
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	fmt.Printf("Listening on http://%s/\n", l.Addr())
	<-stop.Done()
	return a.leave(server)
}

// leave is the order in which a server goes without losing anything: hand over,
// tell the balancer, answer what still comes, close.
func (a *app) leave(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err := a.keep.leave(ctx)
	time.Sleep(noticeTime)
	server.SetKeepAlivesEnabled(false)
	return errors.Join(err, server.Shutdown(ctx), a.sessions.Close(ctx), a.keep.close())
}

func (a *app) routes() http.Handler {
	visited := http.NewServeMux()
	visited.HandleFunc("GET /me", a.me)
	visited.HandleFunc("POST /login", a.login)
	visited.HandleFunc("POST /logout", a.logout)
	visited.HandleFunc("POST /count", a.count)
	withSession := a.sessions.Handler(visited)

	mux := http.NewServeMux()
	mux.Handle("GET /health", a.keep.health)
	mux.HandleFunc("GET /figures", a.figures)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.requests.Add(1)
		withSession.ServeHTTP(w, r)
	})
	return mux
}

func (a *app) me(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, http.StatusOK)
}

// login believes whoever says a name, because this program is about sessions:
// examples/login has the passwords.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.PostFormValue("user"))
	if user == "" || len(user) > 40 {
		http.Error(w, "A name has 1 to 40 letters.", http.StatusBadRequest)
		return
	}
	if err := session.FromContext(r.Context()).Login(user); err != nil {
		log.Print(err)
		http.Error(w, "You could not be logged in.", http.StatusInternalServerError)
		return
	}
	a.answer(w, r, http.StatusOK)
}

func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	session.FromContext(r.Context()).Destroy()
	a.answer(w, r, http.StatusOK)
}

// count is for users only, so that somebody who was logged out hears of it.
func (a *app) count(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	if s.User() == "" {
		a.answer(w, r, http.StatusUnauthorized)
		return
	}
	if _, err := count.UpdateNow(r.Context(), s, func(n int) int { return n + 1 }); err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "It could not be counted. Try again.", http.StatusServiceUnavailable)
		return
	}
	a.answer(w, r, http.StatusOK)
}

// answer goes to programs as it is; people are sent to the page, which asks for
// it.
func (a *app) answer(w http.ResponseWriter, r *http.Request, status int) {
	if r.Method == http.MethodPost && r.Header.Get("Accept") != "application/json" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	got := answer{Server: a.name}
	if s := session.FromContext(r.Context()); s.User() != "" {
		got.User, got.Count, got.ID, got.Created = s.User(), count.Get(s), s.ID().String()[:8], s.Created()
	}
	writeJSON(w, status, got)
}

func (a *app) figures(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, figures{a.requests.Load(), a.keep.sessions(), cpuMicroseconds()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
