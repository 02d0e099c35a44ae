package main

import (
	"fmt"

	"github.com/sojourn-go/session/benchmarks"
)

// writeTargets holds what was measured against what was set out to be reached.
func (r *report) writeTargets(p *page) {
	p.line("\n## Against the targets\n")
	p.line("scs is taken without an idle timeout, its cheapest form.")
	p.header("target", "measured", "")
	times := func(name string, op benchmarks.Op, least float64) {
		x, ok := r.ratio(cell{"scs", "memory", op}, cell{"sojourn", "memory", op})
		judge(p, fmt.Sprintf("%s at least %g times cheaper than scs, in memory", name, least), x.mid, ok && x.mid >= least)
	}
	times("read", benchmarks.OpRead, 25)
	times("write", benchmarks.OpWrite, 22)
	times("login", benchmarks.OpLogin, 3)
	times("renew", benchmarks.OpRenew, 12)

	x, ok := r.ratio(cell{"sojourn", "memory", benchmarks.OpRead}, cell{"floor-map", "memory", benchmarks.OpRead})
	judge(p, "read at most 3.5 times the cookie-and-map floor", x.mid, ok && x.mid <= 3.5)
	x, ok = r.ratio(cell{"sojourn", "memory", benchmarks.OpAnonymous}, cell{"scs", "memory", benchmarks.OpAnonymous})
	judge(p, "anonymous at most 0.65 of scs", x.mid, ok && x.mid <= 0.65)

	bare := r.inProcess[cell{"floor-bare", "memory", benchmarks.OpAnonymous}].allocs()
	allocs := func(op benchmarks.Op, most float64) {
		n := r.inProcess[cell{"sojourn", "memory", op}].allocs() - bare
		judge(p, fmt.Sprintf("%s: at most %g allocations above the bare handler", op, most), n, n < most+0.5)
	}
	allocs(benchmarks.OpAnonymous, 3)
	allocs(benchmarks.OpRead, 4)
	allocs(benchmarks.OpWrite, 6)
	ours := r.http[cell{"sojourn", "redis", benchmarks.OpRead}]
	floor := r.http[cell{"floor-get", "redis", benchmarks.OpRead}]
	app := func(h httpSample) float64 { return h.app }
	redis := func(h httpSample) float64 { return h.redis }
	v := ours.over(floor, app)
	judge(p, "a read over HTTP on Redis: application at most 1.25 times the handler with one GET", v, v <= 1.25)
	v = ours.over(floor, redis)
	judge(p, "a read over HTTP on Redis: Redis at most 1.5 times that", v, v <= 1.5)
	r.judgeTrips(p)
	if len(r.scale) > 0 {
		s := r.scale[0]
		judge(p, "at most 560 bytes a session, without users", s.BytesPerSession, s.BytesPerSession <= 560)
		judge(p, "at most 3 heap objects a session, without users", s.ObjectsPer, s.ObjectsPer <= 3)
		v = float64(s.Expiring.P999) / float64(max(1, s.Quiet.P999))
		judge(p, "p99.9 of Load while half expire at most twice what it is without", v, v <= 2)
		judge(p, "all memory of the expired given back (1 is all)", s.GivenBack, s.GivenBack >= 0.97)
	}
	if hold, ok := r.sweep["longest-hold-cpu-us"]; ok {
		judge(p, "no lock held for more than 1000 us of processor time", hold, hold <= 1000)
	}
}

// judgeTrips compares round trips with every peer that has an idle timeout.
func (r *report) judgeTrips(p *page) {
	worst := 0.0
	for _, op := range benchmarks.Ops {
		ours, ok := r.trips[cell{"sojourn", "redis", op}]
		if !ok {
			continue
		}
		for _, peer := range benchmarks.Peers {
			if t, ok := r.trips[cell{peer.Lib, "redis", op}]; ok && !peer.NoIdle && peer.Lib != "sojourn" {
				worst = max(worst, ours.trips-t.trips)
			}
		}
	}
	judge(p, "round trips more than a peer with an idle timeout, in any scenario", worst, worst <= 0)
}

func judge(p *page, target string, v float64, met bool) {
	word := "met"
	if !met {
		word = "**missed**"
	}
	p.row(target, number(v), word)
}
