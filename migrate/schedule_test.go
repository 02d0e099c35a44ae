package migrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// Several servers of two adjacent phases work on one session. A scheduler decides,
// call by call, whose call reaches its store next, and what becomes of it: done,
// lost on the way there, done with its answer lost, or held and done at any later
// time. What the servers were told has to have an order in which a single plain
// store says the same.

var errLost = errors.New("no answer came")

// A fate is what becomes of one call to a store.
type fate int

const (
	done fate = iota
	lost      // before it took effect
	replyLost
	held // done later, when its sender has given up
)

type call struct {
	what   string
	do     func()
	answer chan fate
}

// A scheduler runs clients one step at a time.
type scheduler struct {
	rng     *rand.Rand
	faults  float64
	pending []*call
	late    []*call
	idle    chan *call // from a client that waits, or nil from one that is done
	clock   int
	log     []string
}

// gated is a store whose every call waits for the scheduler.
type gated struct {
	session.Store
	name string
	s    *scheduler
}

func (g gated) pass(what string, do func()) error {
	c := &call{fmt.Sprintf("%s.%s", g.name, what), do, make(chan fate)}
	g.s.idle <- c
	if f := <-c.answer; f != done {
		return errLost
	}
	return nil
}

func (g gated) Load(ctx context.Context, id uuid.UUID) (rec session.Record, err error) {
	if lost := g.pass("Load", func() { rec, err = g.Store.Load(ctx, id) }); lost != nil {
		return session.Record{}, lost
	}
	return rec, err
}

