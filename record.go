package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"time"

	"github.com/google/uuid"
)

// The record format, documented for other languages in docs/record.md. A
// record has exactly one encoding: lengths and numbers are minimal unsigned
// varints, names ascend, nothing follows the last value (T5).
const (
	recordFormat  = 1
	recordHashAt  = 1 + 16
	recordTimesAt = recordHashAt + hashSize

	maxUserBytes   = 1024
	maxNameBytes   = 255
	maxHistory     = 16 // superseded secrets, and recent versions (C5), that a record keeps
	maxRecordBytes = 1 << 30
	maxSize        = 1 << 32 // of a value, doubled; a varint of five bytes
	maxMillis      = 1 << 50 // year 37648; keeps sums of times far from overflow
)

var (
	// errUnreadable is a record of a newer format: not ours to judge (R15).
	errUnreadable = errors.New("the stored record has a format that this version does not know; finish the rolling deploy")
	// errRefused is a record that no version of this library wrote under this ID (T4, T5).
	errRefused = errors.New("the stored record is damaged or belongs to another session")
)

// content is a validated view into the data of one stored [Record]. Its zero
// value is no record. Sections stay encoded until somebody asks for them, so
// that a load costs no allocation; the bytes are shared and never changed.
type content struct {
	data    []byte
	version uint64
	user    string

	created       int64 // milliseconds since 1970, as are the next two
	authenticated int64 // when Login last ran; 0: never
	end           int64 // of the lifetime (E3)

	// Where the histories and the values begin: numbers instead of slices, because
	// every request carries a content.
	historyAt, valuesAt uint32
}

func (c *content) exists() bool  { return c.data != nil }
func (c *content) id() uuid.UUID { return uuid.UUID(c.data[1:recordHashAt]) }
func (c *content) hash() []byte  { return c.data[recordHashAt:recordTimesAt] }

// written is when this version was committed, in milliseconds since 1970.
func (c *content) written() int64 {
	in := reader{data: c.data, at: recordTimesAt}
	for range 3 {
		in.millis()
	}
	return in.millis()
}

// start is when the lifetime last began (E5).
func (c *content) start() int64 { return max(c.created, c.authenticated) }

// parseRecord is parse for those who have no content yet.
func parseRecord(stored Record, id uuid.UUID) (c content, err error) {
	err = c.parse(&stored, &id)
	return c, err
}

// parse checks every length before it believes it, and that the record belongs to
// id and to the owner that the store names (T4). It allocates nothing. After an
// error c is as it was.
func (c *content) parse(stored *Record, id *uuid.UUID) error {
	d := stored.Data
	switch {
	case len(d) == 0 || d[0] < recordFormat || stored.Version == 0:
		return errRefused
	case d[0] > recordFormat:
		return errUnreadable
	case len(d) < recordTimesAt || len(d) > maxRecordBytes || uuid.UUID(d[1:recordHashAt]) != *id:
		return errRefused
	}
	in := reader{data: d, at: recordTimesAt}
	created, authenticated, end, _ := in.millis(), in.millis(), in.millis(), in.millis()
	if user := in.bytes(maxUserBytes); string(user) != stored.Owner {
		in.bad = true
	}
	historyAt := in.at
	in.history(hashSize)
	in.history(8)
	valuesAt := in.at
	if !stored.isChecked() {
		in.checkValues()
	}
	if in.bad {
		return errRefused
	}
	*c = content{
		data: d, version: stored.Version, user: stored.Owner,
		created: created, authenticated: authenticated, end: end,
		historyAt: uint32(historyAt), valuesAt: uint32(valuesAt),
	}
	return nil
}

// A reader takes a record apart. After the first fault it reads zeros. It moves by
// a number, not by slicing: a stored pointer costs a write barrier while the
// garbage collector runs.
type reader struct {
	data []byte
	at   int
	bad  bool
}

func (in *reader) more() bool { return in.at < len(in.data) }

func (in *reader) fail() { in.bad, in.at = true, len(in.data) }

// uvarint reads a number as encoding/binary writes it, in its one minimal spelling.
// Most lengths are one byte.
func (in *reader) uvarint(limit uint64) uint64 {
	if in.at < len(in.data) {
		if x := in.data[in.at]; x < 0x80 && uint64(x) <= limit {
			in.at++
			return uint64(x)
		}
	}
	return in.longUvarint(limit)
}

// longUvarint reads from eight bytes at once, except near the end of the data. A
// byte at a time, the times alone took a twentieth of a request in memory.
func (in *reader) longUvarint(limit uint64) uint64 {
	if in.at+8 > len(in.data) {
		return in.lastUvarint(limit)
	}
	x := binary.LittleEndian.Uint64(in.data[in.at:])
	ends := ^x & 0x8080808080808080 // the top bit of a byte says that more follow
	n := bits.TrailingZeros64(ends)/8 + 1
	if n > 1 && (ends == 0 || in.data[in.at+n-1] == 0) { // too long, or a longer spelling
		in.fail()
		return 0
	}
	x &= ends ^ (ends - 1) // nothing of what follows
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	if x > limit {
		in.fail()
		return 0
	}
	in.at += n
	return x
}

