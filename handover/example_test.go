package handover_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

// A server behind a sticky balancer that checks GET /health every two seconds and
// takes a server for gone after three failures. SIGTERM makes it leave; nobody is
// logged out.
func Example() {
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	const (
		drainWithin  = 30 * time.Second
		balancerSees = 3*2*time.Second + time.Second // fall times interval, and what is on its way
		stopWithin   = 20 * time.Second
	)
	shared, err := session.Open(os.Getenv("SESSION_STORE")) // redis://...
	if err != nil {
		return err
	}
	store := handover.New(new(session.MemoryStore), shared)
	sessions, err := session.New(session.Config{Store: store, Name: "shop"})
	if err != nil {
		return err
	}
	visits := session.NewKey[int]("visits")
	shop := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		visits.Update(session.FromContext(r.Context()), func(n int) int { return n + 1 })
	})
	mux := http.NewServeMux()
	mux.Handle("GET /health", store.Health())
	mux.Handle("/", sessions.Handler(shop))
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	term, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-term.Done():
		stop() // a second signal ends the program at once
	}

	// Sessions go first, while requests are served as ever.
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	report, drained := handOver(ctx, store)
	log.Printf("handed over: %d sessions in %v, %d left", report.Moved, report.Took, report.Left)

	// Health says 503 from now on. Until the balancer has noticed, visitors come
	// here, and are served from the shared store.
	if drained == nil {
		time.Sleep(balancerSees)
	}
	ctx, cancel = context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return errors.Join(
		drained,
		server.Shutdown(ctx), // no more requests
		sessions.Close(ctx),  // no more commits
		shared.Close(),       // no more connections
	)
}

// handOver drains and tells each second how far it has come.
func handOver(ctx context.Context, store *handover.Store) (report handover.Report, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = store.Drain(ctx)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return report, err
		case <-tick.C:
			fmt.Printf("handing over, %+v\n", store.Progress())
		}
	}
}
