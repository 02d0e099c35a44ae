package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"
)

const (
	// calmTime is how long visitors log in and get something to lose before a fault,
	// and how long is watched what it leads to when it is over.
	calmTime = 3 * time.Second
	// costTime is how long is measured what requests cost while nothing happens.
	costTime = 10 * time.Second

	reportTime = 15 * time.Minute
)

// A fault is something that happens to servers with visitors. It returns when it
// is over.
type fault struct {
	title  string
	strike func(context.Context, *console) error
}

var faults = []fault{
	{"nothing", func(ctx context.Context, _ *console) error { return pause(ctx, costTime) }},
	{"`kill -9` of one server", func(_ context.Context, c *console) error { return c.fleet.kill("B") }},
	{"one server is stopped", func(ctx context.Context, c *console) error { return c.fleet.stop(ctx, "B") }},
	{"all servers are restarted in turn", rollingRestart},
	{"`kill -9` of the Redis primary", killPrimaryAndAwait},
}

func rollingRestart(ctx context.Context, c *console) error {
	for _, name := range serverNames {
		if err := errors.Join(c.fleet.stop(ctx, name), c.fleet.start(ctx, name)); err != nil {
			return err
		}
	}
	return nil
}

func killPrimaryAndAwait(ctx context.Context, c *console) error {
	killed := c.redis.primary(ctx)
	if err := c.redis.killPrimary(ctx); err != nil {
		return err
	}
	return waitUntil(ctx, "a replica to be promoted", func() bool {
		p := c.redis.primary(ctx)
		return p != nil && p != killed
	})
}

// An outcome is what a fault came to in one way of keeping sessions.
type outcome struct {
	way   way
	fault string
	tally tally
	cost  cost     // of the requests while the fault lasted and until the end
	line  []bucket // what happened when, from the beginning
	at    time.Duration
}

// try has one fault happen to one way, with new servers and new visitors, between
// two times of calm. Redis is whole again afterwards.
func (c *console) try(ctx context.Context, w way, f fault, calm time.Duration) (outcome, error) {
	if err := c.choose(w); err != nil {
		return outcome{}, err
	}
	c.mu.Lock()
	crowd := c.crowd
	c.mu.Unlock()
	if err := pause(ctx, calm); err != nil {
		return outcome{}, err
	}
	o := outcome{way: w, fault: f.title, at: time.Since(crowd.began)}
	before := c.monitor.cost(w)
	err := errors.Join(f.strike(ctx, c), pause(ctx, calm))
	o.cost = c.monitor.cost(w).minus(before)
	o.line = crowd.timeline()
	o.tally = crowd.dismiss()
	if err == nil && c.redis != nil {
		err = errors.Join(c.redis.restart(ctx), c.redis.awaitWhole(ctx))
	}
	return o, err
}

// report tries everything and writes the page in docs, a directory.
func report(ctx context.Context, c *console, docs string) error {
	if c.redis == nil {
		return errNoRedis
	}
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	began := time.Now()
	var all []outcome
	for i, f := range faults {
		for j, w := range ways {
			o, err := c.try(ctx, w, f, calmTime)
			if err != nil {
				return fmt.Errorf("cluster: %s, %s: %w", w.Title(), f.title, err)
			}
			all = append(all, o)
			log.Printf("%2d of %d: %s, %s: %d logged out, %d increments lost, longest wait %v",
				i*len(ways)+j+1, len(faults)*len(ways), w.Title(), f.title, o.tally.Logouts, o.tally.Lost, o.tally.Gap.Round(time.Millisecond))
		}
	}
	version := c.redis.version(ctx)
	return write(docs, all, environment(c.people, version, time.Since(began)))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
