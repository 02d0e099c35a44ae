package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Done returns a channel that is closed when the secret that this request holds
// is no longer accepted, be it on another server: after a logout, a Login, a
// Renew, a revocation, or when the session has expired. A handler of a WebSocket
// or of server-sent events selects on it and hangs up. It is closed too when the
// request ends.
//
// The secret is the one that the request presented, or, after its own Login or
// Renew was saved, the new one. Done of a request that held none yet returns nil,
// which is never closed: Save first.
//
// What this process ends is told at once, what others end within a second and
// one call to the store: each second one batch of small reads for every thousand
// streams of the manager, none while there are no streams. (A store that is no
// [UserStore] is asked for one record after the other.) A stream is no activity (R4), so
// it ends with the idle timeout unless the visitor sends other requests. While
// the store is away streams stay open, for the idle timeout at most. After
// [Manager.Close] nobody looks any more, and they are closed within a second.
func (s *Session) Done() <-chan struct{} {
	s.look()
	defer s.mu.Unlock()
	w := s.seldom().watcher
	switch {
	case s.closed, s.standing == ended, s.standing == superseded:
		return closedChannel
	case !s.base.exists() && w == nil && !s.cookied && !s.saved:
		return nil
	case !s.base.exists(): // destroyed
		return closedChannel
	}
	if w == nil || !equalHash(s.base.hash(), &w.hash) {
		w = s.x.m.watchFor(&s.base)
		s.rarely().watcher = w
	}
	return w.done
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

const watchEvery = time.Second

// A watch knows the streams of one manager that wait for their session's end. Its
// zero value has none.
type watch struct {
	streams atomic.Int64 // how many there are, for those who only ask whether

	mu       sync.Mutex
	sessions map[uuid.UUID]*watched
	polling  bool
	joined   uint64    // how many ever did
	heard    time.Time // when the store last answered
}

// A watched session has streams.
type watched struct {
	version uint64 // at which all its secrets were good
	streams map[*watcher]struct{}
}

// A watcher is what Done returned, and what it hangs on.
type watcher struct {
	id   uuid.UUID
	hash [hashSize]byte
	end  int64 // of the lifetime, in milliseconds since 1970
	done chan struct{}

	joined uint64 // its place among all that ever did
}

func (m *Manager) watchFor(base *content) *watcher {
	w := &watcher{id: base.id(), end: m.endOf(base), done: make(chan struct{})}
	copy(w.hash[:], base.hash())
	if m.watch.join(w, base.version) {
		time.AfterFunc(watchEvery, m.poll)
	}
	return w
}

// join reports whether nobody polls yet.
func (x *watch) join(w *watcher, version uint64) (first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sessions == nil {
		x.sessions = make(map[uuid.UUID]*watched)
	}
	of := x.sessions[w.id]
	if of == nil {
		of = &watched{version: version, streams: make(map[*watcher]struct{}, 1)}
		x.sessions[w.id] = of
	}
	if of.version != version {
		of.version = 0 // one of the two is old: look
	}
	x.joined++
	w.joined = x.joined
	of.streams[w] = struct{}{}
	x.streams.Add(1)
	first = !x.polling
	if first {
		x.polling, x.heard = true, time.Now()
	}
	return first
}

// leave closes the channel of one stream, if nobody did.
func (x *watch) leave(w *watcher) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if of := x.sessions[w.id]; of != nil {
		x.close(of, w)
	}
}

// close is called with the lock held.
func (x *watch) close(of *watched, w *watcher) {
	if _, open := of.streams[w]; !open {
		return
	}
	close(w.done)
	delete(of.streams, w)
	if len(of.streams) == 0 {
		delete(x.sessions, w.id)
	}
	x.streams.Add(-1)
}

// closeIf closes the streams of a session that want says are to be closed.
func (x *watch) closeIf(id uuid.UUID, want func(*watcher) bool) {
	if x.streams.Load() == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	of := x.sessions[id]
	if of == nil {
		return
	}
	for w := range of.streams {
		if want(w) {
			x.close(of, w)
		}
	}
}

// gone closes the streams of a session that is no more.
func (x *watch) gone(id uuid.UUID) {
	x.closeIf(id, func(*watcher) bool { return true })
}

// replaced closes the streams that hang on a secret which a commit replaced. It
// is told the old one: there may be a third already.
func (x *watch) replaced(id uuid.UUID, old *[hashSize]byte) {
	x.closeIf(id, func(w *watcher) bool { return w.hash == *old })
}

