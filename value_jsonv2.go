//go:build goexperiment.jsonv2 && go1.27

package session

import (
	"encoding/json"
	"encoding/json/jsontext"
	jsonv2 "encoding/json/v2"
)

// marshal is json.Marshal that refuses strings which are not UTF-8 (R8), since Go
// 1.27, where GOEXPERIMENT=jsonv2 is the default. There json.Marshal puts U+FFFD into
// them as it stands, which a good string may hold too, so that the result no longer
// tells (golang/go#75163).
func marshal(v any) ([]byte, error) {
	data, err := jsonv2.Marshal(v, json.DefaultOptionsV1(), jsontext.AllowInvalidUTF8(false))
	if err != nil {
		if _, lenient := json.Marshal(v); lenient == nil {
			return nil, errNotUTF8 // the only difference; its own error has no name to ask for
		}
	}
	return data, err
}
