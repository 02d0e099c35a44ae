package linear

import (
	"errors"
	"fmt"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

type kind int

const (
	load kind = iota
	save
	touch
	remove
)

// A call is what a client asked of one session. Versions stand for records: each
// save has one of its own, unless it repeats one whose outcome was not told.
type call struct {
	id         uuid.UUID
	kind       kind
	prev, next uint64
}

// A reply is what the store said.
type reply struct {
	err  error  // nil, ErrNotFound, ErrConflict, or errUnknown
	live uint64 // the version that a load or a conflict showed
}

var errUnknown = errors.New("the outcome is unknown")

// model is the contract (C1) for one session, whose state is the version of its
// record, 0 for none. A call whose outcome is unknown may have happened at any
// time after it was made, or never.
var model = porcupine.NondeterministicModel{
	Partition: bySession,
	Init:      func() []any { return []any{uint64(0)} },
	Step: func(state, input, output any) []any {
		before, c, r := state.(uint64), input.(call), output.(reply)
		after, want := apply(before, c)
		if errors.Is(r.err, errUnknown) {
			return []any{before, after}
		}
		if !errors.Is(r.err, want.err) || (r.err == nil) != (want.err == nil) || r.live != want.live {
			return nil
		}
		return []any{after}
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		c, r := input.(call), output.(reply)
		return fmt.Sprintf("%s %x→%x: %x %v", [...]string{"load", "save", "touch", "delete"}[c.kind], c.prev, c.next, r.live, r.err)
	},
}

func apply(before uint64, c call) (after uint64, says reply) {
	switch {
	case c.kind == remove && (before == 0 || c.prev == 0):
		return 0, reply{}
	case c.kind == load && before != 0:
		return before, reply{live: before}
	case c.kind == save && c.prev == 0 && before == 0:
		return c.next, reply{}
	case before == 0:
		return before, reply{err: session.ErrNotFound}
	case c.prev != before:
		says := reply{err: session.ErrConflict}
		if c.kind == save {
			says.live = before
		}
		return before, says
	}
	switch c.kind {
	case save:
		return c.next, reply{}
	case remove:
		return 0, reply{}
	}
	return before, reply{}
}

func bySession(history []porcupine.Operation) [][]porcupine.Operation {
	parts := make(map[uuid.UUID][]porcupine.Operation)
	for _, op := range history {
		id := op.Input.(call).id
		parts[id] = append(parts[id], op)
	}
	var all [][]porcupine.Operation
	for _, part := range parts {
		all = append(all, part)
	}
	return all
}
