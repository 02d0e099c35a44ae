package main

import (
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/browsertest"
)

// A window is somebody at the page with a real browser.
type window struct {
	*browsertest.Browser
	t *testing.T
}

func openWindow(t *testing.T, url string, o browsertest.Options) *window {
	t.Helper()
	w := &window{browsertest.Start(t, o), t}
	w.Open(url)
	return w
}

func (w *window) login() {
	w.t.Helper()
	w.Type("input[name=user]", "alice")
	w.Follow("#login")
	w.Follow("#plus")
	w.Follow("#plus")
	w.isLoggedIn("2")
}

func (w *window) isLoggedIn(count string) {
	w.t.Helper()
	if user, n := w.Text("#user"), w.Text("#count"); user != "alice" || n != count {
		w.t.Errorf("the page shows %q with a count of %q, want alice with %s:\n%s", user, n, count, w.Text(".you"))
	}
}

func (w *window) isLoggedOut() {
	w.t.Helper()
	if w.Count("#nobody") != 1 {
		w.t.Errorf("the page does not say that nobody is logged in:\n%s", w.Text(".you"))
	}
}

// end presses a button of the server that answered, and waits until that is down.
func (w *window) end(button string) {
	w.t.Helper()
	name := w.Text("#answered")
	w.Click(`button[aria-label="` + button + " server " + name + `"]`)
	w.becomes("#server-"+name, "down")
}

func (w *window) becomes(css, state string) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); w.Count(css+"[data-state="+state+"]") == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is not %s: %s", css, state, w.Text(css))
		}
	}
}

func (w *window) quiet() {
	w.t.Helper()
	for _, line := range w.Console() {
		w.t.Errorf("the browser complains: %s", line)
	}
}

// Whoever is logged in on a server that is killed is logged out with plain memory,
// and stays with shared Redis. The page says so honestly.
func TestKillTheServerThatAnswered(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		w := openWindow(t, start(t, "-visitors", "4").URL, browsertest.Options{})
		w.login()
		w.end("Kill")
		w.Reload()
		w.isLoggedOut()
		w.quiet()
	})
	t.Run("redis", func(t *testing.T) {
		needsRedis(t)
		w := openWindow(t, start(t, "-visitors", "4", "-way", "redis").URL, browsertest.Options{})
		w.login()
		w.end("Kill")
		w.Reload()
		w.isLoggedIn("2")
		w.Follow("#plus")
		w.isLoggedIn("3")
		w.quiet()
	})
}

// A server that is stopped in good order takes sessions along as well, if they
// are only in its memory and it does not hand them over.
func TestStopTheServerThatAnswered(t *testing.T) {
	for _, c := range []struct {
		way   way
		stays bool
	}{{stickyMemory, false}, {stickyDrain, true}, {sharedRedis, true}} {
		t.Run(string(c.way), func(t *testing.T) {
			if c.way.NeedsRedis() {
				needsRedis(t)
			}
			w := openWindow(t, start(t, "-visitors", "4", "-way", string(c.way)).URL, browsertest.Options{})
			w.login()
			w.end("Stop")
			w.Reload()
			if c.stays {
				w.isLoggedIn("2")
			} else {
				w.isLoggedOut()
			}
			w.quiet()
		})
	}
}

// While a replica takes the place of the primary nobody is logged out, and the
// visitor is there again soon.
func TestKillTheRedisPrimary(t *testing.T) {
	needsRedis(t)
	w := openWindow(t, start(t, "-visitors", "4", "-way", "redis").URL, browsertest.Options{})
	w.login()
	w.Wait(".boxes [data-state=primary]")
	primary := "#" + w.Script(`return document.querySelector(".boxes [data-state=primary]").id`).(string)
	w.Click("#redis-kill")
	w.becomes(primary, "down")
	killed := time.Now()
	for w.Reload(); w.Count("#away") > 0; w.Reload() {
		if time.Since(killed) > time.Minute {
			t.Fatal("no answer for a minute")
		}
	}
	t.Logf("logged in again %v after the page showed the death", time.Since(killed).Round(10*time.Millisecond))
	w.isLoggedIn("2")
	w.Click("#redis-start")
	w.becomes(primary, "replica")
	w.Follow("#plus")
	w.isLoggedIn("3")
}

// Without JavaScript the page does the same after each click.
func TestPageWithoutScript(t *testing.T) {
	w := openWindow(t, start(t, "-visitors", "4").URL, browsertest.Options{NoScript: true})
	w.login()
	name := w.Text("#answered")
	w.Follow(`button[aria-label="Kill server ` + name + `"]`)
	if w.Count("#server-"+name+"[data-state=down]") != 1 {
		t.Errorf("server %s is not down: %s", name, w.Text("#servers"))
	}
	w.isLoggedOut()
	if got := w.Text("noscript"); !strings.Contains(got, "Without JavaScript") {
		t.Errorf("the page says %q of the figures", got)
	}
}

// No page is wider than a small phone.
func TestPageFitsAPhone(t *testing.T) {
	w := openWindow(t, start(t, "-visitors", "4").URL, browsertest.Options{})
	w.Look(browsertest.View{Width: 320, Height: 640, Phone: true})
	w.login()
	if wide := w.Script("return document.documentElement.scrollWidth"); wide != 320.0 {
		t.Errorf("the page is %v pixels wide, want 320", wide)
	}
}
