package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/sojourn-go/session"
)

// A Phase is one of the three deploys. The zero value is none of them.
type Phase uint8

// The phases, in their order.
const (
	// WriteOld reads both stores, and writes a session where it is. New ones are
	// made in the old store. Go on when every server is in this phase.
	WriteOld Phase = 1 + iota
	// WriteNew reads both stores, makes new sessions in the new one, and moves
	// those that are saved or touched. Go on when the old store has answered
	// nothing for one idle timeout: [Stats].
	WriteNew
	// NewOnly leaves the old store alone, which may be switched off. The new store
	// without this package does the same.
	NewOnly
)

var phases = [...]string{WriteOld: "write-old", WriteNew: "write-new", NewOnly: "new-only"}

// String returns the word that [ParsePhase] reads.
func (p Phase) String() string {
	if !p.known() {
		return fmt.Sprintf("Phase(%d)", uint8(p))
	}
	return phases[p]
}

func (p Phase) known() bool { return p >= WriteOld && p <= NewOnly }

// ParsePhase reads a phase from a server's configuration: write-old, write-new or
// new-only, so that one environment variable is all that a deploy changes.
func ParsePhase(word string) (Phase, error) {
	for p := WriteOld; p.known(); p++ {
		if word == phases[p] {
			return p, nil
		}
	}
	return 0, fmt.Errorf("session: %q is no phase of a move; write-old is the first, then write-new, then new-only", word)
}

// Config says what is moved where.
type Config struct {
	Old   session.Store // may be nil in NewOnly, which does not use it
	New   session.Store
	Phase Phase

	// Name and Lifetime are those of the Manager's session.Config, by which a
	// user's session finds its way to the list in the new store. So each Manager
	// needs a Store of its own. Name is not needed if one of the stores keeps no
	// lists; a Lifetime of 0 is 12 hours.
	Name     string
	Lifetime time.Duration
}

// A Store is what to give to [session.Config]. It is also a [session.UserStore]
// if both of its stores are, or in NewOnly if the new one is. Its String makes it
// an expvar.Var: the [Stats] as JSON.
//
// Errors of the two stores come back as they are. As in any store, one that is
// neither ErrNotFound nor ErrConflict leaves the outcome unknown (C5).
type Store interface {
	session.Store
	Stats() Stats
	String() string
}

// New returns a store that keeps sessions in cfg.Old, cfg.New or both. It asks
// nothing of them. The error joins every fault of cfg.
func New(cfg Config) (Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &mover{old: cfg.Old, new: cfg.New, phase: cfg.Phase}
	s.stats.since = time.Now()
	if cfg.Phase == NewOnly {
		s.old = nothing{}
	}
	oldUsers, oldLists := s.old.(session.UserStore)
	newUsers, newLists := s.new.(session.UserStore)
	if !oldLists || !newLists {
		return s, nil
	}
	users := &userMover{mover: s, old: oldUsers, new: newUsers, name: cfg.Name, lifetime: cmp.Or(cfg.Lifetime, 12*time.Hour)}
	s.carry = users.carry
	return users, nil
}

func (cfg *Config) check() error {
	var errs []error
	if !cfg.Phase.known() {
		errs = append(errs, errors.New("session: migrate.Config.Phase is none of WriteOld, WriteNew and NewOnly; ParsePhase reads it from an environment variable"))
	}
	if cfg.New == nil {
		errs = append(errs, errors.New("session: migrate.Config.New is missing; it is the store that the sessions move to"))
	}
	if cfg.Old == nil && cfg.Phase != NewOnly {
		errs = append(errs, errors.New("session: migrate.Config.Old is missing; it is the store that the sessions are in, and only NewOnly does without"))
	}
	if cfg.Old != nil && reflect.TypeOf(cfg.Old).Comparable() && cfg.Old == cfg.New {
		errs = append(errs, errors.New("session: migrate.Config.Old and New are the same store; there is nothing to move"))
	}
	_, oldLists := cfg.Old.(session.UserStore)
	_, newLists := cfg.New.(session.UserStore)
	if oldLists && newLists && cfg.Name == "" {
		errs = append(errs, errors.New("session: migrate.Config.Name is missing; give it the Name of the Manager's session.Config, or lists of users' sessions cannot be moved"))
	}
	if cfg.Lifetime < 0 {
		errs = append(errs, errors.New("session: migrate.Config.Lifetime is negative; give it the Lifetime of the Manager's session.Config, or 0 for 12 hours"))
	}
	return errors.Join(errs...)
}
