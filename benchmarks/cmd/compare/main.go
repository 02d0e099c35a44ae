// Command compare measures every peer in interleaved rounds and writes
// RESULTS.md and its plots. Run it in the module's directory:
//
//	go run ./cmd/compare
//
// It needs redis-server and wrk on the PATH. docs/performance.md says what the
// figures mean.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/sojourn-go/session/benchmarks"
)

// settings say how long everything takes.
type settings struct {
	quick    bool
	rounds   int
	loads    int           // rounds of wrk
	budget   time.Duration // of one measurement in process
	load     time.Duration // of one run of wrk
	requests int           // for what Redis counts
	stored   int           // sessions in Redis when its memory is read
	sessions int           // of the scale program
	watch    time.Duration
	wait     time.Duration
}

var full = settings{
	rounds: 9, loads: 7, budget: 70 * time.Millisecond, load: time.Second,
	requests: 2000, stored: 100_000, sessions: 1_000_000, watch: 21 * time.Second, wait: time.Minute,
}

var quick = settings{
	quick: true, rounds: 1, loads: 1, budget: 20 * time.Millisecond, load: time.Second,
	requests: 100, stored: 2000, sessions: 20_000, watch: 11 * time.Second, wait: 15 * time.Second,
}

// report is everything that RESULTS.md is made of.
type report struct {
	settings
	started time.Time
	redis   string // its version

	inProcess map[cell]series
	trips     map[cell]trip
	http      map[cell]httpSeries
	pipelines []pipelined
	memory    redisMemory
	scale     []scaleRow
	sweep     map[string]float64
}

// cell is one peer doing one thing.
type cell struct {
	lib, store string
	op         benchmarks.Op
}

func main() {
	log.SetFlags(log.Ltime)
	isQuick := flag.Bool("quick", false, "a few minutes' check that everything works; its figures mean nothing")
	out := flag.String("out", ".", "where to write RESULTS.md and the plots")
	rounds := flag.Int("rounds", 0, "how many rounds; 0: nine in process and seven over HTTP")
	serve := flag.String("serve", "", "used by compare itself: serve a peer, lib/store")
	redisAddr := flag.String("redis", "", "used by compare itself: the server of -serve")
	flag.Parse()
	if *serve != "" {
		serveChild(*serve, benchmarks.Env{Redis: *redisAddr})
		return
	}
	s := full
	if *isQuick {
		s = quick
	}
	if *rounds > 0 {
		s.rounds, s.loads = *rounds, *rounds
	}
	if err := run(s, *out); err != nil {
		log.Fatal(err)
	}
}

func run(s settings, out string) error {
	if _, err := os.Stat("cmd/compare"); err != nil {
		return fmt.Errorf("run it in the directory of the benchmarks module: %w", err)
	}
	host := newHost()
	defer host.Close()
	server := host.startRedis()
	r := &report{settings: s, started: time.Now(), redis: server.version()}
	env := benchmarks.Env{Redis: server.Addr}

	log.Print("in process")
	r.inProcess = measureInProcess(s, env, server)
	log.Print("what Redis sees")
	r.trips = measureTrips(s, host, server)
	r.pipelines = measurePipelines(s, server)
	r.memory = measureRedisMemory(s, server)
	log.Print("over HTTP")
	r.http = measureHTTP(s, host, server)
	log.Print("a store of a million")
	r.scale = measureScale(s, host)
	r.sweep = measureSweep(s, host)

	if err := writePlots(r, filepath.Join(out, "plots")); err != nil {
		return err
	}
	log.Printf("done in %v", time.Since(r.started).Round(time.Second))
	return os.WriteFile(filepath.Join(out, "RESULTS.md"), []byte(r.markdown()), 0o644)
}
