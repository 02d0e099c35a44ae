package main

import (
	"slices"
	"strings"
)

// A way is how the servers keep sessions.
type way string

const (
	stickyMemory way = "memory"
	stickyDrain  way = "drain"
	sharedRedis  way = "redis"
)

var ways = []way{stickyMemory, stickyDrain, sharedRedis}

func (w way) known() bool { return slices.Contains(ways, w) }

// sticky reports whether the balancer has to send a visitor to the server that
// has the session.
func (w way) sticky() bool { return w != sharedRedis }

func (w way) NeedsRedis() bool { return w != stickyMemory }

func (w way) Title() string {
	switch w {
	case stickyMemory:
		return "Sticky memory"
	case stickyDrain:
		return "Sticky memory with drain"
	}
	return "Shared Redis"
}

// About is for people who see the ways for the first time.
func (w way) About() string {
	switch w {
	case stickyMemory:
		return "Each server keeps its visitors’ sessions in its own memory. The balancer sends a visitor back to the same server."
	case stickyDrain:
		return "The same, but a server that is stopped in good order hands its sessions to Redis first."
	}
	return "All servers keep all sessions in Redis. The balancer sends a visitor to any of them."
}

// inText is the title inside a sentence.
func (w way) inText() string { return strings.Replace(w.Title(), "S", "s", 1) }
