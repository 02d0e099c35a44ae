package main

import "syscall"

// cpuMicroseconds is what this process has used of the processors so far.
func cpuMicroseconds() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / 1000
}