func (in *reader) lastUvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(in.data[in.at:])
	if n <= 0 || v > limit || n > 1 && in.data[in.at+n-1] == 0 {
		in.fail()
		return 0
	}
	in.at += n
	return v
}

func (in *reader) take(n uint64) []byte {
	if in.bad || n > uint64(len(in.data)-in.at) {
		in.fail()
		return nil
	}
	from := in.at
	in.at += int(n)
	return in.data[from:in.at:in.at]
}

// millis reads a time. From 1971 to 2109 it takes six bytes.
func (in *reader) millis() int64 {
	if in.at+8 <= len(in.data) {
		const tops = 0x808080808080
		x := binary.LittleEndian.Uint64(in.data[in.at:])
		if x&tops == tops>>8 && x>>40&0xff != 0 { // six bytes, and the last is not a longer spelling
			in.at += 6
			x = x&0x007f007f007f | x&0x7f007f007f00>>1
			return int64(x&0x3fff | x>>2&(0x3fff<<14) | x>>4&(0x3fff<<28))
		}
	}
	return int64(in.longUvarint(maxMillis))
}

func (in *reader) bytes(limit uint64) []byte { return in.take(in.uvarint(limit)) }

// appendMillis is binary.AppendUvarint, six bytes at a time.
func appendMillis(b []byte, t int64) []byte {
	if t>>35 == 0 || t>>42 != 0 {
		return binary.AppendUvarint(b, uint64(t))
	}
	x := uint64(t)
	x = x&0x3fff | x&(0x3fff<<14)<<2 | x&(0x3fff<<28)<<4
	x = x&0x007f007f007f | x&0x3f803f803f80<<1 | 0x008080808080
	return append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40))
}

// history returns the entries of a list of fixed-size items with their times.
func (in *reader) history(size uint64) []byte {
	n := in.uvarint(maxHistory)
	from := in.at
	for range n {
		in.take(size)
		in.millis()
	}
	return in.data[from:in.at]
}

// checkValues reads the named values, which are the rest of the record.
func (in *reader) checkValues() {
	var last []byte
	for in.more() {
		name := in.bytes(maxNameBytes)
		in.take(in.uvarint(maxSize) >> 1)
		if bytes.Compare(name, last) <= 0 { // an empty one is not above anything
			in.fail()
		}
		last = name
	}
}

// A value is one named value of a record, its bytes still those of the record.
type value struct {
	name     []byte
	data     []byte
	survives bool // a Login (L2)
}

// value reads the next of the named values, which were looked through when the
// record was read, or encoded here.
func (in *reader) value() value {
	name, nameEnd, data, end, survives := valueBounds(in.data, in.at)
	in.at = end
	return value{name: in.data[name:nameEnd], data: in.data[data:end:end], survives: survives}
}

// valueBounds is where the parts of the value at at begin and end, of values that
// are known to be good.
func valueBounds(d []byte, at int) (name, nameEnd, data, end int, survives bool) {
	n, name := uint64(d[at]), at+1
	if n >= 0x80 {
		n, name = wideUvarint(d, at)
	}
	nameEnd = name + int(n)
	n, data = uint64(d[nameEnd]), nameEnd+1
	if n >= 0x80 {
		n, data = wideUvarint(d, nameEnd)
	}
	return name, nameEnd, data, data + int(n>>1), n&1 == 1
}

// wideUvarint reads a number of several bytes that is known to be good, and says
// where it ends.
func wideUvarint(d []byte, at int) (v uint64, end int) {
	if d[at+1] < 0x80 { // two, as for data of 64 to 8,191 bytes
		return uint64(d[at]&0x7f) | uint64(d[at+1])<<7, at + 2
	}
	v, n := binary.Uvarint(d[at:])
	return v, at + n
}

// findValue is where the value called name begins, at or after from, and its data
// begin and end; at is -1 if there is none. It does not stop where an absent name
// would be: to see that two names differ takes less than to see which is the lower,
// and most are there.
func findValue(d []byte, from int, name string) (at, data, end int, survives bool) {
	for at = from; at < len(d); at = end {
		var n, to int
		n, to, data, end, survives = valueBounds(d, at)
		if string(d[n:to]) == name {
			return at, data, end, survives
		}
	}
	return -1, 0, 0, false
}

func appendValue[S string | []byte](b []byte, name S, data []byte, survives bool) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	size := uint64(len(data)) << 1
	if survives {
		size |= 1
	}
	b = binary.AppendUvarint(b, size)
	return append(b, data...)
}

// quiet reports whether both histories are empty, as most are: two lengths of 0.
func (c *content) quiet() bool { return c.valuesAt-c.historyAt <= 2 }

// superseded holds entries of hash and time (C7).
func (c *content) superseded() []byte {
	if c.quiet() {
		return nil
	}
	in := reader{data: c.data[c.historyAt:c.valuesAt]}
	return in.history(hashSize)
}

