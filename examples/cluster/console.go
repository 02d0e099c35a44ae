package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A console is the page with its buttons, and what they work on.
type console struct {
	ctx      context.Context // ends with the program
	url      string          // of the site, with a slash at its end
	people   int             // in the crowd
	balancer *balancer
	fleet    *fleet
	redis    *redisSet // nil: there is none
	monitor  *monitor
	working  sync.WaitGroup // what buttons began and did not wait for

	mu     sync.Mutex
	crowd  *crowd
	saw    map[way]tally // by the crowds that are gone
	begun  map[way]bool
	did    map[way]deeds
	notice string // what went wrong last
	choice sync.Mutex
}

// choose begins anew in another way, with another crowd.
func (c *console) choose(w way) error {
	c.choice.Lock()
	defer c.choice.Unlock()
	c.dismiss()
	if err := c.fleet.choose(c.ctx, w); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[w] = true
	c.crowd = newCrowd(c.ctx, c.url, c.people)
	return nil
}

// dismiss ends the crowd and keeps what it saw.
func (c *console) dismiss() {
	c.mu.Lock()
	crowd := c.crowd
	c.mu.Unlock()
	if crowd == nil {
		return
	}
	crowd.leave()
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.fleet.current()
	c.saw[w] = c.saw[w].plus(crowd.soFar())
	c.crowd = nil
}

func (t tally) plus(o tally) tally {
	return tally{
		t.Requests + o.Requests, t.Failed + o.Failed, t.Logouts + o.Logouts, t.Lost + o.Lost,
		t.Twice + o.Twice, t.Mixed + o.Mixed, max(t.Gap, o.Gap),
	}
}

// deeds are what buttons did while a way was chosen.
type deeds struct{ killed, stopped, failovers int }

func (d deeds) String() string {
	var all []string
	for _, x := range []struct {
		n    int
		what string
	}{{d.stopped, "× stop"}, {d.killed, "× kill -9"}, {d.failovers, "× kill -9 of Redis"}} {
		if x.n > 0 {
			all = append(all, fmt.Sprint(x.n, x.what))
		}
	}
	if all == nil {
		return "nothing yet"
	}
	return strings.Join(all, ", ")
}

// note writes down a deed.
func (c *console) note(f func(*deeds)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.fleet.current()
	d := c.did[w]
	f(&d)
	c.did[w] = d
}

// figures are everything on the page that moves, by name.
func (c *console) figures() map[string]string {
	text := make(map[string]string)
	c.monitor.text(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	current := c.fleet.current()
	text["way"], text["notice"] = current.Title(), c.notice
	for _, w := range ways {
		t := c.saw[w]
		if w == current && c.crowd != nil {
			t = t.plus(c.crowd.soFar())
			text["good"], text["failed"] = chart(c.crowd.timeline())
		}
		c.row(text, w, t)
	}
	return text
}

// row writes the line of a way in the table.
func (c *console) row(text map[string]string, w way, t tally) {
	name := string(w) + "."
	if !c.begun[w] {
		for _, column := range (view{}).Columns() {
			text[name+column] = "·"
		}
		return
	}
	text[name+"did"] = c.did[w].String()
	text[name+"requests"] = fmt.Sprint(t.Requests)
	text[name+"logouts"] = fmt.Sprint(t.Logouts)
	text[name+"lost"] = fmt.Sprint(t.Lost)
	text[name+"gap"] = t.Gap.Round(10 * time.Millisecond).String()
	text[name+"cpu"], text[name+"commands"] = c.monitor.cost(w).perRequest()
}

// control are the buttons. What takes long goes on after the answer; the figures
// tell how it goes.
func (c *console) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /control/way", c.button(func(r *http.Request) error { return c.choose(way(r.PostFormValue("way"))) }))
	mux.HandleFunc("POST /control/kill", c.button(c.kill))
	mux.HandleFunc("POST /control/start", c.button(func(r *http.Request) error { return c.fleet.start(c.ctx, r.PostFormValue("server")) }))
	mux.HandleFunc("POST /control/stop", c.button(c.later(c.stop)))
	mux.HandleFunc("POST /control/redis/kill", c.button(c.withRedis(c.killPrimary)))
	mux.HandleFunc("POST /control/redis/start", c.button(c.withRedis(c.later(func(*http.Request) error { return c.redis.restart(c.ctx) }))))
	return mux
}

func (c *console) kill(r *http.Request) error {
	name := r.PostFormValue("server")
	if c.fleet.state(name) != "down" {
		c.note(func(d *deeds) { d.killed++ })
	}
	return c.fleet.kill(name)
}

func (c *console) stop(r *http.Request) error {
	name := r.PostFormValue("server")
	if state := c.fleet.state(name); state != "down" && state != "draining" {
		c.note(func(d *deeds) { d.stopped++ })
	}
	return c.fleet.stop(c.ctx, name)
}

func (c *console) killPrimary(*http.Request) error {
	err := c.redis.killPrimary(c.ctx)
	if err == nil {
		c.note(func(d *deeds) { d.failovers++ })
	}
	return err
}

// button presses one and shows the page again, which says what went wrong.
func (c *console) button(press func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.tell(press(r))
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func (c *console) withRedis(press func(*http.Request) error) func(*http.Request) error {
	return func(r *http.Request) error {
		if c.redis == nil {
			return errNoRedis
		}
		return press(r)
	}
}

func (c *console) later(press func(*http.Request) error) func(*http.Request) error {
	return func(r *http.Request) error {
		_ = r.ParseForm() // before the request is over
		c.working.Go(func() {
			if err := press(r); err != nil {
				c.tell(err)
			}
		})
		return nil
	}
}

func (c *console) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notice = ""
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
		c.notice = err.Error()
	}
}
