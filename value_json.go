//go:build !goexperiment.jsonv2 || !go1.27

package session

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// marshal is json.Marshal that refuses strings which are not UTF-8 (R8), in Go 1.26,
// and in later ones with GOEXPERIMENT=nojsonv2. See value_jsonv2.go.
func marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err == nil && (!utf8.Valid(data) || hasReplacement(data)) {
		return nil, errNotUTF8
	}
	return data, err
}

// escapesReplacement is false where this file is used and json.Marshal yet does what
// value_jsonv2.go is for: Go 1.26 with GOEXPERIMENT=jsonv2. There a good string that
// holds U+FFFD is refused too, because losing what a bad one held would be worse.
var escapesReplacement = func() bool {
	data, err := json.Marshal("\xff")
	return err == nil && string(data) == `"\ufffd"`
}()

// hasReplacement finds what encoding/json writes for bytes which are not UTF-8: an
// escape. It writes the character U+FFFD itself without one.
func hasReplacement(data []byte) bool {
	if !escapesReplacement && bytes.ContainsRune(data, utf8.RuneError) {
		return true
	}
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
