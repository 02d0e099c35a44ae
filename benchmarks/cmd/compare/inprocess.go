package main

import (
	"log"
	"slices"

	"github.com/sojourn-go/session/benchmarks"
)

// series are the samples of one cell, one a round.
type series []benchmarks.Sample

func (s series) median(of func(benchmarks.Sample) float64) float64 {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = of(s[i])
	}
	return median(values)
}

func (s series) allocs() float64 { return s.median(benchmarks.Sample.AllocsPerOp) }
func (s series) bytes() float64  { return s.median(benchmarks.Sample.BytesPerOp) }

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// inOrder are the floors and peers of one store and then of the other, so that what
// is compared is measured within seconds of each other.
func inOrder() (peers []benchmarks.Peer) {
	all := slices.Concat(benchmarks.Floors, benchmarks.Peers)
	for _, store := range []string{"memory", "redis"} {
		for _, p := range all {
			if p.Store == store {
				peers = append(peers, p)
			}
		}
	}
	return peers
}

// isFramework reports whether p is the bare handler of a peer's own framework.
func isFramework(p benchmarks.Peer) bool {
	return slices.ContainsFunc(benchmarks.Peers, func(of benchmarks.Peer) bool { return of.Floor == p.Lib })
}

// measureInProcess goes round all cells, round by round, so that what happens to
// the machine meanwhile happens to all of them.
func measureInProcess(s settings, env benchmarks.Env, server *redisServer) map[cell]series {
	all := make(map[cell]series)
	for round := range s.rounds {
		for _, op := range benchmarks.Ops {
			for _, peer := range inOrder() {
				if !peer.Has(op) {
					continue
				}
				if peer.Store == "redis" {
					server.flush()
				}
				sample, err := peer.Measure(env, op, s.budget)
				if err != nil {
					log.Fatal(err)
				}
				c := cell{peer.Lib, peer.Store, op}
				all[c] = append(all[c], sample)
			}
		}
		log.Printf("round %d of %d", round+1, s.rounds)
	}
	server.flush()
	return all
}

// ratio compares two cells round by round: the median, the least and the most.
type ratio struct{ mid, low, high float64 }

// ratios divides a by b. Of each the floor of its own framework is taken, and
// that of net/http put in its place.
func (r *report) ratio(a, b cell) (ratio, bool) {
	over, under := r.costs(a), r.costs(b)
	if len(over) == 0 || len(over) != len(under) {
		return ratio{}, false
	}
	values := make([]float64, len(over))
	for i := range over {
		values[i] = over[i] / under[i]
	}
	return ratio{median(values), slices.Min(values), slices.Max(values)}, true
}

// costs are the nanoseconds of c's rounds, as if it were on net/http.
func (r *report) costs(c cell) []float64 {
	samples := r.inProcess[c]
	costs := make([]float64, len(samples))
	own := r.floorOf(c)
	for i := range samples {
		costs[i] = samples[i].NsPerOp()
		if own != "" {
			bare := r.inProcess[cell{"floor-bare", "memory", benchmarks.OpAnonymous}]
			framework := r.inProcess[cell{own, "memory", benchmarks.OpAnonymous}]
			costs[i] = max(1, costs[i]-framework[i].NsPerOp()+bare[i].NsPerOp())
		}
	}
	return costs
}

func (r *report) floorOf(c cell) string {
	for _, p := range benchmarks.Peers {
		if p.Lib == c.lib && p.Store == c.store {
			return p.Floor
		}
	}
	return ""
}
