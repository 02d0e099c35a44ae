//go:build !linux

package session

import "time"

var clockBegan = time.Now()

// threadCPU is the clock on the wall where a thread's own time cannot be had.
func threadCPU() time.Duration { return time.Since(clockBegan) }
