package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	crowdSize = 60
	// thinkTime is how long a visitor looks at a page, half of it at least.
	thinkTime = 200 * time.Millisecond
	// retryTime is how long a visitor who got no answer waits.
	retryTime = 100 * time.Millisecond
	// requestTime bounds one request. The application answers within twice its
	// StoreTimeout of two seconds.
	requestTime = 6 * time.Second
)

// A tally is what visitors saw.
type tally struct {
	Requests int64 // that were answered
	Failed   int64 // that were not, or by a 5xx
	Logouts  int64 // visitors who found themselves logged out
	Lost     int64 // increments that were confirmed and are gone
	Twice    int64 // increments beyond those that were tried
	Mixed    int64 // answers with somebody else's session
	// Gap is the longest that a visitor went from asking to a good answer, having
	// asked again until it came.
	Gap time.Duration
}

// A bucket is what happened in a tenth of a second.
type bucket struct{ Good, Failed int }

const (
	bucketTime = 100 * time.Millisecond
	// bucketsKept is how many are remembered at least: ten minutes' worth.
	bucketsKept = 6000
)

// A crowd is visitors who log in, count and look, each with cookies of their own,
// until it is dismissed.
type crowd struct {
	url       string
	transport *http.Transport
	began     time.Time
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	visitors  []*visitor

	mu      sync.Mutex
	tally   tally
	buckets []bucket
	dropped int // buckets before those
}

// newCrowd lets n visitors loose on the site at url, which ends in a slash.
func newCrowd(ctx context.Context, url string, n int) *crowd {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{url: url, transport: &http.Transport{MaxIdleConnsPerHost: n}, began: time.Now(), cancel: cancel}
	for i := range n {
		jar, _ := cookiejar.New(nil) // never fails
		v := &visitor{crowd: c, name: fmt.Sprintf("visitor-%d", i), random: rand.New(rand.NewPCG(uint64(i), 7))}
		v.client = http.Client{Jar: jar, Transport: c.transport, Timeout: requestTime}
		c.visitors = append(c.visitors, v)
		c.wg.Go(func() { v.live(ctx) })
	}
	return c
}

// dismiss ends the visits, asks each visitor for a last look, and returns what
// they saw. The last look is bounded.
func (c *crowd) dismiss() tally {
	c.cancel()
	c.wg.Wait()
	for _, v := range c.visitors {
		c.wg.Go(v.lastLook)
	}
	c.wg.Wait()
	c.transport.CloseIdleConnections()
	return c.soFar()
}

// leave ends the visits without a last look.
func (c *crowd) leave() {
	c.cancel()
	c.wg.Wait()
	c.transport.CloseIdleConnections()
}

func (c *crowd) soFar() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally
}

// timeline is what happened in each tenth of a second since the crowd began, or in
// the last ten minutes at least.
func (c *crowd) timeline() []bucket {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now()
	return slices.Clone(c.buckets)
}

// now is the bucket of this instant. The crowd is locked.
func (c *crowd) now() *bucket {
	at := int(time.Since(c.began) / bucketTime)
	if excess := at - c.dropped - 2*bucketsKept; excess > 0 {
		excess += bucketsKept
		c.buckets = slices.Delete(c.buckets, 0, min(excess, len(c.buckets)))
		c.dropped += excess
	}
	for len(c.buckets) <= at-c.dropped {
		c.buckets = append(c.buckets, bucket{})
	}
	return &c.buckets[at-c.dropped]
}

func (c *crowd) note(good bool, f func(*tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.now(); good {
		b.Good++
	} else {
		b.Failed++
	}
	f(&c.tally)
}

// A visitor knows what the site confirmed.
type visitor struct {
	crowd       *crowd
	name        string
	client      http.Client
	random      *rand.Rand
	in          bool // logged in, as far as the visitor was told
	least, most int  // what the count may be: confirmed, and tried
	asked       time.Time
}

func (v *visitor) live(ctx context.Context) {
	wait := time.Duration(v.random.Int64N(int64(thinkTime))) // not all at once
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = thinkTime/2 + time.Duration(v.random.Int64N(int64(thinkTime)))
		if !v.visit() {
			wait = retryTime
		}
	}
}

// visit is one request, which is made to the end even if the crowd is dismissed
// meanwhile. It reports whether there was an answer.
func (v *visitor) visit() bool {
	switch {
	case !v.in:
		return v.login()
	case v.random.IntN(4) == 0:
		return v.look()
	}
	v.most++
	return v.ask(http.MethodPost, "count", nil, func(got answer) {
		if got.User == v.name {
			v.least++ // unlike one that was refused
		}
		v.settle(got)
	})
}

func (v *visitor) login() bool {
	return v.ask(http.MethodPost, "login", url.Values{"user": {v.name}}, func(got answer) {
		v.in, v.least, v.most = true, got.Count, got.Count
	})
}

func (v *visitor) look() bool {
	return v.ask(http.MethodGet, "me", nil, v.settle)
}

// lastLook settles what is open.
func (v *visitor) lastLook() {
	for range 100 {
		if !v.in || v.look() {
			return
		}
		time.Sleep(retryTime)
	}
}

// settle compares an answer with what the visitor was told before. The tally is
// locked.
func (v *visitor) settle(got answer) {
	t := &v.crowd.tally
	switch {
	case got.User == "":
		t.Logouts++
		t.Lost += int64(v.least)
		v.in = false
	case got.User != v.name:
		t.Mixed++
	case got.Count < v.least:
		t.Lost += int64(v.least - got.Count)
		v.least = got.Count
	case got.Count > v.most:
		t.Twice += int64(got.Count - v.most)
		v.least, v.most = got.Count, got.Count
	default:
		v.least = got.Count
	}
}

// ask sends a request and hands a good answer to settle.
func (v *visitor) ask(method, path string, form url.Values, settle func(answer)) bool {
	if v.asked.IsZero() {
		v.asked = time.Now()
	}
	got, ok := v.send(method, path, form)
	v.crowd.note(ok, func(t *tally) {
		t.Gap = max(t.Gap, time.Since(v.asked))
		if !ok {
			t.Failed++
			return
		}
		t.Requests++
		settle(got)
	})
	if ok {
		v.asked = time.Time{}
	}
	return ok
}

func (v *visitor) send(method, path string, form url.Values) (got answer, ok bool) {
	req, err := http.NewRequest(method, v.crowd.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, false
	}
	req.Header.Set("Accept", "application/json")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := v.client.Do(req)
	if err != nil {
		return answer{}, false
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusUnauthorized {
		_, _ = io.Copy(io.Discard, res.Body)
		return answer{}, false
	}
	return got, json.NewDecoder(res.Body).Decode(&got) == nil
}
