package session

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// R9: a string that is read without encoding/json is what encoding/json reads, with
// every byte in every place of the words in which it is looked at.
func TestR9PlainStringsAreThoseOfJSON(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for b := range 256 {
				data := bytes.Repeat([]byte("~"), length+2)
				data[0], data[1+at], data[length+1] = '"', byte(b), '"'
				holdsToJSON(t, data)
			}
		}
	}
}

// FuzzStoredString is the same for any bytes.
func FuzzStoredString(f *testing.F) {
	f.Add([]byte(`""`))
	f.Add([]byte(`"someone@example.com"`))
	f.Add([]byte("\"\xff\""))
	f.Add([]byte(`"a\"b"`))
	f.Fuzz(func(t *testing.T, data []byte) { holdsToJSON(t, data) })
}

// holdsToJSON checks a fast answer, and that there is one where nothing is special.
func holdsToJSON(t *testing.T, data []byte) {
	var got, want string
	fast := decodeFast(data, &got)
	err := json.Unmarshal(data, &want)
	if fast {
		require.NoError(t, err, "%q", data)
		require.Equal(t, want, got)
	}
	if n := len(data); err == nil && n >= 2 && data[0] == '"' && data[n-1] == '"' && want == string(data[1:n-1]) && isASCII(want) {
		require.True(t, fast, "%q is left to encoding/json", data)
	}
}

func isASCII(s string) bool {
	return bytes.IndexFunc([]byte(s), func(r rune) bool { return r > 127 }) < 0
}
