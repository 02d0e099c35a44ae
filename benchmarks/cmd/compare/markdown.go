package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sojourn-go/session/benchmarks"
)

// page is markdown on its way.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) row(cells ...string) { p.line("| %s |", strings.Join(cells, " | ")) }

// header begins a table. The first column is text, the others are figures.
func (p *page) header(cells ...string) {
	p.line("")
	p.row(cells...)
	rules := slices.Repeat([]string{"---:"}, len(cells))
	rules[0] = "---"
	p.row(rules...)
}

func (r *report) markdown() string {
	p := new(page)
	p.line("# Results\n")
	p.line("Written by `go run ./cmd/compare` on %s; nothing here is edited by hand. [docs/performance.md](../docs/performance.md) says what the figures mean, what noise to expect, and what is not claimed.\n", r.started.UTC().Format("2 January 2006"))
	p.line("%s, GOMAXPROCS %d, redis-server %s, %d interleaved rounds in process and %d over HTTP; every figure is the median of the rounds unless it says otherwise.", strings.Replace(runtime.Version(), "go", "Go ", 1), runtime.GOMAXPROCS(0), r.redis, r.rounds, r.loads)
	if r.quick {
		p.line("\n**A run with -quick: it proves that the program works. The figures mean nothing.**")
	}
	r.writeTargets(p)
	for _, store := range []string{"memory", "redis"} {
		r.writeCosts(p, store)
		r.writeRatios(p, store)
		r.writeAllocs(p, store)
	}
	r.writeLess(p)
	r.writeTrips(p)
	r.writeHTTP(p, "memory")
	r.writeHTTP(p, "redis")
	r.writeLimits(p)
	r.writeScale(p)
	p.line("\nThe whole took %v.", time.Since(r.started).Round(time.Minute))
	return p.String()
}

// libs are the peers on store, and the floors that are no other framework's.
func libs(store string) (names []string) {
	floors := []string{"floor-bare", "floor-map"}
	if store == "redis" {
		floors = []string{"floor-get", "floor-getset"}
	}
	for _, p := range benchmarks.Peers {
		if p.Store == store {
			names = append(names, p.Lib)
		}
	}
	return append(names, floors...)
}

func opNames() (names []string) {
	for _, op := range benchmarks.Ops {
		names = append(names, string(op))
	}
	return names
}

// note marks a figure of a peer that does less for it.
func note(lib, store string, op benchmarks.Op) string {
	for _, p := range benchmarks.Peers {
		if p.Lib != lib || p.Store != store {
			continue
		}
		if p.KeepsToken && (op == benchmarks.OpLogin || op == benchmarks.OpRenew) || p.NeverLooks && op == benchmarks.OpUntouched {
			return "*"
		}
	}
	return ""
}

func (r *report) writeCosts(p *page, store string) {
	p.line("\n## CPU of one request in process, sessions in %s\n", map[string]string{"memory": "memory", "redis": "Redis"}[store])
	if store == "memory" {
		p.line("![CPU of one request, sessions in memory](plots/memory.svg)\n")
	} else {
		p.line("The application's own processor time only; what the server uses is further down.\n")
	}
	p.line("Microseconds of the process's processor time (user, system and garbage collection), for requests that differ in nothing but the library. gin, echo and fiber have the cost of their own bare handler taken out and that of net/http's put in. `*`: the peer does less for it, see below.")
	p.header(append([]string{"name"}, opNames()...)...)
	for _, lib := range libs(store) {
		row := []string{fmt.Sprintf("`lib=%s/store=%s`", lib, store)}
		for _, op := range benchmarks.Ops {
			text := ""
			if costs := r.costs(cell{lib, store, op}); len(costs) > 0 {
				text = number(median(costs)/1e3) + note(lib, store, op)
			}
			row = append(row, text)
		}
		p.row(row...)
	}
}

func (r *report) writeRatios(p *page, store string) {
	p.line("\nHow many times as much as ours (median of the rounds' ratios, least and most in brackets; below 1 it is cheaper than ours):")
	p.header(append([]string{"name"}, opNames()...)...)
	for _, lib := range libs(store)[1:] {
		row := []string{lib}
		for _, op := range benchmarks.Ops {
			text := ""
			if x, ok := r.ratio(cell{lib, store, op}, cell{"sojourn", store, op}); ok {
				text = fmt.Sprintf("%s%s (%s to %s)", number(x.mid), note(lib, store, op), number(x.low), number(x.high))
			}
			row = append(row, text)
		}
		p.row(row...)
	}
}

func (r *report) writeAllocs(p *page, store string) {
	p.line("\nAllocations of a request, and bytes, of the harness's request and the handler's answer included:")
	p.header(append([]string{"name"}, opNames()...)...)
	for _, lib := range libs(store) {
		row := []string{lib}
		for _, op := range benchmarks.Ops {
			text := ""
			if s := r.inProcess[cell{lib, store, op}]; len(s) > 0 {
				text = fmt.Sprintf("%.0f, %.0f B", s.allocs(), s.bytes())
			}
			row = append(row, text)
		}
		p.row(row...)
	}
}

func (r *report) writeLess(p *page) {
	p.line("\n## What peers do not do\n")
	p.line("Held to be true by `go test` in this directory, which also proves that all peers change the token at login, end the old one and give five values back, except where this says so.\n")
	for _, peer := range benchmarks.Peers {
		if less := peer.Less(); less != "" {
			p.line("- `%s`: %s", peer.Name(), less)
		}
		if peer.StoresAnonymous {
			p.line("- `%s` does more: it begins a session for every visitor", peer.Name())
		}
	}
}

