package handover_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/handover"
	"github.com/sojourn-go/session/internal/redistest"
)

// What a Load of a session in memory costs more than in a MemoryStore alone: both
// in turns, and the ratio of their fastest turns.
func BenchmarkLoadInMemory(b *testing.B) {
	const n = 1 << 14
	local := new(session.MemoryStore)
	var bare session.Store = local
	var whole session.Store = handover.New(local, new(session.MemoryStore))
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
		if _, err := whole.Save(b.Context(), ids[i], 0, session.Record{Version: 1, Data: make([]byte, 300)}, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	run := func(s session.Store) float64 {
		begun := time.Now()
		for _, id := range ids {
			if _, err := s.Load(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(begun).Nanoseconds()) / n
	}
	alone, here := run(bare), run(whole)
	for b.Loop() {
		alone, here = min(alone, run(bare)), min(here, run(whole))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(alone, "ns/MemoryStore")
	b.ReportMetric(here, "ns/handover")
	b.ReportMetric(here/alone, "ratio")
}

// How fast sessions of 300 bytes reach a Redis on this machine.
func BenchmarkDrainToRedis(b *testing.B) {
	const n = 10_000
	server := redistest.Start(b, redistest.Config{})
	client := server.Client(&redis.Options{})
	for b.Loop() {
		b.StopTimer()
		if err := server.Admin().FlushAll(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
		shared, err := session.NewRedisStore(client, session.RedisConfig{})
		if err != nil {
			b.Fatal(err)
		}
		s := handover.New(new(session.MemoryStore), shared)
		for range n {
			if _, err := s.Save(b.Context(), uuid.New(), 0, session.Record{Version: 1, Data: make([]byte, 300)}, time.Hour); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if r, err := s.Drain(b.Context()); err != nil || r.Moved != n {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "sessions/s")
}
