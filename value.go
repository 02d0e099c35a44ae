package session

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

var errNotUTF8 = errors.New("not UTF-8; encode binary data as []byte")

// encodeValue makes a value's JSON, without reflection for the commonest types.
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
	return marshal(v)
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
