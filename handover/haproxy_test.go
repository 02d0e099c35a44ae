package handover_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/loopback"
)

// The real HAProxy, with the two lines that docs/handover.md gives: while a server
// hands over, its visitors stay there and new ones go elsewhere; when everything
// was handed over its visitors go elsewhere, and are logged in.
func TestHAProxySendsNoNewVisitorsToAServerThatLeaves(t *testing.T) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("no haproxy on this machine; Debian's package is haproxy")
	}
	store := new(session.MemoryStore)
	shared := &faulty{Store: store}
	leaves, stays := startBackend(t, "leaves", shared), startBackend(t, "stays", &faulty{Store: store})
	site := startHAProxy(t, program, leaves, stays)

	ann := newBrowser(t, site)
	await(t, "a visitor came to the server that is going to leave", func() bool {
		ann = newBrowser(t, site)
		status, _ := ann.get("/login?user=ann")
		return status == http.StatusOK && ann.server() == "leaves"
	})
	ann.want("/count", "")

	moving, here := make(chan struct{}), make(map[uuid.UUID]bool)
	for id := range leaves.local.All() {
		here[id] = true
	}
	shared.decide(func(_ string, id uuid.UUID, _ uint64) fate {
		if here[id] {
			<-moving
		}
		return happens
	})
	drained := make(chan error, 1)
	go func() {
		_, err := leaves.store.Drain(context.WithoutCancel(t.Context()))
		drained <- err
	}()
	await(t, "new visitors go elsewhere", func() bool {
		for range 10 {
			b := newBrowser(t, site)
			if b.get("/login?user=new"); b.server() != "stays" {
				return false
			}
		}
		return true
	})
	for range 10 {
		if ann.want("/count", ""); ann.server() != "leaves" {
			t.Fatalf("sent to %q before the session was moved", ann.server())
		}
	}
	close(moving)
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	await(t, "old visitors go elsewhere", func() bool {
		ann.want("/look", "ann 11")
		return ann.server() == "stays"
	})
}

func startHAProxy(t *testing.T, program string, backends ...*backend) (site string) {
	t.Helper()
	addr := loopback.Addr(t)
	var config strings.Builder
	fmt.Fprintf(&config, `
global
	maxconn 200
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
	timeout check 30s
frontend site
	bind %s
	default_backend servers
backend servers
	balance roundrobin
	cookie server insert indirect nocache
	option redispatch
	option httpchk GET /health?moving=404
	http-check disable-on-404
	default-server check inter 100ms fall 2 rise 1
`, addr)
	for _, b := range backends {
		fmt.Fprintf(&config, "\tserver %s %s cookie %s\n", b.name, strings.TrimPrefix(b.url, "http://"), b.name)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", path)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	await(t, "haproxy answers", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "http://" + addr
}

// A browser keeps cookies, the balancer's as well.
type browser struct {
	*visitor
}

func newBrowser(t *testing.T, site string) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{&visitor{crowd: &crowd{t: t}, url: site, client: &http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true},
	}}}
}

func (b browser) server() string {
	site, _ := url.Parse(b.url)
	for _, c := range b.client.Jar.Cookies(site) {
		if c.Name == "server" {
			return c.Value
		}
	}
	return ""
}

func (b browser) want(path, body string) {
	b.t.Helper()
	if status, got := b.get(path); status != http.StatusOK || body != "" && got != body {
		b.t.Errorf("%s: %d %q, want 200 %q", path, status, got, body)
	}
}
