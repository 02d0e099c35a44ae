package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var writeGolden = flag.Bool("update", false, "write the golden records of testdata/ anew")

// golden are records as this version writes them. A byte that changes is a
// format that changed (T5): it needs a new format number, not a new file.
func golden() map[string]draft {
	id := uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	var hash [hashSize]byte
	copy(hash[:], bytes.Repeat([]byte{0xA5}, hashSize))
	const day = 1_793_000_000_000
	anonymous := draft{id: id, hash: hash, created: day, end: day + 43_200_000, written: day, outcome: &outcome{
		fresh: true, changes: []change{{name: "visits", data: []byte("1")}},
	}}
	user := anonymous
	user.user, user.authenticated, user.end, user.written = "alice", day+60_000, day+43_260_000, day+60_000
	user.outcome = &outcome{changes: []change{
		{name: "cart", data: []byte(`["tea","milk"]`), survives: true},
		{name: "théme", data: []byte(`"dark"`)},
	}}
	base, err := parseRecord(Record{Version: 0x0102030405060708, Data: anonymous.encode()}, id)
	if err != nil {
		panic(err)
	}
	history := user
	history.hash[0], history.written = 0x5A, day+1_000
	history.base, history.window = &base, 4*time.Second
	return map[string]draft{"anonymous": anonymous, "user": user, "history": history}
}

func TestT5GoldenRecords(t *testing.T) {
	for name, d := range golden() {
		file := filepath.Join("testdata", "record-v1-"+name+".hex")
		got := hex.Dump(d.encode())
		if *writeGolden {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the record format changed:\n%s\nwas\n%s", name, got, want)
		}
	}
}

func TestT5GoldenRecordsAreRead(t *testing.T) {
	d := golden()["history"]
	c, err := parseRecord(Record{Version: 9, Owner: "alice", Data: d.encode()}, d.id)
	if err != nil {
		t.Fatal(err)
	}
	if c.user != "alice" || c.created != d.created || c.authenticated != d.authenticated || c.end != d.end || c.written() != d.written {
		t.Errorf("header: got %+v", c)
	}
	v, ok := c.lookup("cart")
	if !ok || !v.survives || string(v.data) != `["tea","milk"]` {
		t.Errorf("cart: got %q, survives %v, found %v", v.data, v.survives, ok)
	}
	if v, ok := c.lookup("visits"); !ok || v.survives {
		t.Errorf("the base's own value: got %q, found %v", v.data, ok)
	}
	var old [hashSize]byte
	copy(old[:], bytes.Repeat([]byte{0xA5}, hashSize))
	if !c.wasSuperseded(&old, d.written+9_999) || c.wasSuperseded(&old, d.written+10_000) {
		t.Error("C7: a replaced secret is superseded for less than ten seconds")
	}
	if !c.committed(0x0102030405060708) || !c.committed(9) || c.committed(7) || c.committed(0) {
		t.Error("C5: committed knows the record's own version and the recent ones only")
	}
}

// TestC5HistoryIsBounded commits a hundred times within the window.
func TestC5HistoryIsBounded(t *testing.T) {
	d := golden()["anonymous"]
	version := uint64(1)
	var base content
	for i := range 100 {
		c, err := parseRecord(Record{Version: version, Data: d.encode()}, d.id)
		if err != nil {
			t.Fatal(err)
		}
		base = c
		d.base, d.window, d.outcome = &base, time.Hour, &outcome{}
		d.written += 10
		d.hash[i%hashSize]++
		version++
	}
	for back := uint64(0); back < 40; back++ {
		if got, want := base.committed(base.version-back), back <= maxHistory; got != want {
			t.Errorf("version %d back: recognised %v, want %v", back, got, want)
		}
	}
	d.written += 3600_000 + 1
	c, err := parseRecord(Record{Version: version, Data: d.encode()}, d.id)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.recent()) != 0 || len(c.superseded()) != hashSize+6 {
		t.Errorf("a quiet record keeps no versions and only the secret that was just replaced: %d and %d bytes", len(c.recent()), len(c.superseded()))
	}
}

