package main

import (
	"context"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/benchmarks"
	"github.com/sojourn-go/session/internal/redistest"
)

// A trip is what one request means to Redis.
type trip struct {
	commands []string // as sent, in order
	trips    float64
	exec     float64 // microseconds that the server spent executing them
	cpu      float64 // microseconds of its processor, reading and writing included
}

// measureTrips counts commands and round trips through a proxy, and the server's
// time without it.
func measureTrips(s settings, h *host, server *redisServer) map[cell]trip {
	proxy := redistest.StartProxy(h, server.Addr)
	all := make(map[cell]trip)
	for _, peer := range append(benchmarks.Floors[len(benchmarks.Floors)-2:], benchmarks.Peers...) {
		if peer.Store != "redis" {
			continue
		}
		for _, op := range benchmarks.Ops {
			if op == benchmarks.OpMix || !peer.Has(op) {
				continue
			}
			server.flush()
			t := countTrips(peer, op, proxy)
			server.flush()
			timeTrips(s, peer, op, server, &t)
			all[cell{peer.Lib, peer.Store, op}] = t
		}
	}
	return all
}

func countTrips(peer benchmarks.Peer, op benchmarks.Op, proxy *redistest.Proxy) trip {
	app, err := peer.Open(benchmarks.Env{Redis: proxy.Addr})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	const n = 10
	next := app.Requests(op, 2*n)
	for range n { // connections are made, scripts are known
		next()
	}
	proxy.Reset()
	for range n {
		next()
	}
	commands := proxy.Commands()
	return trip{commands: commands[:len(commands)/n], trips: float64(proxy.RoundTrips()) / n}
}

func timeTrips(s settings, peer benchmarks.Peer, op benchmarks.Op, server *redisServer, t *trip) {
	app, err := peer.Open(benchmarks.Env{Redis: server.Addr})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	next := app.Requests(op, s.requests)
	server.do("CONFIG", "RESETSTAT")
	before := server.cpu()
	for range s.requests {
		next()
	}
	t.cpu = float64((server.cpu() - before).Nanoseconds()) / 1e3 / float64(s.requests)
	// What a script calls is counted on its own and within the script: only what
	// the client sent is summed up.
	sent := make(map[string]bool)
	for _, name := range t.commands {
		sent[strings.ToLower(name)] = true
	}
	for name, stat := range server.CommandStats() {
		if sent[name] {
			t.exec += float64(stat.Calls) * stat.Microseconds / float64(s.requests)
		}
	}
}

// redisMemory is what sessions take in the server.
type redisMemory struct {
	perSession float64
	perGiB     float64
}

func measureRedisMemory(s settings, server *redisServer) redisMemory {
	server.flush()
	peer := benchmarks.Find("sojourn", "redis")
	app, err := peer.Open(benchmarks.Env{Redis: server.Addr})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	app.LogIn(1)
	before := server.usedMemory()
	app.LogIn(s.stored)
	each := float64(server.usedMemory()-before) / float64(s.stored)
	server.flush()
	return redisMemory{each, (1 << 30) / each}
}

// pipelined is the throughput of one way to use the client.
type pipelined struct {
	name, op   string
	perSecond  float64
	appMicros  float64
	redisCPU   float64
	goroutines int
}

// autoClient lets NewRedisStore see the options of the client beneath an
// autopipeliner, which has no such method itself.
type autoClient struct {
	*redis.AutoPipeliner
	options *redis.Options
}

func (c autoClient) Options() *redis.Options { return c.options }

// measurePipelines compares go-redis's automatic pipelining with plain use, on
// the store, 32 goroutines at a time.
func measurePipelines(s settings, server *redisServer) []pipelined {
	modes := []struct {
		name string
		auto *redis.AutoPipelineOptions
	}{
		{"plain", nil},
		{"AutoPipeline", redis.DefaultBlockingAutoPipelineOptions()},
		{"AutoPipeline, FullDuplex", &redis.AutoPipelineOptions{FullDuplex: true}},
	}
	var all []pipelined
	for _, op := range []string{"Load", "Save"} {
		rounds := make([][]pipelined, len(modes))
		for range s.rounds {
			for i, mode := range modes {
				rounds[i] = append(rounds[i], pipeline(s, server, mode.name, mode.auto, op))
			}
		}
		for _, r := range rounds {
			all = append(all, middle(r))
		}
	}
	return all
}

// middle is the round with the median throughput.
func middle(r []pipelined) pipelined {
	values := make([]float64, len(r))
	for i := range r {
		values[i] = r[i].perSecond
	}
	best, want := r[0], median(values)
	for _, p := range r {
		if abs(p.perSecond-want) < abs(best.perSecond-want) {
			best = p
		}
	}
	return best
}

func abs(x float64) float64 { return max(x, -x) }

func pipeline(s settings, server *redisServer, name string, auto *redis.AutoPipelineOptions, op string) pipelined {
	server.flush()
	plain := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, PoolSize: 32})
	defer plain.Close()
	var client redis.UniversalClient = plain
	if auto != nil {
		ap, err := plain.AutoPipelineWithOptions(auto)
		if err != nil {
			log.Fatal(err)
		}
		defer ap.Close()
		client = autoClient{ap, plain.Options()}
	}
	store, err := session.NewRedisStore(client, session.RedisConfig{})
	if err != nil {
		log.Fatal(err)
	}
	const workers = 32
	p := pipelined{name: name, op: op, goroutines: workers}
	run := func(d time.Duration) (n int) {
		var wg sync.WaitGroup
		counts := make([]int, workers)
		for w := range workers {
			wg.Go(func() { counts[w] = storeLoop(store, op, d) })
		}
		wg.Wait()
		for _, c := range counts {
			n += c
		}
		return n
	}
	run(s.budget / 4)
	cpu, redisCPU, start := benchmarks.CPUTime(), server.cpu(), time.Now()
	n := float64(run(2 * s.budget))
	p.perSecond = n / time.Since(start).Seconds()
	p.appMicros = float64((benchmarks.CPUTime() - cpu).Nanoseconds()) / 1e3 / n
	p.redisCPU = float64((server.cpu() - redisCPU).Nanoseconds()) / 1e3 / n
	return p
}

// storeLoop is one goroutine with a session of its own.
func storeLoop(store session.Store, op string, d time.Duration) (n int) {
	ctx, id := context.Background(), uuid.New()
	rec := session.Record{Version: 1, Owner: "42", Data: make([]byte, 400)}
	if _, err := store.Save(ctx, id, 0, rec, time.Hour); err != nil {
		log.Fatal(err)
	}
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		var err error
		if op == "Load" {
			_, err = store.Load(ctx, id)
		} else {
			rec.Version++
			_, err = store.Save(ctx, id, rec.Version-1, rec, time.Hour)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	return n
}
