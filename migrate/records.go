package migrate

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/sojourn-go/session"
)

// The two records that are of this package and not of its caller. Both are told
// by their version and by their data, so that no data a caller may save passes
// for one: its version would have to begin with the tag, by chance or not, and its
// data with the name.
//
// The first byte is for a Manager that reads one without this package. A hold is a
// damaged record to it, as good as none. An envelope is a record of a newer format,
// which it leaves alone and answers with 503 (R15): that is a server which was
// left out of a deploy, and the visitor's cookie is worth keeping.
const (
	tagBits    = 16
	versionTag = uint64(0x4d76) << (64 - tagBits)

	holdName     = "\x00sojourn hold/1"
	envelopeName = "\xffsojourn envelope/1"

	envelopeHead = len(envelopeName) + 8 + 8
)

// newVersion is from crypto/rand, because two machines that were resumed from one
// snapshot would draw the same from another generator.
func newVersion() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return versionTag | binary.BigEndian.Uint64(b[:])>>tagBits
}

// tagged says of a version whether it may be of this package.
func tagged(version uint64) bool { return version>>(64-tagBits) == versionTag>>(64-tagBits) }

// newHold has the owner of the record that it holds the place for, because a
// MemoryStore with a cap evicts anonymous ones.
func newHold(owner string) session.Record {
	return session.Record{Version: newVersion(), Owner: owner, Data: []byte(holdName)}
}

func isHold(rec session.Record) bool {
	return tagged(rec.Version) && string(rec.Data) == holdName
}

// exists reports whether rec is a record of the caller's.
func exists(rec session.Record) bool { return rec.Version != 0 && !isHold(rec) }

// seal makes the envelope of next: its version, then that of the hold, then the
// data as it is. The owner stays outside, where stores may index it.
func seal(next session.Record, hold uint64) session.Record {
	data := make([]byte, 0, envelopeHead+len(next.Data))
	data = append(data, envelopeName...)
	data = binary.BigEndian.AppendUint64(data, next.Version)
	data = binary.BigEndian.AppendUint64(data, hold)
	data = append(data, next.Data...)
	return session.Record{Version: newVersion(), Owner: next.Owner, Data: data}
}

// unseal returns what an envelope contains, with the time that the envelope has
// left. Data is a part of the envelope's, which nobody changes.
func unseal(rec session.Record) (next session.Record, hold uint64, ok bool) {
	d := rec.Data
	if !tagged(rec.Version) || len(d) < envelopeHead || !bytes.HasPrefix(d, []byte(envelopeName)) {
		return session.Record{}, 0, false
	}
	next = session.Record{
		Version: binary.BigEndian.Uint64(d[len(envelopeName):]),
		Owner:   rec.Owner,
		Data:    d[envelopeHead:len(d):len(d)],
		TTL:     rec.TTL,
	}
	return next, binary.BigEndian.Uint64(d[len(envelopeName)+8:]), true
}

const (
	// A hold outlives its envelope, which is made after it, on a clock that may run
	// at another pace.
	holdLonger = time.Minute
	longestTTL = 400 * 24 * time.Hour // that every store takes
)

func holdTTL(ttl time.Duration) time.Duration { return max(ttl, min(ttl+holdLonger, longestTTL)) }
