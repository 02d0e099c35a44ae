package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A Key is the typed name of one value in a session. Make keys with [NewKey], as
// package variables; they are small, comparable and safe for concurrent use. A
// name belongs to one type: what another type wrote reads as absent (R9).
type Key[T any] struct {
	name     string
	survives bool
}

// NewKey returns the key of the values called name, 1 to 255 bytes of UTF-8. It
// panics for other names. Values are kept as JSON: what encoding/json does not
// encode, such as unexported fields, is not kept.
func NewKey[T any](name string) Key[T] {
	if name == "" || len(name) > maxNameBytes || !utf8.ValidString(name) {
		panic(fmt.Sprintf("session: NewKey(%q): a name has 1 to %d bytes of UTF-8", name, maxNameBytes))
	}
	return Key[T]{name: name}
}

// SurvivesLogin returns a key whose values are kept by [Session.Login] as the
// same user, or as the first one (L2). Right for a shopping cart; wrong for what
// proves something about the visitor, such as an OAuth state.
func (k Key[T]) SurvivesLogin() Key[T] {
	k.survives = true
	return k
}

// Get returns the value, or T's zero value if there is none. Like os.Getenv.
func (k Key[T]) Get(s *Session) T {
	v, _ := k.Lookup(s)
	return v
}

// Lookup returns the value and whether there is one. Like os.LookupEnv.
func (k Key[T]) Lookup(s *Session) (T, bool) {
	data, found := s.get(k.name)
	return k.decoded(s, data, found)
}

func (k Key[T]) decoded(s *Session, data []byte, found bool) (T, bool) {
	if found {
		v, err := decodeValue[T](data)
		if err == nil {
			return v, true
		}
		s.valueRefused(k.name)
	}
	var zero T
	return zero, false
}

// Set stores v. It is encoded at once, so later changes to what v refers to do
// not reach the session. A value that cannot be encoded fails the save (R8).
func (k Key[T]) Set(s *Session, v T) {
	data, err := k.encode(v)
	s.set(k.name, data, k.survives, err)
}

func (k Key[T]) encode(v T) ([]byte, error) {
	data, err := encodeValue(v)
	if err != nil {
		return nil, fmt.Errorf("value %q: %w", k.name, withoutValue(err, v))
	}
	return data, nil
}

// withoutValue keeps what encoding/json quotes of a value out of errors.
func withoutValue(err error, v any) error {
	switch err.(type) {
	case *json.UnsupportedTypeError, *json.UnsupportedValueError: // name a type, or NaN and the like
		return err
	}
	if errors.Is(err, errNotUTF8) {
		return err
	}
	return fmt.Errorf("a %T that encoding/json does not encode", v)
}

// Update replaces the value by f of it; f gets T's zero value if there is none.
// It runs now, and again if another request saved the session meanwhile, so that
// no update is lost (C2). Therefore f is pure: it touches neither the request nor
// anything outside, and panics if it uses s. What [Key.Get] returns afterwards is
// provisional until the save.
func (k Key[T]) Update(s *Session, f func(T) T) {
	var bad error
	_, _ = s.update(k.name, k.survives, func(old []byte) ([]byte, error) {
		return k.encode(f(k.input(old, &bad)))
	}, false)
	if bad != nil {
		s.valueRefused(k.name)
	}
}

// input is what an update is given: the zero value for none, and for bytes that
// are not a T.
func (k Key[T]) input(old []byte, bad *error) (v T) {
	if old != nil {
		was, err := decodeValue[T](old)
		if err == nil {
			return was
		}
		*bad = err
	}
	return v
}

// UpdateNow is [Key.Update] and [Session.Save] in one. The value that it returns
// is the one that was committed: right for counters that are shown, limits and
// values that may be used once. Errors are those of Save.
func (k Key[T]) UpdateNow(ctx context.Context, s *Session, f func(T) T) (T, error) {
	var last T
	var bad error
	err := s.updateNow(ctx, k.name, k.survives, func(old []byte) ([]byte, error) {
		last = f(k.input(old, &bad))
		return k.encode(last)
	})
	if bad != nil {
		s.valueRefused(k.name)
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return last, nil
}

// Delete removes the value.
func (k Key[T]) Delete(s *Session) { s.delete(k.name) }

// Take returns the value and removes it, for messages that are shown once. Two
// parallel requests may both see it; for secrets use [Key.UpdateNow].
func (k Key[T]) Take(s *Session) (v T, ok bool) {
	found := s.take(k.name, func(data []byte) bool {
		was, err := decodeValue[T](data)
		if err == nil {
			v, ok = was, true
		}
		return ok
	})
	if found && !ok {
		s.valueRefused(k.name)
	}
	return v, ok
}
