package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sojourn-go/session/benchmarks"
	"github.com/valyala/fasthttp"
)

// hello is the first line that a child prints.
type hello struct {
	Addr    string
	Cookies []string
}

// serveChild serves one peer on a port of its own and answers each line on its
// input with the CPU time that it has used, in nanoseconds. It ends with its
// input.
func serveChild(name string, env benchmarks.Env) {
	lib, store, _ := strings.Cut(name, "/")
	app, err := benchmarks.Find(lib, store).Open(env)
	if err != nil {
		log.Fatal(err)
	}
	h := hello{}
	if !strings.HasPrefix(lib, "floor-") || lib == "floor-map" {
		h.Cookies = app.LogIn(benchmarks.Sessions)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// wrk leaves in the middle of requests when its time is over. Answers that
	// fail before that, it counts.
	log.SetOutput(io.Discard)
	go func() {
		if app.Fast != nil {
			log.Fatal(fasthttp.Serve(l, app.Fast))
		}
		log.Fatal(http.Serve(l, app.HTTP))
	}()
	h.Addr = l.Addr().String()
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(h)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		_ = out.Encode(benchmarks.CPUTime())
	}
}

// A child is a server process.
type child struct {
	hello
	in  io.Writer
	out *json.Decoder
}

func startChild(h *host, peer benchmarks.Peer, server *redisServer) *child {
	self, err := os.Executable()
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.Command(self, "-serve", peer.Lib+"/"+peer.Store, "-redis", server.Addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		h.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := &child{in: in, out: json.NewDecoder(bufio.NewReader(out))}
	if err := c.out.Decode(&c.hello); err != nil {
		h.Fatalf("%s did not start: %v", peer.Name(), err)
	}
	return c
}

func (c *child) cpu() (d time.Duration) {
	_, _ = io.WriteString(c.in, "\n")
	if err := c.out.Decode(&d); err != nil {
		log.Fatal(err)
	}
	return d
}

// httpSample is one run of wrk.
type httpSample struct {
	Requests   float64
	Seconds    float64
	P50, P99   float64 // microseconds
	Failed     float64
	app, redis float64 // CPU microseconds of a request
}

type httpSeries []httpSample

// over compares two cells round by round.
func (s httpSeries) over(floor httpSeries, of func(httpSample) float64) float64 {
	ratios := make([]float64, min(len(s), len(floor)))
	for i := range ratios {
		ratios[i] = of(s[i]) / of(floor[i])
	}
	return median(ratios)
}

func (s httpSeries) median(of func(httpSample) float64) float64 {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = of(s[i])
	}
	return median(values)
}

var httpOps = []benchmarks.Op{benchmarks.OpAnonymous, benchmarks.OpRead, benchmarks.OpWrite}

// measureHTTP puts load on each peer's server in turn, round by round. All
// servers run all the time; those that are not asked anything wait.
func measureHTTP(s settings, h *host, server *redisServer) map[cell]httpSeries {
	script := filepath.Join(h.dir, "load.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o600); err != nil {
		h.Fatal(err)
	}
	server.flush()
	peers := slices.DeleteFunc(inOrder(), isFramework)
	children := make([]*child, len(peers))
	for i, peer := range peers {
		children[i] = startChild(h, peer, server)
		cookies := filepath.Join(h.dir, fmt.Sprint(i))
		if err := os.WriteFile(cookies, []byte(strings.Join(children[i].Cookies, "\n")), 0o600); err != nil {
			h.Fatal(err)
		}
	}
	all := make(map[cell]httpSeries)
	for round := range s.loads {
		for _, op := range httpOps {
			for i, peer := range peers {
				if !peer.Has(op) {
					continue
				}
				c := cell{peer.Lib, peer.Store, op}
				all[c] = append(all[c], load(s, h, children[i], server, op, script, filepath.Join(h.dir, fmt.Sprint(i))))
			}
		}
		log.Printf("round %d of %d", round+1, s.loads)
	}
	return all
}

// load runs wrk once. One of its threads and 32 connections keep a server on the
// other core busy without drowning it.
func load(s settings, h *host, c *child, server *redisServer, op benchmarks.Op, script, cookies string) httpSample {
	seconds := int(s.load.Seconds()) // wrk counts in no others
	cmd := exec.Command("wrk", "-t1", "-c32", fmt.Sprintf("-d%ds", seconds), "-s", script, "http://"+c.Addr+benchmarks.PathOf(op))
	if op != benchmarks.OpAnonymous {
		cmd.Env = append(os.Environ(), "COOKIES="+cookies)
	}
	app, redis := c.cpu(), server.cpu()
	out, err := cmd.CombinedOutput()
	app, redis = c.cpu()-app, server.cpu()-redis
	if err != nil {
		h.Fatalf("wrk (Debian has it in a package of that name): %v\n%s", err, out)
	}
	_, line, _ := strings.Cut(string(out), "RESULT ")
	line, _, _ = strings.Cut(line, "\n")
	var r httpSample
	if err := json.Unmarshal([]byte(line), &r); err != nil || r.Failed > 0 {
		h.Fatalf("wrk: %v\n%s", err, out)
	}
	r.app, r.redis = float64(app.Nanoseconds())/1e3/r.Requests, float64(redis.Nanoseconds())/1e3/r.Requests
	return r
}

// wrkScript sends the cookies of many visitors in turn.
const wrkScript = `
local requests, n, i = {}, 0, 0
function init()
  local file = os.getenv("COOKIES")
  if file then
    for line in io.lines(file) do
      n = n + 1
      requests[n] = wrk.format("GET", nil, { ["Cookie"] = line })
    end
  end
  if n == 0 then n = 1; requests[1] = wrk.format("GET") end
end
function request()
  i = i % n + 1
  return requests[i]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"Requests":%d,"Seconds":%f,"P50":%f,"P99":%f,"Failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
`
