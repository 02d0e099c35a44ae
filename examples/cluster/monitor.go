package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	monitorInterval = 500 * time.Millisecond
	chartSeconds    = 60
)

// A cost is what a number of requests took.
type cost struct {
	Requests int64
	CPU      time.Duration // of the application's processes
	Commands int64         // of Redis, see upkeep
}

func (c cost) minus(o cost) cost {
	return cost{c.Requests - o.Requests, c.CPU - o.CPU, c.Commands - o.Commands}
}

// A monitor asks servers and Redis for their figures, twice a second, and adds
// up what each way costs.
type monitor struct {
	fleet  *fleet
	redis  *redisSet // nil: there is none
	client *http.Client

	mu       sync.Mutex
	costs    map[way]cost
	last     map[int]figures // by process, so that a restart begins anew
	rate     map[string]int64
	sessions map[string]int
	roles    map[string]string
	primary  string
	commands int64 // of the primary, when it was last asked
	perSec   int64
	keys     int64
}

func newMonitor(f *fleet, set *redisSet) *monitor {
	return &monitor{
		fleet: f, redis: set,
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: time.Second},
		costs:    make(map[way]cost),
		last:     make(map[int]figures),
		rate:     make(map[string]int64),
		sessions: make(map[string]int),
		roles:    make(map[string]string),
	}
}

func (m *monitor) run(ctx context.Context) {
	defer m.client.CloseIdleConnections()
	tick := time.NewTicker(monitorInterval)
	defer tick.Stop()
	for {
		m.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks once.
func (m *monitor) look(ctx context.Context) {
	for _, s := range m.fleet.servers {
		m.lookAtServer(ctx, s)
	}
	if m.redis != nil {
		m.lookAtRedis(ctx)
	}
}

func (m *monitor) lookAtServer(ctx context.Context, s *server) {
	pid, addr, w := s.pid(), m.fleet.balancer.state(s.name).addr, m.fleet.current()
	got, ok := m.figures(ctx, addr)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || !s.running() {
		m.rate[s.name], m.sessions[s.name] = 0, 0
		return
	}
	was := m.last[pid]
	m.last[pid] = got
	m.rate[s.name] = (got.Requests - was.Requests) * int64(time.Second/monitorInterval)
	m.sessions[s.name] = got.Sessions
	c := m.costs[w]
	c.Requests += got.Requests - was.Requests
	c.CPU += time.Duration(got.CPU-was.CPU) * time.Microsecond
	m.costs[w] = c
}

func (m *monitor) figures(ctx context.Context, addr string) (got figures, ok bool) {
	if addr == "" {
		return got, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/figures", nil)
	if err != nil {
		return got, false
	}
	res, err := m.client.Do(req)
	if err != nil {
		return got, false
	}
	defer res.Body.Close()
	return got, json.NewDecoder(res.Body).Decode(&got) == nil
}

func (m *monitor) lookAtRedis(ctx context.Context) {
	roles := make(map[string]string)
	for _, s := range m.redis.servers {
		roles[s.name] = s.role(ctx)
	}
	for _, s := range m.redis.sentinels {
		if s.running() {
			roles[s.name] = "up"
		}
	}
	var name string
	var commands, keys int64
	if p := m.redis.primary(ctx); p != nil && p.running() {
		name, commands, keys = p.name, p.commands(ctx), p.keys(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.perSec = 0
	if name != "" && name == m.primary && commands >= m.commands {
		w := m.fleet.current()
		c := m.costs[w]
		c.Commands += commands - m.commands
		m.costs[w] = c
		m.perSec = (commands - m.commands) * int64(time.Second/monitorInterval)
	}
	m.roles, m.primary, m.commands, m.keys = roles, name, commands, keys
}

// cost is what a way has cost so far.
func (m *monitor) cost(w way) cost {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.costs[w]
}

// text writes the figures for the page, by their names there.
func (m *monitor) text(into map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.fleet.servers {
		into[s.name+".state"] = m.fleet.state(s.name)
		into[s.name+".rate"] = fmt.Sprint(m.rate[s.name])
		into[s.name+".sessions"] = fmt.Sprint(m.sessions[s.name])
	}
	if m.redis == nil {
		return
	}
	up := 0
	for _, s := range m.redis.servers {
		into[s.name+".state"] = m.roles[s.name]
	}
	for _, s := range m.redis.sentinels {
		if m.roles[s.name] == "up" {
			up++
		}
	}
	into["sentinels"] = fmt.Sprintf("%d of %d Sentinels up", up, len(m.redis.sentinels))
	into["commands"] = fmt.Sprint(m.perSec)
	into["keys"] = fmt.Sprint(m.keys)
}

// perRequest writes a cost for people; "–" for one that is not known.
func (c cost) perRequest() (cpu, commands string) {
	if c.Requests == 0 {
		return "–", "–"
	}
	cpu = "–"
	if c.CPU > 0 {
		cpu = fmt.Sprintf("%d µs", c.CPU.Microseconds()/c.Requests)
	}
	return cpu, fmt.Sprintf("%.1f", float64(c.Commands)/float64(c.Requests))
}

// chart draws the last minute of a timeline as the points of two lines, in a box
// of 600 by 100: answers, and requests without one.
func chart(timeline []bucket) (good, failed string) {
	per := int(time.Second / bucketTime)
	timeline = timeline[max(0, len(timeline)-chartSeconds*per):]
	top := 10
	var goods, fails []int
	for i := 0; i+per/2 <= len(timeline); i += per / 2 {
		var b bucket
		for _, x := range timeline[i : i+per/2] {
			b.Good, b.Failed = b.Good+x.Good, b.Failed+x.Failed
		}
		goods, fails = append(goods, b.Good), append(fails, b.Failed)
		top = max(top, b.Good, b.Failed)
	}
	points := func(values []int) string {
		var b strings.Builder
		for i, v := range values {
			x := 600 - (len(values)-1-i)*600/(2*chartSeconds)
			fmt.Fprintf(&b, "%d,%d ", x, 96-v*90/top)
		}
		return b.String()
	}
	return points(goods), points(fails)
}
