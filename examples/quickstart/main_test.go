package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sojourn-go/session/internal/programtest"
	"github.com/sojourn-go/session/internal/redistest"
)

func visitsPage(n int, store string) string {
	return fmt.Sprintf("Visit %d, kept in %s.\n", n, store)
}

func expect(t *testing.T, got programtest.Page, want string) {
	t.Helper()
	if got.Status != http.StatusOK || got.Body != want {
		t.Errorf("got %d %q, want 200 %q", got.Status, got.Body, want)
	}
}

func TestQuickstartCountsInMemory(t *testing.T) {
	p := programtest.Start(t, programtest.Build(t))
	v, other := programtest.NewVisitor(t), programtest.NewVisitor(t)
	for n := 1; n <= 3; n++ {
		expect(t, v.Open(p.URL), visitsPage(n, "memory"))
	}
	expect(t, other.Open(p.URL), visitsPage(1, "memory"))
	if got := v.Open(p.URL + "favicon.ico").Status; got != http.StatusNotFound {
		t.Errorf("favicon.ico: %d, want 404: it must not count as a visit", got)
	}
	expect(t, v.Open(p.URL), visitsPage(4, "memory"))
	p.Stop()
}

// clicks opens the page n times at once and checks that each count from first
// on was shown to exactly one of them (C2).
func clicks(t *testing.T, v *programtest.Visitor, urls []string, first, n int, store string) {
	t.Helper()
	pages := make([]programtest.Page, n)
	var wg sync.WaitGroup
	for i := range pages {
		wg.Go(func() { pages[i] = v.Open(urls[i%len(urls)]) })
	}
	wg.Wait()
	seen := make(map[string]int)
	for _, p := range pages {
		seen[p.Body]++
	}
	for i := range n {
		if want := visitsPage(first+i, store); seen[want] != 1 {
			t.Errorf("%q was shown %d times, want once", want, seen[want])
		}
	}
}

func TestQuickstartC2ParallelClicksAreExactInMemory(t *testing.T) {
	p := programtest.Start(t, programtest.Build(t))
	v := programtest.NewVisitor(t)
	expect(t, v.Open(p.URL), visitsPage(1, "memory"))
	clicks(t, v, []string{p.URL}, 2, 50, "memory")
	expect(t, v.Open(p.URL), visitsPage(52, "memory"))
	v.Leave()
	p.Stop()
}

// Sessions on Redis outlive the process, and processes share them. The cookie is
// one of plain http, which the jar sends to every port of the host, as browsers
// do.
func TestQuickstartOnRedis(t *testing.T) {
	path := programtest.Build(t)
	url := "unix://" + redistest.Start(t, redistest.Config{}).Socket
	v := programtest.NewVisitor(t)

	first := programtest.Start(t, path, "-store", url)
	for n := 1; n <= 3; n++ {
		expect(t, v.Open(first.URL), visitsPage(n, "unix"))
	}
	first.Kill()

	second := programtest.Start(t, path, "-store", url)
	expect(t, v.Open(second.URL), visitsPage(4, "unix"))

	third := programtest.Start(t, path, "-store", url)
	expect(t, v.Open(third.URL), visitsPage(5, "unix"))
	clicks(t, v, []string{second.URL, third.URL}, 6, 50, "unix")
	expect(t, v.Open(second.URL), visitsPage(56, "unix"))
	v.Leave()
	second.Stop()
	third.Stop()
}

// A dead Redis is a 503 that keeps the visitor's cookie, not a count of 1 (the
// fourth promise).
func TestQuickstartTellsWhenRedisIsAway(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	p := programtest.Start(t, programtest.Build(t), "-store", "redis://user:s3cret@"+server.Addr)
	v := programtest.NewVisitor(t)
	got := v.Open(p.URL) // the server knows no such user
	if got.Status != http.StatusServiceUnavailable || strings.Contains(got.Body+p.Log(), "s3cret") {
		t.Errorf("got %d %q, log %q; want 503 without the password", got.Status, got.Body, p.Log())
	}

	p = programtest.Start(t, programtest.Build(t), "-store", "redis://"+server.Addr)
	expect(t, v.Open(p.URL), visitsPage(1, "redis"))
	before := v.Cookies(p.URL)
	server.Stop()
	if got := v.Open(p.URL); got.Status != http.StatusServiceUnavailable || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("with Redis away: %d, Set-Cookie %q; want 503 and none", got.Status, got.Header.Get("Set-Cookie"))
	}
	if after := v.Cookies(p.URL); len(before) != 1 || len(after) != 1 || after[0].String() != before[0].String() {
		t.Error("with Redis away the visitor's cookie changed")
	}
	p.Stop()
}