func TestT4ForeignRecordIsRefused(t *testing.T) {
	d := golden()["user"]
	data := d.encode()
	for name, c := range map[string]struct {
		rec  Record
		id   uuid.UUID
		want error
	}{
		"another ID":    {Record{Version: 1, Owner: "alice", Data: data}, uuid.UUID{1}, errRefused},
		"another owner": {Record{Version: 1, Owner: "bob", Data: data}, d.id, errRefused},
		"no version":    {Record{Owner: "alice", Data: data}, d.id, errRefused},
		"empty":         {Record{Version: 1, Owner: "alice"}, d.id, errRefused},
		"truncated":     {Record{Version: 1, Owner: "alice", Data: data[:len(data)-1]}, d.id, errRefused},
		"trailing":      {Record{Version: 1, Owner: "alice", Data: append(bytes.Clone(data), 0)}, d.id, errRefused},
		"format 0":      {Record{Version: 1, Owner: "alice", Data: append([]byte{0}, data[1:]...)}, d.id, errRefused},
		"R15: format 2": {Record{Version: 1, Owner: "alice", Data: []byte{2}}, d.id, errUnreadable},
		"as it is":      {Record{Version: 1, Owner: "alice", Data: data}, d.id, nil},
	} {
		if _, err := parseRecord(c.rec, c.id); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// FuzzRecord holds T5: no input panics, and what decodes encodes back to itself.
func FuzzRecord(f *testing.F) {
	for _, d := range golden() {
		f.Add(d.encode())
	}
	f.Add([]byte{2})
	f.Add(bytes.Repeat([]byte{0xff}, 200))
	f.Fuzz(func(t *testing.T, data []byte) {
		var id uuid.UUID
		if len(data) >= recordHashAt {
			copy(id[:], data[1:recordHashAt])
		}
		for _, owner := range []string{"", "alice"} {
			c, err := parseRecord(Record{Version: 1, Owner: owner, Data: data}, id)
			if err != nil {
				continue
			}
			if again := reencode(&c); !bytes.Equal(again, data) {
				t.Fatalf("%x encodes back to %x", data, again)
			}
		}
	})
}

// reencode writes a record from what was read of it.
func reencode(c *content) []byte {
	var b []byte
	b = append(b, recordFormat)
	id := c.id()
	b = append(b, id[:]...)
	b = append(b, c.hash()...)
	d := draft{id: id, user: c.user, created: c.created, authenticated: c.authenticated, end: c.end, written: c.written(), outcome: &outcome{}}
	copy(d.hash[:], c.hash())
	whole := d.encode()
	b = append(b, whole[recordTimesAt:len(whole)-2]...) // without its two empty histories
	b = appendHistory(b, c.superseded(), hashSize, -1, nil)
	b = appendHistory(b, c.recent(), 8, -1, nil)
	for in := c.values(); in.more(); {
		v := in.value()
		b = appendValue(b, v.name, v.data, v.survives)
	}
	return b
}

func TestT5DecodingAllocatesNothing(t *testing.T) {
	d := golden()["history"]
	rec := Record{Version: 1, Owner: "alice", Data: d.encode()}
	hostile := Record{Version: 1, Data: append(rec.Data[:recordTimesAt:recordTimesAt], strings.Repeat("\xff\xff\x7f", 50)...)}
	for name, r := range map[string]Record{"good": rec, "hostile": hostile} {
		if n := testing.AllocsPerRun(100, func() { parseRecord(r, d.id) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestCommittedViewIsTheParsedOne holds the view that a commit makes of its own
// record to what reading that record gives.
func TestCommittedViewIsTheParsedOne(t *testing.T) {
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := newExchange(m, noResponse{}, httptest.NewRequest("GET", "/", nil)).use()
	key := NewKey[string]("name")
	for i, change := range []func() error{
		func() error { key.Set(s, "x"); return nil },
		func() error { return s.Login("alice") },
		s.Renew,
		func() error { key.Set(s, "y"); return nil },
	} {
		if err := errors.Join(change(), s.Save(t.Context())); err != nil {
			t.Fatal(err)
		}
		stored, err := m.store.Load(t.Context(), s.ID())
		if err != nil {
			t.Fatal(err)
		}
		want, err := parseRecord(stored, s.ID())
		if err != nil || !reflect.DeepEqual(s.base, want) {
			t.Errorf("save %d: %v\n got %+v\nwant %+v", i, err, s.base, want)
		}
	}
}
