// Package loopback gives tests ports of 127.0.0.1 that stay theirs, for servers that
// are told a port, and for those that go and come back on it. A port that was free a
// moment ago is no such thing: the next listener or connection may have it.
package loopback

import (
	"net"
	"strconv"
)

const host = "127.0.0.1"

// Reserve keeps a port until release, port 0 any free one. Others can listen on it
// meanwhile if they know its number, one after the other; dials are refused while
// nobody does. On systems other than Linux nothing keeps the port.
func Reserve(port int) (got int, release func(), err error) { return reserve(port) }

// A TB is what [Addr] needs of a test, for programs that are none.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// Addr reserves a free port until t ends, and returns it with its host.
func Addr(t TB) string {
	t.Helper()
	port, release, err := Reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return net.JoinHostPort(host, strconv.Itoa(port))
}
