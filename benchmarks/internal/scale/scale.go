// Package scale fills a store with sessions as a server would over a day, lets
// half of them expire, and watches what that costs those who read meanwhile.
package scale

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/sojourn-go/session/benchmarks"
)

// A Store is one store under test, filled through its own library by a request
// that logs in and sets five values. Sessions are numbered.
type Store interface {
	Create(i int, ttl time.Duration)
	Load(i int) bool
	Close()
}

// Config says how far to go.
type Config struct {
	Sessions int
	Watch    time.Duration // how long each phase is watched; half a sweep's period or more
	Wait     time.Duration // for the memory to come back
}

// A Result is what became of one store.
type Result struct {
	Store           string
	Sessions        int
	BytesPerSession float64
	ObjectsPer      float64
	FullGC          time.Duration // CPU of a forced collection

	Quiet, Expiring Latency
	GivenBack       float64 // the part of the expired half's bytes that is back
	GivenBackAfter  time.Duration
}

// Latency is of Load, over the sessions that live on.
type Latency struct {
	P50, P999, Worst time.Duration
	N                int
}

// blocks is how many instants the ends of the half that expires are spread over.
const blocks = 100

// Run measures the store that open returns. bytesOnly is for one that expires
// nothing. Log gets a line as each phase ends.
func Run(name string, cfg Config, bytesOnly bool, open func(n int) Store, log io.Writer) Result {
	r := Result{Store: name, Sessions: cfg.Sessions}
	samples := make([]time.Duration, 0, 1<<21)
	store := open(cfg.Sessions)
	defer store.Close()
	before := live()

	half := cfg.Sessions / 2
	start := time.Now()
	for i := range half {
		store.Create(i, 12*time.Hour)
	}
	// The full store is measured and watched before the first of the others ends.
	expiry := time.Now().Add(2*time.Since(start) + cfg.Watch + 5*time.Second)
	for b := range blocks {
		end := expiry.Add(cfg.Watch / 2 * time.Duration(b) / blocks)
		for i := half + b*half/blocks; i < half+(b+1)*half/blocks; i++ {
			store.Create(i, max(time.Until(end), time.Second).Truncate(time.Second/4))
		}
	}
	full := live()
	r.BytesPerSession = float64(full.bytes-before.bytes) / float64(cfg.Sessions)
	r.ObjectsPer = float64(full.objects-before.objects) / float64(cfg.Sessions)
	r.FullGC = gcCost()
	fmt.Fprintf(log, "%s: filled in %v, %.0f bytes and %.2f objects a session\n", name, time.Since(start).Round(time.Second), r.BytesPerSession, r.ObjectsPer)
	if bytesOnly {
		return r
	}

	r.Quiet, samples = watch(store, half, cfg.Watch, samples[:0])
	if left := time.Until(expiry); left > 0 {
		time.Sleep(left)
	} else {
		fmt.Fprintf(log, "%s: the first sessions ended %v before they were watched\n", name, -left)
	}
	r.Expiring, samples = watch(store, half, cfg.Watch, samples[:0])
	fmt.Fprintf(log, "%s: p99.9 of Load %v quiet, %v while half expire\n", name, r.Quiet.P999, r.Expiring.P999)

	// From when the last of them ended.
	ended := expiry.Add(cfg.Watch / 2)
	for want := float64(full.bytes-before.bytes) / 2; ; time.Sleep(time.Second) {
		r.GivenBack = float64(full.bytes-live().bytes) / want
		r.GivenBackAfter = time.Since(ended)
		if r.GivenBack >= 0.99 || r.GivenBackAfter > cfg.Wait {
			break
		}
	}
	fmt.Fprintf(log, "%s: %.0f%% of it back after %v\n", name, 100*r.GivenBack, r.GivenBackAfter.Round(time.Second))
	runtime.KeepAlive(samples) // else they would count as given back
	return r
}

// watch loads sessions that live, in a pattern that no cache foresees, with a
// pause after each few so that others get the processor as they would between
// requests.
func watch(store Store, n int, d time.Duration, samples []time.Duration) (Latency, []time.Duration) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for end := time.Now().Add(d); ; {
		for range 64 {
			i := rnd.IntN(n)
			start := time.Now()
			ok := store.Load(i)
			took := time.Since(start)
			if !ok {
				panic("scale: a live session is gone")
			}
			if len(samples) < cap(samples) {
				samples = append(samples, took)
			}
			if start.After(end) {
				return latency(samples), samples
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func latency(samples []time.Duration) Latency {
	slices.Sort(samples)
	n := len(samples)
	return Latency{P50: samples[n/2], P999: samples[n*999/1000], Worst: samples[n-1], N: n}
}

type heap struct{ bytes, objects int64 }

// live is what the heap holds after everything dead was swept out of it.
func live() heap {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap{int64(m.HeapAlloc), int64(m.HeapObjects)}
}

// gcCost is the CPU time of one forced collection of the store as it is.
func gcCost() time.Duration {
	was := benchmarks.CPUTime()
	runtime.GC()
	return benchmarks.CPUTime() - was
}