// recent holds entries of version and time (C5).
func (c *content) recent() []byte {
	if c.quiet() {
		return nil
	}
	in := reader{data: c.data[c.historyAt:c.valuesAt]}
	in.history(hashSize)
	return in.history(8)
}

// values reads the named values.
func (c *content) values() reader {
	if !c.exists() {
		return reader{}
	}
	return reader{data: c.data[c.valuesAt:]}
}

// lookup finds a value by name, and leaves that out of it.
func (c *content) lookup(name string) (v value, found bool) {
	at, data, end, survives := findValue(c.data, int(c.valuesAt), name)
	if at < 0 {
		return value{}, false
	}
	return value{data: c.data[data:end:end], survives: survives}, true
}

// wasSuperseded reports whether hash was the record's until less than
// supersededFor ago (C7).
func (c *content) wasSuperseded(hash *[hashSize]byte, now int64) bool {
	for in := (reader{data: c.superseded()}); in.more(); {
		old, at := in.take(hashSize), in.millis()
		if now-at < supersededFor.Milliseconds() && equalHash(old, hash) {
			return true
		}
	}
	return false
}

// committed reports whether version is this record's or one of those that it
// was recently built on (C5).
func (c *content) committed(version uint64) bool {
	if version == 0 {
		return false
	}
	if c.version == version {
		return true
	}
	for in := (reader{data: c.recent()}); in.more(); in.millis() {
		if binary.BigEndian.Uint64(in.take(8)) == version {
			return true
		}
	}
	return false
}

// A draft is what the next version of a record is built from.
type draft struct {
	id            uuid.UUID
	hash          [hashSize]byte
	user          string
	created       int64
	authenticated int64
	end           int64
	written       int64
	base          *content      // whose history it continues; nil: none
	window        time.Duration // how far back recent versions are kept
	outcome       *outcome      // whose values it takes
	historyAt     int           // where the histories begin, and the values, once encoded
	valuesAt      int
}

// encode writes the record that draft describes.
func (d *draft) encode() []byte {
	const times, lengths = 4 * 6, 4 // today's milliseconds take six bytes
	size := recordTimesAt + times + lengths + len(d.user) + d.outcome.maxValues(d.base)
	if d.base != nil {
		size += len(d.base.superseded()) + len(d.base.recent())
		if d.window > 0 {
			size += 8 + 6
		}
		if !bytes.Equal(d.base.hash(), d.hash[:]) {
			size += hashSize + 6
		}
	}
	b := make([]byte, 0, size)
	b = append(b, recordFormat)
	b = append(b, d.id[:]...)
	b = append(b, d.hash[:]...)
	for _, t := range [...]int64{d.created, d.authenticated, d.end, d.written} {
		b = appendMillis(b, t)
	}
	b = binary.AppendUvarint(b, uint64(len(d.user)))
	b = append(b, d.user...)
	d.historyAt = len(b)
	b = d.appendSuperseded(b)
	b = d.appendRecent(b)
	d.valuesAt = len(b)
	b = d.outcome.appendValues(b, d.base)
	// The estimate above is generous; a stored record should not be.
	if cap(b)-len(b) > 32 {
		b = bytes.Clone(b)
	}
	return b[:len(b):len(b)]
}

func (d *draft) appendSuperseded(b []byte) []byte {
	if d.base == nil {
		return append(b, 0)
	}
	var added []byte
	var buf [hashSize + binary.MaxVarintLen64]byte
	if !bytes.Equal(d.base.hash(), d.hash[:]) {
		added = append(buf[:0], d.base.hash()...)
		added = binary.AppendUvarint(added, uint64(d.written))
	}
	return appendHistory(b, d.base.superseded(), hashSize, d.written-supersededFor.Milliseconds(), added)
}

func (d *draft) appendRecent(b []byte) []byte {
	if d.base == nil || d.window == 0 {
		return append(b, 0)
	}
	since := d.written - d.window.Milliseconds()
	var added []byte
	var buf [8 + binary.MaxVarintLen64]byte
	if written := d.base.written(); written > since {
		added = binary.BigEndian.AppendUint64(buf[:0], d.base.version)
		added = binary.AppendUvarint(added, uint64(written))
	}
	return appendHistory(b, d.base.recent(), 8, since, added)
}

// appendHistory appends those of old that are younger than since, then added,
// and of all these at most the last maxHistory.
func appendHistory(b, old []byte, size uint64, since int64, added []byte) []byte {
	switch {
	case len(old) == 0 && added == nil:
		return append(b, 0)
	case len(old) == 0:
		return append(append(b, 1), added...)
	}
	var kept [maxHistory + 1][]byte
	n := 0
	for in := (reader{data: old}); in.more(); {
		from := in.at
		in.take(size)
		if at := in.millis(); at > since {
			kept[n] = old[from:in.at]
			n++
		}
	}
	if added != nil {
		kept[n] = added
		n++
	}
	from := max(0, n-maxHistory)
	b = binary.AppendUvarint(b, uint64(n-from))
	for _, entry := range kept[from:n] {
		b = append(b, entry...)
	}
	return b
}
