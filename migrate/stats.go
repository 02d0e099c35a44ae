package migrate

import (
	"encoding/json"
	"sync/atomic"
	"time"
)

// Stats tell when the old store may be switched off. They are of this process, and
// count from [New] on: the deploy is over when they are quiet on every server.
type Stats struct {
	Phase Phase
	// FromOld is how often the old store had the session that was asked for,
	// LastFromOld when it last did, zero if never.
	FromOld     uint64
	LastFromOld time.Time
	// Quiet is how long the old store has had none: since LastFromOld, or since New
	// was called. Go on to NewOnly when it exceeds Config.IdleTimeout on every server.
	Quiet time.Duration
	// FromNew is how often the new store had it.
	FromNew uint64
	// Moved is how many sessions this process moved.
	Moved uint64
}

type stats struct {
	since                   time.Time
	fromOld, fromNew, moved atomic.Uint64
	last                    atomic.Pointer[time.Time]
}

func (s *stats) answeredByOld() {
	now := time.Now()
	s.fromOld.Add(1)
	s.last.Store(&now)
}

// Stats returns the counts so far.
func (s *mover) Stats() Stats {
	st := Stats{Phase: s.phase, FromOld: s.stats.fromOld.Load(), FromNew: s.stats.fromNew.Load(), Moved: s.stats.moved.Load()}
	quietSince := s.stats.since
	if last := s.stats.last.Load(); last != nil {
		st.LastFromOld, quietSince = *last, *last
	}
	st.Quiet = time.Since(quietSince)
	return st
}

// String returns the Stats as JSON, for expvar.Publish.
func (s *mover) String() string {
	st := s.Stats()
	text, _ := json.Marshal(struct { // strings, numbers and a time within range have no way to fail
		Phase   string     `json:"phase"`
		FromOld uint64     `json:"from_old"`
		Last    *time.Time `json:"last_from_old"`
		Quiet   float64    `json:"old_quiet_seconds"`
		FromNew uint64     `json:"from_new"`
		Moved   uint64     `json:"moved"`
	}{st.Phase.String(), st.FromOld, s.stats.last.Load(), st.Quiet.Truncate(time.Millisecond).Seconds(), st.FromNew, st.Moved})
	return string(text)
}
