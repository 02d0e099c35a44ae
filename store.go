package session

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
)

// A Store keeps records. All rules about sessions live in the [Manager]; a
// store only promises what is written here, and sessiontest.TestStore proves it.
//
// A record is gone, for every method, from the instant its ttl has run out on
// the store's own clock (E1, E2); never before. A ttl is rounded down to the
// store's resolution, and one that rounds to nothing is an error.
//
// There is no unconditional write (C1): a record that was deleted cannot come
// back, and no write replaces one that its writer has not seen.
//
// Methods are safe for concurrent use and end when ctx does. Any error other
// than [ErrNotFound] and [ErrConflict] means that the outcome is unknown: the
// call may have taken effect. A store never re-sends a Save, Touch or Delete on
// its own (C5).
type Store interface {
	// Load returns the live record of id with the TTL that it has left, or
	// ErrNotFound.
	Load(ctx context.Context, id uuid.UUID) (Record, error)

	// Save stores next under next.Version for ttl, if the live record's version
	// is prev, or if prev is 0 and there is no live record. Otherwise it changes
	// nothing: ErrNotFound when prev is not 0 and there is no live record, else
	// ErrConflict with the live record, or with the zero Record if the store
	// cannot give it in the same round trip. On success live is the zero Record.
	Save(ctx context.Context, id uuid.UUID, prev uint64, next Record, ttl time.Duration) (live Record, err error)

	// Touch makes the live record end ttl from now and changes nothing else, if
	// its version is the one given (E4): otherwise ErrConflict, or ErrNotFound if
	// there is none.
	Touch(ctx context.Context, id uuid.UUID, version uint64, ttl time.Duration) error

	// Delete removes the live record if its version is the one given, otherwise
	// ErrConflict. Version 0 deletes whatever is there. Deleting what is not
	// there is no error.
	Delete(ctx context.Context, id uuid.UUID, version uint64) error
}

// A UserStore is a [Store] that also keeps lists of sessions, one for each user:
// [Manager.Sessions], [Manager.RevokeUser] and [Config.MaxPerUser] need one. Both
// stores of this package are, and sessiontest.TestStore proves this part too.
//
// A list is a hint, the record is the truth: an ID may stay listed after its
// record is gone, which whoever reads the list heals with End. A record that is
// not listed has a secret that nobody was told yet, because a Manager saves a
// login first, enlists it next and sends its cookie last. (A session that logs in
// again may be enlisted again before.)
//
// The name of a list is opaque: a Manager makes it from [Config.Name] and the
// user, so that applications on one store do not end each other's sessions (T3).
// What is promised of errors and contexts is as in Store, but that any of these
// methods may be sent again: none does harm twice.
type UserStore interface {
	Store

	// Enlist puts id at the end of the list, where it then is once, and keeps it
	// there for ttl at least, or until its record is gone. Others that were kept
	// for theirs are taken off sooner or later. A ttl below the store's resolution
	// is an error.
	//
	// listed is nil unless more than most IDs are on the list now; then it is all
	// of them, oldest first, as they are in the step that added id. With most 0 it is
	// always nil.
	//
	// last is the newest CutOff of this list that did not except id, the zero Cut
	// if there was none in the last hour.
	Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) (listed []uuid.UUID, last Cut, err error)

	// List returns the IDs on the list, oldest first. A list that never was is
	// empty, and no error.
	List(ctx context.Context, list string) ([]uuid.UUID, error)

	// CutOff notes, for an hour or until there were 64 later ones of this list, that
	// everything begun before this instant is void but for the sessions in except,
	// and returns the list as it is. It takes nothing off it, and does not keep
	// except. An Enlist comes either before it, and is on the list that it returns,
	// or after it, and is told.
	CutOff(ctx context.Context, list string, except ...uuid.UUID) (listed []uuid.UUID, this Cut, err error)

	// End deletes the records of ids, whatever their version, and only then takes
	// the IDs off the list. What is not there is no error.
	End(ctx context.Context, list string, ids ...uuid.UUID) error

	// LoadAll is Load for each of ids, in their order, in round trips that do not
	// grow with every one of them: the zero Record stands for one that there is
	// not.
	LoadAll(ctx context.Context, ids []uuid.UUID) ([]Record, error)

	// Versions returns the versions of the live records of ids, in their order, 0
	// for one that there is not, and costs less than LoadAll.
	Versions(ctx context.Context, ids []uuid.UUID) ([]uint64, error)
}

// A Cut is one [UserStore] CutOff. The zero value is none.
type Cut struct {
	// ID tells the cut-offs of one list apart, but for those of one instant. It is
	// never 0.
	ID uint64
	// Ago is how long ago it was on the store's own clock, rounded down.
	Ago time.Duration
}

// A Record is one session as a [Store] sees it. Its zero value is no record.
type Record struct {
	// Version is a random number, never 0, chosen by whoever writes. It is
	// compared for equality only.
	Version uint64
	// Owner is the user that the session is bound to, "" if it is anonymous.
	// Stores may index it.
	Owner string
	// Data is opaque to the store. Neither side changes the bytes after handing
	// them over; both may keep them.
	Data []byte
	// TTL is how long the record has left on the store's own clock. Load sets
	// it, and Save does with the record that it returns on conflict. Save ignores
	// it in its argument.
	TTL time.Duration

	// checked is the last byte of Data if a Manager of this process encoded it, so
	// that its values need not be looked through again at every load. A store that
	// replaces or cuts Data leaves it pointing elsewhere, and is not believed.
	checked *byte
}

// check notes that Data is as this process encoded it.
func (r *Record) check() {
	if n := len(r.Data); n > 0 {
		r.checked = &r.Data[n-1]
	}
}

func (r *Record) isChecked() bool {
	n := len(r.Data)
	return n > 0 && r.checked == &r.Data[n-1]
}

// A StoreCloser is a [Store] that holds connections until it is closed.
type StoreCloser interface {
	Store
	io.Closer
}

var (
	// ErrNotFound reports that a store holds no live record under an ID.
	ErrNotFound = errors.New("session: not found")

	// ErrConflict reports that the live record is not the one that the writer
	// saw. Handlers never see it: the manager merges and tries again (C2).
	ErrConflict = errors.New("session: the record changed since it was loaded")

	// ErrEnded reports that the session which the request presented was logged
	// out, expired or given a new secret while the request ran, so that its
	// changes were refused (C3). [Config.ErrorHandler] answers it with 409.
	ErrEnded = errors.New("session: ended while the request ran; reload and try again")

	// ErrTooManySessions reports that a login was refused because its user has as
	// many sessions as [Config.MaxPerUser] allows. [Config.ErrorHandler] answers it
	// with 409.
	ErrTooManySessions = errors.New("session: the user has as many sessions as allowed; end one first")

	// ErrCommitted reports that a call needs a cookie after the response header
	// was sent (R7). Call it before the first Write, Flush or Hijack.
	ErrCommitted = errors.New("session: the response has begun, its cookie can no longer change")
)

// An Error says which step of loading or saving a session went wrong. Unwrap
// gives the cause. Neither contains a secret or a value.
type Error struct {
	Op  string // load, save, touch, delete, encode or decode
	Err error
}

// Error names the step and the cause.
func (e *Error) Error() string { return "session: " + e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
