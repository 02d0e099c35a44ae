package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
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

var errNotUTF8 = errors.New("not UTF-8; encode binary data as []byte")

// encodeValue is json.Marshal that refuses strings which are not UTF-8, and
// avoids reflection for the commonest types.
func encodeValue[T any](v T) ([]byte, error) {
	switch v := any(v).(type) {
	case string:
		if data, ok := encodeString(v); ok {
			return data, nil
		}
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case time.Time:
		return v.MarshalJSON()
	}
	data, err := json.Marshal(v)
	if err == nil && (!utf8.Valid(data) || hasReplacement(data)) {
		return nil, errNotUTF8
	}
	return data, err
}

// encodeString writes strings that need no escape; others are left to json.
func encodeString(v string) ([]byte, bool) {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return nil, false
		}
	}
	data := make([]byte, 0, len(v)+2)
	data = append(data, '"')
	data = append(data, v...)
	return append(data, '"'), true
}

// hasReplacement finds the escape that encoding/json writes for bytes which are
// not UTF-8. It writes the character U+FFFD itself without an escape.
func hasReplacement(data []byte) bool {
	const escape = `\ufffd`
	for from := 0; ; {
		i := bytes.Index(data[from:], []byte(escape))
		if i < 0 {
			return false
		}
		at := from + i
		slashes := 1
		for at-slashes >= 0 && data[at-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 1 { // not itself behind an escaping backslash
			return true
		}
		from = at + len(escape)
	}
}

func decodeValue[T any](data []byte) (T, error) {
	var v T
	if decodeFast(data, &v) {
		return v, nil
	}
	return decodeSlow[T](data)
}

// decodeFast reads what encodeValue writes without reflection. It declines, for
// decodeSlow to judge, whatever it is not sure of.
func decodeFast[T any](data []byte, v *T) bool {
	switch v := any(v).(type) {
	case *string:
		if n := len(data); n >= 2 && data[0] == '"' && data[n-1] == '"' && isPlain(data[1:n-1]) {
			*v = string(data[1 : n-1])
			return true
		}
	case *bool:
		switch string(data) {
		case "true":
			*v = true
			return true
		case "false":
			return true
		}
	case *int:
		n, ok := decodeInt(data)
		*v = int(n)
		return ok && int64(*v) == n
	case *int64:
		n, ok := decodeInt(data)
		*v = n
		return ok
	case *time.Time:
		return v.UnmarshalJSON(data) == nil
	}
	return false
}

// isPlain reports whether a JSON string's inside stands for itself.
func isPlain(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if !arePlain(binary.LittleEndian.Uint64(b)) {
			return false
		}
	}
	for _, c := range b {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// arePlain is isPlain for eight characters. A borrow from the byte below can make a
// plain one look special, never the other way round; but there is none below the
// lowest that is special, so the answer is exact.
func arePlain(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, slash := x^ones*'"', x^ones*'\\'
	return (x|(x-ones*' ')|(quote-ones)|(slash-ones))&tops == 0
}

// decodeInt reads a JSON integer of up to 18 digits.
func decodeInt(data []byte) (int64, bool) {
	digits := data
	negative := len(data) > 0 && data[0] == '-'
	if negative {
		digits = data[1:]
	}
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

func decodeSlow[T any](data []byte) (v T, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}
