package loopback

import (
	"fmt"
	"os"
	"syscall"
)

// reserve binds a socket to the port and never listens: who connects is refused.
// Bound without SO_REUSEADDR it shares the port with nobody, and with the option set
// afterwards it lets those listen that set it too, as nearly every server does. The
// kernel hands out no port that is bound, neither to listeners nor to connections.
func reserve(port int) (int, func(), error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, os.NewSyscallError("socket", err)
	}
	release := func() { _ = syscall.Close(fd) }
	got, err := bindAlone(fd, port)
	if err != nil {
		release()
		return 0, nil, fmt.Errorf("loopback: port %d: %w", port, err)
	}
	return got, release, nil
}

func bindAlone(fd, port int) (int, error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return bound.(*syscall.SockaddrInet4).Port, nil
}