func (r *report) writeTrips(p *page) {
	p.line("\n## What Redis sees of one request\n")
	p.line("Round trips and commands, counted by a proxy between; microseconds that the server executed them for (`INFO commandstats`), and of its processor in all (`INFO cpu`). One request at a time.")
	ops := benchmarks.Ops[:len(benchmarks.Ops)-1]
	p.header(append([]string{"name"}, opNames()[:len(ops)]...)...)
	for _, lib := range libs("redis") {
		row := []string{lib}
		for _, op := range ops {
			text := ""
			if t, ok := r.trips[cell{lib, "redis", op}]; ok {
				text = fmt.Sprintf("%.3g: %s; %s, %s", t.trips, strings.Join(t.commands, " "), number(t.exec), number(t.cpu))
				if len(t.commands) == 0 {
					text = "0"
				}
			}
			row = append(row, text)
		}
		p.row(row...)
	}
}

func (r *report) writeHTTP(p *page, store string) {
	p.line("\n## Over HTTP, sessions in %s\n", map[string]string{"memory": "memory", "redis": "Redis"}[store])
	if store == "redis" {
		p.line("![CPU of one read over HTTP, sessions in Redis](plots/redis.svg)\n")
	}
	p.line("`wrk -t1 -c32 -d%ds` against a server process, %d sessions in turn. Servers, wrk and Redis share the machine, so requests a second compare within this table only. CPU is microseconds a request of the server process, and of Redis.", int(r.load.Seconds()), benchmarks.Sessions)
	p.header("name", "op", "requests/s", "p50 ms", "p99 ms", "CPU", "least", "most", "Redis CPU")
	for _, lib := range libs(store) {
		for _, op := range httpOps {
			s := r.http[cell{lib, store, op}]
			if len(s) == 0 {
				continue
			}
			app := func(h httpSample) float64 { return h.app }
			low, high := spread(s, app)
			p.row(lib, string(op),
				fmt.Sprintf("%.0f", s.median(func(h httpSample) float64 { return h.Requests / h.Seconds })),
				number(s.median(func(h httpSample) float64 { return h.P50 })/1e3),
				number(s.median(func(h httpSample) float64 { return h.P99 })/1e3),
				number(s.median(app)), number(low), number(high),
				number(s.median(func(h httpSample) float64 { return h.redis })))
		}
	}
}

func spread(s httpSeries, of func(httpSample) float64) (low, high float64) {
	low, high = of(s[0]), of(s[0])
	for _, h := range s {
		low, high = min(low, of(h)), max(high, of(h))
	}
	return low, high
}

func (r *report) writeLimits(p *page) {
	p.line("\n## Redis at its limit\n")
	p.line("One session of five values takes %.0f bytes of Redis (`used_memory` before and after %d logins): %.1f million in a gibibyte.\n", r.memory.perSession, r.stored, r.memory.perGiB/1e6)
	p.line("Our store on go-redis, 32 goroutines, a session each, 400 bytes of data:")
	p.header("client", "op", "calls/s", "application CPU us", "Redis CPU us")
	for _, x := range r.pipelines {
		p.row(x.name, x.op, fmt.Sprintf("%.0f", x.perSecond), number(x.appMicros), number(x.redisCPU))
	}
}

func (r *report) writeScale(p *page) {
	p.line("\n## %d sessions in memory\n", r.sessions)
	p.line("![Heap of one session in memory](plots/scale.svg)\n")
	p.line("Each came in through its library's login, with five values. The other libraries know no users: ours is measured without, and once more with each session bound to a user and on the list that RevokeUser needs. Then half of them expire while the others are read. scs sweeps every ten seconds here, as ours does. One run.")
	p.header("store", "bytes a session", "objects", "full GC, CPU ms", "Load p99.9 us, quiet", "while half expire", "worst, quiet", "worst, while half expire", "given back", "within")
	for _, s := range r.scale {
		row := []string{s.Store, fmt.Sprintf("%.0f", s.BytesPerSession), fmt.Sprintf("%.2f", s.ObjectsPer), fmt.Sprint(s.FullGC.Milliseconds())}
		if s.Quiet.N > 0 {
			for _, d := range []time.Duration{s.Quiet.P999, s.Expiring.P999, s.Quiet.Worst, s.Expiring.Worst} {
				row = append(row, number(float64(d.Nanoseconds())/1e3))
			}
			row = append(row, fmt.Sprintf("%.0f%%", 100*s.GivenBack), s.GivenBackAfter.Round(time.Second).String())
		} else {
			row = append(row, "", "", "", "", "never", "")
		}
		p.row(row...)
	}
	if len(r.sweep) > 0 {
		p.line("\nOur sweep, from within (`go test -run '^$' -bench MemoryStoreSweep -benchtime 5x .` in the library): %.0f ms for half of a million; a lock is held for %.0f us in 999 of 1,000 cases and %.0f us in the worst on the wall clock, with what the machine did meanwhile included, and for %.0f us of processor time in the worst of the best of five sweeps.",
			r.sweep["sweep-ms"], r.sweep["p99.9-hold-us"], r.sweep["longest-hold-us"], r.sweep["longest-hold-cpu-us"])
	}
}
