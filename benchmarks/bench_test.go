package benchmarks

import "testing"

// BenchmarkSession is for looking closer at one line of RESULTS.md, with a
// profile:
//
//	go test -run '^$' -bench 'Session/lib=sojourn/store=memory/op=read$' -cpuprofile cpu.out
//
// The figures that are compared come from cmd/compare, which interleaves them.
func BenchmarkSession(b *testing.B) {
	for _, peer := range append(Floors, Peers...) {
		for _, op := range Ops {
			if !peer.Has(op) || op == OpMix {
				continue
			}
			b.Run(peer.Name()+"/op="+string(op), func(b *testing.B) { benchmark(b, peer, op) })
		}
	}
}

func benchmark(b *testing.B, peer Peer, op Op) {
	app := open(b, peer)
	c, path := app.NewClient(), paths[op]
	cookies := []string{""}
	switch op {
	case OpAnonymous:
	case OpLogin:
		cookies = app.begin(b.N, Visit)
	case OpRenew, OpLogout:
		cookies = app.begin(b.N, Login)
	default:
		cookies = app.LogIn(Sessions)
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := CPUTime()
	for i := range b.N {
		c.Do(path, cookies[i%len(cookies)])
	}
	b.ReportMetric(float64(CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
}
