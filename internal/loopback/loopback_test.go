package loopback_test

import (
	"errors"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/sojourn-go/session/internal/loopback"
)

// The port is listened on twice, and nobody else gets it while nobody listens.
func TestReservedPortStaysOurs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reserving a port is done with Linux's rules for SO_REUSEADDR")
	}
	addr := loopback.Addr(t)
	_, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	if _, _, err := loopback.Reserve(number); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("reserved a second time: %v", err)
	}
	for range 2 {
		wantRefused(t, addr)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Close(), l.Close()
	}
	wantRefused(t, addr)
}

// Of 28,000 ports 200 are reserved, so that a kernel that did not care would hand out
// three or four of them here.
func TestReservedPortIsNotHandedOut(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reserving a port is done with Linux's rules for SO_REUSEADDR")
	}
	reserved := map[string]bool{}
	for range 200 {
		reserved[loopback.Addr(t)] = true
	}
	if len(reserved) != 200 {
		t.Fatalf("%d ports of 200 are different", len(reserved))
	}
	for range 500 {
		if addr := loopback.Addr(t); reserved[addr] {
			t.Fatal("reserved twice: ", addr)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if reserved[l.Addr().String()] || reserved[c.LocalAddr().String()] {
			t.Fatal("a reserved port was handed out")
		}
	}
}

func wantRefused(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
}
