//go:build !linux

package loopback

import (
	"net"
	"strconv"
)

// reserve only finds a free port: other systems do not let a second socket share it.
func reserve(port int) (int, func(), error) {
	l, err := net.Listen("tcp", host+":"+strconv.Itoa(port))
	if err != nil {
		return 0, nil, err
	}
	return l.Addr().(*net.TCPAddr).Port, func() {}, l.Close()
}
