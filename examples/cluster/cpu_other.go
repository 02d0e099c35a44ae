//go:build !linux

package main

// cpuMicroseconds is 0 where it is not known, and the page shows none.
func cpuMicroseconds() int64 { return 0 }