// poll looks after the sessions that have streams, each second while one has.
func (m *Manager) poll() {
	if !m.writes.enter() { // Close
		m.watch.silence(0)
		if m.watch.goOn() { // one joined since
			time.AfterFunc(watchEvery, m.poll)
		}
		return
	}
	defer m.writes.leave()
	if !m.watch.goOn() {
		return
	}
	m.pollOnce()
	time.AfterFunc(watchEvery, m.poll)
}

// goOn reports whether anybody waits. If not, the next who does polls anew.
func (x *watch) goOn() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.polling = len(x.sessions) > 0
	if !x.polling {
		x.sessions = nil // a peak's room
	}
	return x.polling
}

func (m *Manager) pollOnce() {
	ids, known, joined := m.watch.waiting(time.Now().UnixMilli())
	all := true
	for len(ids) > 0 {
		n := min(len(ids), listedAtOnce)
		all = m.pollSome(ids[:n], known[:n], joined) && all
		ids, known = ids[n:], known[n:]
	}
	if all {
		m.watch.answered()
	} else {
		m.watch.silence(m.idle)
	}
}

// pollSome reports whether the store answered.
func (m *Manager) pollSome(ids []uuid.UUID, known []uint64, joined uint64) bool {
	versions, err := m.versions(ids)
	if err != nil {
		return false
	}
	var suspects []uuid.UUID
	for i, version := range versions {
		switch {
		case version == 0:
			m.watch.gone(ids[i])
		case version != known[i]:
			suspects = append(suspects, ids[i])
		}
	}
	m.judgeStreams(suspects, joined)
	return true
}

// waiting closes what is past its lifetime, and returns the rest with the
// versions at which all was well, and who joined last.
func (x *watch) waiting(now int64) (ids []uuid.UUID, versions []uint64, joined uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ids, versions = make([]uuid.UUID, 0, len(x.sessions)), make([]uint64, 0, len(x.sessions))
	for id, of := range x.sessions {
		for w := range of.streams {
			if now >= w.end {
				x.close(of, w)
			}
		}
		if len(of.streams) > 0 {
			ids, versions = append(ids, id), append(versions, of.version)
		}
	}
	return ids, versions, x.joined
}

// silence closes everything when the store has not answered for so long that
// every session may have run out.
func (x *watch) silence(limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if time.Since(x.heard) < limit {
		return
	}
	for _, of := range x.sessions {
		for w := range of.streams {
			x.close(of, w)
		}
	}
}

func (x *watch) answered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = time.Now()
}

// judgeStreams reads the records that changed. Most changes are of values, and
// leave the secret as it was.
func (m *Manager) judgeStreams(suspects []uuid.UUID, joined uint64) {
	if len(suspects) == 0 {
		return
	}
	records, err := m.loadAll(suspects)
	if err != nil {
		return // they are suspects again in a second
	}
	for i, stored := range records {
		base, err := parseRecord(stored, suspects[i])
		if err != nil { // gone, or nothing that a request would be let in with (R15)
			m.watch.gone(suspects[i])
			continue
		}
		m.watch.judge(&base, joined)
	}
}

// judge closes the streams of a session that hang on another secret than base's.
// Of those that joined after base was asked for it may know less than they do.
func (x *watch) judge(base *content, joined uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	of := x.sessions[base.id()]
	if of == nil {
		return
	}
	of.version = base.version
	for w := range of.streams {
		switch {
		case equalHash(base.hash(), &w.hash):
		case w.joined <= joined:
			x.close(of, w)
		default:
			of.version = 0
		}
	}
}

func (m *Manager) versions(ids []uuid.UUID) ([]uint64, error) {
	if m.users != nil {
		ctx, cancel := context.WithTimeout(m.life, m.timeout)
		defer cancel()
		return m.users.Versions(ctx, ids)
	}
	records, err := m.loadAll(ids)
	if err != nil {
		return nil, err
	}
	versions := make([]uint64, len(records))
	for i := range records {
		versions[i] = records[i].Version
	}
	return versions, nil
}

// loadAll asks a store that has no call for many for one after the other, with a
// timeout each: together they would never come to their end.
func (m *Manager) loadAll(ids []uuid.UUID) ([]Record, error) {
	if m.users != nil {
		ctx, cancel := context.WithTimeout(m.life, m.timeout)
		defer cancel()
		return m.users.LoadAll(ctx, ids)
	}
	records := make([]Record, len(ids))
	for i, id := range ids {
		ctx, cancel := context.WithTimeout(m.life, m.timeout)
		stored, err := m.store.Load(ctx, id)
		cancel()
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		records[i] = stored
	}
	return records, nil
}
