package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
)

// A keep is where one server has its sessions.
type keep struct {
	store    session.Store
	sessions func() int                  // how many are in this server's memory
	health   http.Handler                // 200 while the balancer should send visitors
	leave    func(context.Context) error // before the server ends
	close    func() error
}

func openKeep(w way, url string) (*keep, error) {
	switch w {
	case stickyMemory:
		store := new(session.MemoryStore)
		return plainKeep(store, store.Len, func() error { return nil }), nil
	case sharedRedis:
		store, err := session.Open(url)
		if err != nil {
			return nil, err
		}
		return plainKeep(store, func() int { return 0 }, store.Close), nil
	}
	if w != stickyDrain {
		return nil, fmt.Errorf("cluster: there is no way %q", w)
	}
	shared, err := session.Open(url)
	if err != nil {
		return nil, err
	}
	local := new(session.MemoryStore)
	store := handover.New(local, shared)
	return &keep{
		store:    store,
		sessions: local.Len,
		health:   store.Health(),
		leave:    func(ctx context.Context) error { _, err := store.Drain(ctx); return err },
		close:    shared.Close,
	}, nil
}

// plainKeep is for stores that have nothing to hand over.
func plainKeep(store session.Store, sessions func() int, closeStore func() error) *keep {
	var leaving atomic.Bool
	return &keep{
		store:    store,
		sessions: sessions,
		health: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if leaving.Load() {
				http.Error(w, "leaving", http.StatusServiceUnavailable)
			}
		}),
		leave: func(context.Context) error { leaving.Store(true); return nil },
		close: closeStore,
	}
}

// whatToInstall is for people, on the page and on the terminal.
const whatToInstall = "There is no Redis on this machine: apt-get install redis-server, whose program runs the Sentinels too, without the package redis-sentinel. What needs no Redis works"

var errNoRedis = errors.New("cluster: " + whatToInstall)
