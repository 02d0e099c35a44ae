package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// readRecord runs the reader that docs/record.md comes with.
func readRecord(t *testing.T, data []byte) (out []byte, err error) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("docs/record.py needs python3")
	}
	cmd := exec.Command(python, filepath.Join("docs", "record.py"))
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Output()
}

// foreignRecord is what docs/record.py prints.
type foreignRecord struct {
	ID                                   uuid.UUID
	Hash, User                           string
	Created, Authenticated, End, Written int64
	Superseded, Recent                   []foreignEntry
	Values                               []foreignValue
}

type foreignEntry struct {
	Hash, Version string
	At            int64
}

type foreignValue struct {
	Name     string
	Survives bool
	Value    json.RawMessage
}

func (c *content) foreign() foreignRecord {
	f := foreignRecord{
		ID: c.id(), Hash: hex.EncodeToString(c.hash()), User: c.user,
		Created: c.created, Authenticated: c.authenticated, End: c.end, Written: c.written(),
		Superseded: []foreignEntry{}, Recent: []foreignEntry{}, Values: []foreignValue{},
	}
	for in := (reader{data: c.superseded()}); in.more(); {
		f.Superseded = append(f.Superseded, foreignEntry{Hash: hex.EncodeToString(in.take(hashSize)), At: in.millis()})
	}
	for in := (reader{data: c.recent()}); in.more(); {
		f.Recent = append(f.Recent, foreignEntry{Version: hex.EncodeToString(in.take(8)), At: in.millis()})
	}
	for in := c.values(); in.more(); {
		v := in.value()
		f.Values = append(f.Values, foreignValue{string(v.name), v.survives, v.data})
	}
	return f
}

// A program in another language, written from docs/record.md, reads what the
// library writes (T5).
func TestT5ReaderInAnotherLanguage(t *testing.T) {
	for name, d := range golden() {
		c, err := parseRecord(Record{Version: 1, Owner: d.user, Data: d.encode()}, d.id)
		if err != nil {
			t.Fatal(err)
		}
		out, err := readRecord(t, c.data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got foreignRecord
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		for i, v := range got.Values {
			var b bytes.Buffer
			if err := json.Compact(&b, v.Value); err != nil {
				t.Fatal(err)
			}
			got.Values[i].Value = b.Bytes()
		}
		if want := c.foreign(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

// It refuses what the library refuses.
func TestT5ReaderInAnotherLanguageRefuses(t *testing.T) {
	d := golden()["user"]
	good := d.encode()
	changed := func(at int, b byte) []byte {
		bad := bytes.Clone(good)
		bad[at] = b
		return bad
	}
	last := bytes.LastIndex(good, []byte("théme"))
	for name, data := range map[string][]byte{
		"nothing":          nil,
		"cut in the id":    good[:9],
		"cut in a time":    good[:recordTimesAt+2],
		"cut in a value":   good[:len(good)-1],
		"one byte more":    append(bytes.Clone(good), 0),
		"a newer format":   changed(0, 2),
		"format 0":         changed(0, 0),
		"names descending": changed(last, 'a'),
		"a longer number":  append(bytes.Clone(good[:recordTimesAt]), append([]byte{0x80, 0x00}, good[recordTimesAt+6:]...)...),
	} {
		if _, err := parseRecord(Record{Version: 1, Owner: d.user, Data: data}, d.id); err == nil {
			t.Errorf("%s: the library reads it", name)
		}
		if out, err := readRecord(t, data); err == nil {
			t.Errorf("%s: docs/record.py reads it:\n%s", name, out)
		}
	}
}

// The example in docs/record.md is the golden file, and its table is the dump
// in other words.
func TestT5RecordPageIsTrue(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("docs", "record.md"))
	if err != nil {
		t.Fatal(err)
	}
	d := golden()["history"]
	data := d.encode()
	if !strings.Contains(string(page), hex.Dump(data)) {
		t.Error("docs/record.md does not show testdata/record-v1-history.hex")
	}
	_, table, found := strings.Cut(string(page), "| at | bytes | |\n| --- | --- | --- |\n")
	if !found {
		t.Fatal("docs/record.md has no table of the example")
	}
	covered := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			break
		}
		at, err := hex.DecodeString(strings.TrimSpace(cells[1]))
		if err != nil || int(at[0]) != covered {
			t.Fatalf("row %q begins at byte %#x, %v", line, covered, err)
		}
		covered += checkRow(t, data[covered:], strings.Trim(cells[2], " `"))
	}
	if covered != len(data) {
		t.Errorf("the table explains %d bytes of %d", covered, len(data))
	}
}

// checkRow compares a row's bytes with the record's and returns how many the
// row stands for. An ellipsis skips to where the bytes behind it come next.
func checkRow(t *testing.T, data []byte, row string) int {
	t.Helper()
	head, tail, skips := strings.Cut(row, " … ")
	n := checkBytes(t, data, head)
	if !skips {
		return n
	}
	end := unhex(t, tail)
	switch {
	case bytes.Equal(end, bytes.Repeat([]byte{0xa5}, len(end))): // a hash; inside all bytes are alike
		n = hashSize
	default:
		n += bytes.Index(data[n:], end) + len(end)
	}
	checkBytes(t, data[n-len(end):], tail)
	return n
}

func checkBytes(t *testing.T, data []byte, row string) int {
	t.Helper()
	want := unhex(t, row)
	if !bytes.HasPrefix(data, want) {
		t.Errorf("the table says % x where the record has % x", want, data[:min(len(want), len(data))])
	}
	return len(want)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}
