package main

import (
	"flag"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/browsertest"
)

var updateScreenshots = flag.Bool("update-screenshots", false, "take the picture of docs/screenshots again, which takes two minutes")

// The picture in the documentation is what the page looks like after a server was
// stopped in each way, and the Redis primary killed in the last.
func TestScreenshots(t *testing.T) {
	if !*updateScreenshots {
		t.Skip("the picture is taken by hand: go test -run 'TestScreenshots$' ./examples/cluster -update-screenshots")
	}
	needsRedis(t)
	g := open(t)
	for _, w := range ways {
		g.press("control/way", "way", string(w))
		time.Sleep(12 * time.Second)
		g.press("control/stop", "server", "B")
		time.Sleep(6 * time.Second)
	}
	g.press("control/redis/kill")
	time.Sleep(8 * time.Second)
	g.press("control/redis/start")
	g.press("control/start", "server", "B")
	g.await("redis-1.state", "replica")
	w := openWindow(t, g.URL, browsertest.Options{})
	w.login()
	time.Sleep(2 * time.Second)
	w.Picture("../../docs/screenshots/cluster.png", browsertest.View{Width: 1000})
}
