package session

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Counters counts what a [Manager] tells. The zero value is ready; give its
// Observe to [Config.OnEvent], or call that from your own. It is an expvar.Var:
//
//	var counters session.Counters
//	expvar.Publish("sessions", &counters)
//
// One may serve several managers. It must not be copied once used.
type Counters struct {
	counts atomic.Pointer[map[countKey]*count] // replaced, never changed, so that counting takes no lock
	adding sync.Mutex
}

type countKey struct {
	kind EventKind
	op   string
}

type count struct{ n, errors, conflicts, retries, nanos atomic.Int64 }

// Observe counts one event. It is quick, and allocates for the first of a kind
// only.
func (c *Counters) Observe(_ context.Context, e Event) {
	n := c.count(countKey{e.Kind, e.Op})
	n.n.Add(1)
	if e.Kind != EventStoreCall {
		return
	}
	n.nanos.Add(int64(e.Duration))
	if e.Attempt > 0 {
		n.retries.Add(1)
	}
	switch {
	case e.Err == nil, errors.Is(e.Err, ErrNotFound):
	case errors.Is(e.Err, ErrConflict):
		n.conflicts.Add(1)
	default:
		n.errors.Add(1)
	}
}

func (c *Counters) count(key countKey) *count {
	if n := c.all()[key]; n != nil {
		return n
	}
	c.adding.Lock()
	defer c.adding.Unlock()
	old := c.all()
	if n := old[key]; n != nil {
		return n
	}
	next := make(map[countKey]*count, len(old)+1)
	maps.Copy(next, old)
	next[key] = new(count)
	c.counts.Store(&next)
	return next[key]
}

func (c *Counters) all() map[countKey]*count {
	if counts := c.counts.Load(); counts != nil {
		return *counts
	}
	return nil
}

// String returns the counts as JSON. What did not happen yet is not in it.
//
//	{
//	  "events": {"created": 3, "login": 1, "store_call": 9},
//	  "calls": {
//	    "load": {"count": 5, "errors": 0, "conflicts": 0, "retries": 0, "seconds": 0.0021},
//	    "save": {"count": 4, "errors": 0, "conflicts": 0, "retries": 0, "seconds": 0.0024}
//	  }
//	}
//
// The events are those of [EventKind]. The calls are those to the store, by
// [Event].Op. Not finding a record is no error, and neither is a conflict. Seconds
// are the sum of all calls.
func (c *Counters) String() string {
	type call struct {
		Count     int64   `json:"count"`
		Errors    int64   `json:"errors"`
		Conflicts int64   `json:"conflicts"`
		Retries   int64   `json:"retries"`
		Seconds   float64 `json:"seconds"`
	}
	var figures struct {
		Events map[EventKind]int64 `json:"events"`
		Calls  map[string]call     `json:"calls"`
	}
	figures.Events, figures.Calls = make(map[EventKind]int64), make(map[string]call)
	for key, n := range c.all() {
		figures.Events[key.kind] += n.n.Load()
		if key.kind == EventStoreCall {
			figures.Calls[key.op] = call{n.n.Load(), n.errors.Load(), n.conflicts.Load(), n.retries.Load(), time.Duration(n.nanos.Load()).Seconds()}
		}
	}
	text, _ := json.Marshal(figures) // cannot fail: numbers, and names
	return string(text)
}
