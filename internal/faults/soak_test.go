package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/redistest"
)

// A sample is what must not grow.
type sample struct {
	goroutines, connections int
	heap                    uint64
}

// take waits for what has been left to die, and collects it.
func take(r *rig) sample {
	r.proxy.Reset() // it remembers each command's name
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	info := r.server.Admin().InfoMap(context.Background(), "clients").Val()
	connections, _ := strconv.Atoi(info["Clients"]["connected_clients"])
	return sample{runtime.NumGoroutine(), connections, mem.HeapAlloc}
}

func (s sample) String() string {
	return fmt.Sprintf("%d goroutines, %d connections, %.1f MB of heap", s.goroutines, s.connections, float64(s.heap)/1e6)
}

// soakFaults are those that a server comes back from within seconds.
var soakFaults = []func(r *rig){
	everyTwentieth(redistest.Refuse), everyTwentieth(redistest.DropReply), everyTwentieth(redistest.HalfReply),
	resetInEveryPhase, slowPath, blackHole, scriptFlush, restartEmpty, full("noeviction", 64<<10),
	func(r *rig) {
		r.server.Pause()
		r.run(time.Second)
		r.server.Resume()
	},
	func(r *rig) {
		r.proxy.Down()
		r.run(time.Second)
		r.proxy.Restore()
	},
}

// TestSoak goes on for what SESSION_SOAK says, 10m in make soak, with one fault
// after the other.
func TestSoak(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("SESSION_SOAK"))
	if err != nil {
		t.Skip("set SESSION_SOAK to a duration, such as 10m")
	}
	redis.SetLogger(silent{})
	before := runtime.NumGoroutine()
	var early, late sample
	var requests int64
	faults := 0
	t.Run("visitors", func(t *testing.T) {
		r := standalone()(t)
		r.remember = 2000
		r.crowd.begin()
		rnd := rand.New(rand.NewPCG(7, 7))
		deadline := time.Now().Add(d)
		for pause := d / 10; time.Now().Before(deadline); pause = 2 * time.Second {
			if faults > 0 && faults%len(soakFaults) == 0 {
				late = take(r)
				t.Logf("after %d faults and %d requests: %v", faults, r.requests.Load(), late)
			}
			r.run(pause)
			if faults == 0 {
				early = take(r)
				t.Logf("at first: %v", early)
			}
			soakFaults[rnd.IntN(len(soakFaults))](r)
			faults++
		}
		r.run(2 * time.Second)
		late = take(r)
		r.end()
		requests = r.requests.Load()
		t.Logf("at last, after %d faults: %v", faults, late)
		if r.wrong.Load() > 0 || r.hung.Load() > 0 || r.revived.Load() > 0 {
			t.Errorf("%d wrong reads, %d hung requests, %d ended tokens that opened again", r.wrong.Load(), r.hung.Load(), r.revived.Load())
		}
		// Each of the two clients may keep a pool of ten connections per processor.
		if most := 2*10*runtime.GOMAXPROCS(0) + 1; late.connections > most {
			t.Errorf("%d connections, want %d at most", late.connections, most)
		}
		if late.heap > early.heap+early.heap/2+4e6 {
			t.Errorf("the heap grew from %d to %d bytes", early.heap, late.heap)
		}
	})
	left := runtime.NumGoroutine()
	for range 500 {
		if left = runtime.NumGoroutine(); left <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, left, stacks[:runtime.Stack(stacks, true)])
	}
	if d >= 10*time.Minute && !t.Failed() {
		rewrite(t, "soak", fmt.Sprintf("Last result: %v, %d requests, %d faults. After a minute: %v. At the end: %v. When both stores were closed, every goroutine had ended.\n",
			d, requests, faults, early, late))
	}
}
