package benchmarks

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"time"
)

var redisContext = context.Background()

// Op is what is measured.
type Op string

// The scenarios. Untouched, read, write and mix go round 1,024 sessions of five
// values; login, renew and logout happen once to each session.
const (
	OpAnonymous Op = "anonymous" // no cookie, the handler does not use the session
	OpUntouched Op = "untouched" // a cookie, the handler does not use the session
	OpRead      Op = "read"
	OpWrite     Op = "write"
	OpLogin     Op = "login" // of a visitor who had an anonymous session
	OpRenew     Op = "renew"
	OpLogout    Op = "logout"
	OpMix       Op = "mix" // nine reads to a write, on all cores
)

// Ops are all scenarios in the order of the tables.
var Ops = []Op{OpAnonymous, OpUntouched, OpRead, OpWrite, OpLogin, OpRenew, OpLogout, OpMix}

// Has reports whether p serves op: floors serve few.
func (p Peer) Has(op Op) bool {
	switch p.Lib {
	case "floor-map", "floor-get", "floor-getset":
		return op == OpRead || op == OpWrite
	case "floor-bare", "floor-gin", "floor-echo", "floor-fiber":
		return op == OpAnonymous
	}
	return true
}

var paths = map[Op]string{
	OpAnonymous: Plain, OpUntouched: Plain, OpRead: Read, OpWrite: Write, OpLogin: Login, OpRenew: Renew, OpLogout: Logout,
}

// Sessions is how many visitors take turns.
const Sessions = 1024

// A Sample is what one measurement found, for N requests.
type Sample struct {
	N      int
	CPU    time.Duration // of this process, in user and system mode
	Wall   time.Duration
	Allocs uint64
	Bytes  uint64
}

// NsPerOp is the CPU time of one request in nanoseconds.
func (s Sample) NsPerOp() float64 { return float64(s.CPU) / float64(s.N) }

// AllocsPerOp is the number of allocations of one request.
func (s Sample) AllocsPerOp() float64 { return float64(s.Allocs) / float64(s.N) }

// BytesPerOp is what one request allocates.
func (s Sample) BytesPerOp() float64 { return float64(s.Bytes) / float64(s.N) }

func (s *Sample) add(o Sample) {
	s.N, s.CPU, s.Wall, s.Allocs, s.Bytes = s.N+o.N, s.CPU+o.CPU, s.Wall+o.Wall, s.Allocs+o.Allocs, s.Bytes+o.Bytes
}

// CPUTime is what this process has used of the processors so far: on a machine
// that others use too it says more than the clock on the wall. It includes the
// garbage collector's share.
func CPUTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed measures f, which does n requests.
func timed(n int, f func()) Sample {
	var before, after runtime.MemStats
	runtime.GC() // what was set up is not f's to clean up
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), CPUTime()
	f()
	cpu, wall := CPUTime()-cpu, time.Since(start)
	runtime.ReadMemStats(&after)
	return Sample{N: n, CPU: cpu, Wall: wall, Allocs: after.Mallocs - before.Mallocs, Bytes: after.TotalAlloc - before.TotalAlloc}
}

// Measure runs op on an application of p for about budget.
func (p Peer) Measure(env Env, op Op, budget time.Duration) (Sample, error) {
	app, err := p.Open(env)
	if err != nil {
		return Sample{}, err
	}
	defer app.Close()
	switch op {
	case OpLogin, OpRenew, OpLogout:
		return measureOnce(app, op, budget), nil
	case OpMix:
		return measureMix(app, budget), nil
	}
	return measureRound(app, op, budget), nil
}

// LogIn returns the cookies of n visitors, each with the five values.
func (a *App) LogIn(n int) []string { return a.begin(n, Login) }

func (a *App) begin(n int, path string) []string {
	c, cookies := a.NewClient(), make([]string, n)
	for i := range cookies {
		c.Do(path, "")
		cookies[i] = c.Cookie("")
	}
	return cookies
}

// measureRound sends the same request for one session after the other.
func measureRound(app *App, op Op, budget time.Duration) Sample {
	cookies := []string{""}
	if op != OpAnonymous {
		cookies = app.LogIn(Sessions)
	}
	c, path := app.NewClient(), paths[op]
	next := 0
	run := func(n int) {
		for range n {
			c.Do(path, cookies[next])
			if next++; next == len(cookies) {
				next = 0
			}
		}
	}
	n := calibrate(budget, run)
	return timed(n, func() { run(n) })
}

// calibrate finds how many requests fit into budget. That takes a half of it or more,
// so that a heap is as large as it is going to be, and caches hold what they will.
func calibrate(budget time.Duration, run func(n int)) int {
	for n := 64; ; n *= 2 {
		start := time.Now()
		run(n)
		if took := time.Since(start); took > budget/4 {
			return max(1, int(float64(n)*float64(budget)/float64(took)))
		}
	}
}

// onceBatch is how many sessions are prepared for requests that end what they
// are sent with.
const onceBatch = 1024

func measureOnce(app *App, op Op, budget time.Duration) Sample {
	begin := Login
	if op == OpLogin {
		begin = Visit
	}
	var sum Sample
	c, path := app.NewClient(), paths[op]
	for start := time.Now(); sum.Wall < budget && time.Since(start) < 4*budget || sum.N == 0; {
		cookies := app.begin(onceBatch, begin)
		sum.add(timed(len(cookies), func() {
			for _, cookie := range cookies {
				c.Do(path, cookie)
			}
		}))
	}
	return sum
}

func measureMix(app *App, budget time.Duration) Sample {
	cookies := app.LogIn(Sessions)
	workers := runtime.GOMAXPROCS(0)
	run := func(n int) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				c, rnd := app.NewClient(), rand.New(rand.NewPCG(uint64(w), 1))
				for range n / workers {
					path := Read
					if rnd.IntN(10) == 0 {
						path = Write
					}
					c.Do(path, cookies[rnd.IntN(len(cookies))])
				}
			})
		}
		wg.Wait()
	}
	n := calibrate(budget, run) / workers * workers
	return timed(n, func() { run(n) })
}

// Requests prepares n requests of op and returns the function that sends the
// next of them.
func (a *App) Requests(op Op, n int) (next func()) {
	cookies := []string{""}
	switch op {
	case OpAnonymous:
	case OpLogin:
		cookies = a.begin(n, Visit)
	case OpRenew, OpLogout:
		cookies = a.LogIn(n)
	default:
		cookies = a.LogIn(min(n, Sessions))
	}
	c, path, i := a.NewClient(), paths[op], 0
	return func() {
		c.Do(path, cookies[i%len(cookies)])
		i++
	}
}

// PathOf is the path that op asks for.
func PathOf(op Op) string { return paths[op] }