func (g gated) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	var rec session.Record
	var err error
	if lost := g.pass(fmt.Sprintf("Save(%d, %d)", prev, next.Version), func() { rec, err = g.Store.Save(ctx, id, prev, next, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return rec, err
}

func (g gated) Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error {
	var err error
	if lost := g.pass("Touch", func() { err = g.Store.Touch(ctx, id, version, ttl) }); lost != nil {
		return lost
	}
	return err
}

func (g gated) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	var err error
	if lost := g.pass(fmt.Sprintf("Delete(%d)", version), func() { err = g.Store.Delete(ctx, id, version) }); lost != nil {
		return lost
	}
	return err
}

// run returns when all clients are done. What is late by then may still come.
func (s *scheduler) run(clients []func()) {
	for _, c := range clients {
		go func() { c(); s.idle <- nil }()
		s.settle() // up to its first call
	}
	for len(s.pending) > 0 {
		if len(s.late) > 0 && s.rng.Float64() < 0.1 {
			s.arrive()
			continue
		}
		i := s.rng.IntN(len(s.pending))
		c := s.pending[i]
		s.pending = slices.Delete(s.pending, i, i+1)
		s.decide(c)
		s.settle()
	}
}

// arrive lets one of the late calls take effect, which nobody waits for.
func (s *scheduler) arrive() {
	i := s.rng.IntN(len(s.late))
	s.late[i].do()
	s.note("late: %s", s.late[i].what)
	s.late = slices.Delete(s.late, i, i+1)
}

// settle waits for the one client that runs.
func (s *scheduler) settle() {
	if c := <-s.idle; c != nil {
		s.pending = append(s.pending, c)
	}
}

func (s *scheduler) decide(c *call) {
	f := done
	if s.rng.Float64() < s.faults {
		f = fate(1 + s.rng.IntN(3))
	}
	if f == done || f == replyLost {
		c.do()
	}
	if f == held {
		s.late = append(s.late, c)
	}
	s.note("%s %s", [...]string{"done:", "lost:", "reply lost:", "held:"}[f], c.what)
	c.answer <- f
}

func (s *scheduler) note(format string, args ...any) {
	s.clock++
	s.log = append(s.log, fmt.Sprintf("%3d ", s.clock)+fmt.Sprintf(format, args...))
}

// An op is what a client asked for and was told.
type op struct {
	kind       string
	prev, next uint64
	err        error
	live       uint64
	from, to   int
}

func (o op) String() string {
	return fmt.Sprintf("%d-%d %s(%d, %d) = %d, %v", o.from, o.to, o.kind, o.prev, o.next, o.live, o.err)
}

// unknown outcomes may come about at any time later, or never.
func (o op) unknown() bool {
	return o.err != nil && !errors.Is(o.err, session.ErrNotFound) && !errors.Is(o.err, session.ErrConflict)
}

// on says what a plain store would make of it, and whether it would say the same.
func (o op) on(state uint64) (next uint64, same bool) {
	var err error
	next = state
	switch {
	case o.kind == "load":
		if state == 0 {
			err = session.ErrNotFound
		}
		return state, o.unknown() || o.err == err && o.live == state
	case o.kind == "delete" && (state == 0 || o.prev == 0 || o.prev == state):
		next = 0
	case o.kind != "delete" && state == 0 && o.prev != 0:
		err = session.ErrNotFound
	case o.prev != state:
		err = session.ErrConflict
	case o.kind == "save":
		next = o.next
	}
	return next, o.unknown() || errors.Is(o.err, err) && (o.live == 0 || o.live == state)
}

// explained reports whether the ops have an order that a plain store could have had.
func explained(ops []op, start uint64) bool {
	type point struct {
		done  uint64
		state uint64
	}
	seen := make(map[point]bool)
	var try func(p point) bool
	try = func(p point) bool {
		if seen[p] {
			return false
		}
		seen[p] = true
		ended, complete := math.MaxInt, true
		for i, o := range ops {
			if p.done&(1<<i) == 0 && !o.unknown() {
				complete, ended = false, min(ended, o.to)
			}
		}
		if complete {
			return true
		}
		for i, o := range ops {
			if p.done&(1<<i) != 0 || o.from > ended {
				continue
			}
			if next, same := o.on(p.state); same && try(point{p.done | 1<<i, next}) {
				return true
			}
		}
		return false
	}
	return try(point{0, start})
}

// A crew is who works on the session at once.
type crew struct {
	name   string
	phases []Phase // 0: the old store alone; past NewOnly: the new one alone
	starts []string
}

const (
	plainOld Phase = 0
	plainNew       = NewOnly + 1
)

var crews = []crew{
	{"the old store alone and write-old", []Phase{plainOld, WriteOld}, []string{"old", "none"}},
	{"write-old", []Phase{WriteOld}, everyStart},
	{"write-old and write-new", []Phase{WriteOld, WriteNew}, everyStart},
	{"write-new", []Phase{WriteNew}, everyStart},
	{"write-new and new-only", []Phase{WriteNew, NewOnly}, []string{"new", "none", "hold", "new, envelope", "envelope alone"}},
	{"new-only and the new store alone", []Phase{NewOnly, plainNew}, []string{"new", "none"}},
}

var everyStart = []string{"none", "old", "old, hold", "new", "envelope", "new, envelope", "hold", "envelope alone", "envelope alone, hold"}

// begin makes a start, and returns the version that is live then.
func begin(t *testing.T, start string, old, new session.Store, id uuid.UUID) uint64 {
	t.Helper()
	put := func(s session.Store, rec session.Record) {
		if _, err := s.Save(t.Context(), id, 0, rec, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	rec, hold, named := session.Record{Version: 1, Owner: "ann", Data: []byte("1")}, newHold("ann"), newHold("ann").Version
	if start == "envelope" {
		named = hold.Version
	}
	if strings.HasPrefix(start, "old") {
		put(old, rec)
	}
	if strings.HasPrefix(start, "new") {
		put(new, rec)
	}
	if strings.Contains(start, "envelope") {
		put(old, seal(rec, named))
	}
	if strings.Contains(start, "hold") || start == "envelope" {
		put(new, hold)
	}
	if start == "none" || start == "hold" || strings.HasPrefix(start, "envelope alone") {
		return 0
	}
	return 1
}

// A server is a client's program: a few calls at random, each with a version that
// it knows, and the same Save again when its outcome is not known.
type server struct {
	store   session.Store
	s       *scheduler
	rng     *rand.Rand
	id      uuid.UUID
	known   uint64
	next    uint64
	creates bool
	ops     *[]op
}

func (c *server) work(n int) {
	for range n {
		o := op{kind: [...]string{"load", "load", "save", "save", "touch", "delete"}[c.rng.IntN(6)], prev: c.known}
		switch {
		case o.kind == "load":
			o.prev = 0
		case o.kind == "delete" && c.rng.IntN(2) == 0:
			o.prev = 0
		case o.prev == 0 && (o.kind != "save" || !c.creates):
			o.prev = 1
		}
		if o.kind == "save" {
			c.next++
			o.next = c.next
		}
		if o.prev == 0 && o.kind == "save" {
			c.creates = false // an ID is created once
			c.send(o)
			continue
		}
		for range 3 {
			if o = c.send(o); !o.unknown() {
				break
			}
		}
	}
}

func (c *server) send(o op) op {
	o.from, o.live = c.s.clock, 0
	switch o.kind {
	case "load":
		var rec session.Record
		rec, o.err = c.store.Load(context.Background(), c.id)
		o.live, c.known = checked(rec), rec.Version
	case "save":
		var rec session.Record
		rec, o.err = c.store.Save(context.Background(), c.id, o.prev, session.Record{Version: o.next, Owner: "ann", Data: fmt.Append(nil, o.next)}, time.Hour)
		o.live = checked(rec)
		switch {
		case o.err == nil:
			c.known = o.next
		case errors.Is(o.err, session.ErrNotFound):
			c.known = 0
		case o.live != 0:
			c.known = o.live
		}
	case "touch":
		o.err = c.store.Touch(context.Background(), c.id, o.prev, time.Hour)
	case "delete":
		o.err = c.store.Delete(context.Background(), c.id, o.prev)
	}
	o.to = c.s.clock
	*c.ops = append(*c.ops, o)
	return o
}

// checked is a record's version, if the rest of it is of that version.
func checked(rec session.Record) uint64 {
	if rec.Version != 0 && (string(rec.Data) != fmt.Sprint(rec.Version) || rec.Owner != "ann" || rec.TTL <= 0) {
		return 1 << 63 // which nobody saved
	}
	return rec.Version
}

// play returns what happened, if it has no explanation.
func play(t *testing.T, c crew, seed uint64, faults float64, spoil func(session.Store) session.Store) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &scheduler{rng: rng, faults: faults, idle: make(chan *call)}
	id := uuid.New()
	memOld, memNew := session.Store(new(session.MemoryStore)), session.Store(new(session.MemoryStore))
	start := c.starts[rng.IntN(len(c.starts))]
	live := begin(t, start, memOld, memNew, id)
	old, new := session.Store(gated{memOld, "old", s}), session.Store(gated{spoil(memNew), "new", s})
	var ops []op
	var clients []func()
	creator := rng.IntN(3)
	for i := range 3 {
		phase := c.phases[(i+int(seed))%len(c.phases)]
		srv := &server{store: old, s: s, id: id, known: live, next: uint64(100 * (i + 1)), creates: i == creator && live == 0, ops: &ops, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		switch phase {
		case plainOld:
		case plainNew:
			srv.store = new
		default:
			m, err := New(Config{Old: old, New: new, Phase: phase})
			if err != nil {
				t.Fatal(err)
			}
			srv.store = m
		}
		clients = append(clients, func() { srv.work(3) })
	}
	s.run(clients)
	s.faults = 0 // whoever comes last has to see what was left
	phase := c.phases[rng.IntN(len(c.phases))]
	last := &server{store: old, s: s, id: id, ops: &ops}
	if phase == plainNew {
		last.store = new
	} else if phase != plainOld {
		last.store, _ = New(Config{Old: old, New: new, Phase: phase})
	}
	s.run([]func(){func() { last.send(op{kind: "load"}) }})
	for len(s.late) > 0 {
		s.arrive()
		s.run([]func(){func() { last.send(op{kind: "load"}) }})
	}
	if explained(ops, live) {
		return ""
	}
	var story strings.Builder
	fmt.Fprintf(&story, "seed %d, start %q, phases %v, version %d live\n%s\n", seed, start, c.phases, live, strings.Join(s.log, "\n"))
	for _, o := range ops {
		fmt.Fprintln(&story, o)
	}
	return story.String()
}

func asItIs(s session.Store) session.Store { return s }

func TestServersOfTwoPhasesAreOneStore(t *testing.T) {
	n := uint64(2000)
	if testing.Short() {
		n = 400
	}
	for _, c := range crews {
		t.Run(c.name, func(t *testing.T) {
			for seed := range n {
				if story := play(t, c, seed, float64(seed%3)*0.1, asItIs); story != "" {
					t.Fatalf("what the servers were told has no order:\n%s", story)
				}
			}
		})
	}
}

// forgetful takes a write over a hold for a creation, as a move without a hold
// would be.
type forgetful struct{ session.Store }

func (s forgetful) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	live, err := s.Store.Save(ctx, id, prev, next, ttl)
	if errors.Is(err, session.ErrNotFound) && tagged(prev) {
		return s.Store.Save(ctx, id, 0, next, ttl)
	}
	return live, err
}

func TestSchedulesFindAMoveWithoutAHold(t *testing.T) {
	for seed := range uint64(20_000) {
		if play(t, crews[2], seed, 0.2, func(s session.Store) session.Store { return forgetful{s} }) != "" {
			return
		}
	}
	t.Fatal("a session that was logged out came back by a late write, and nobody noticed")
}
