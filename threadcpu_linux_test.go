package session

import (
	"syscall"
	"time"
	"unsafe"
)

// threadCPU is the processor time of the calling thread, to the nanosecond, which
// no neighbour's work is part of. Lock the goroutine to the thread. (Getrusage
// counts in ticks of the system's clock.)
func threadCPU() time.Duration {
	const clockThreadCPU = 3 // CLOCK_THREAD_CPUTIME_ID, which package syscall has no name for
	var ts syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPU, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(errno)
	}
	return time.Duration(ts.Nano())
}
