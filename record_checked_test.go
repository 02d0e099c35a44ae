package session

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// T5: a record is taken for checked only if it is, to the last byte, the one that
// this process encoded.
func TestCheckedRecordsAreTheirOwnBytesOnly(t *testing.T) {
	store, id := new(MemoryStore), newID()
	start := time.Now().UnixMilli()
	d := draft{id: id, created: start, end: start + 1000, written: start, outcome: new(outcome)}
	data := appendValue(d.encode(), "name", []byte(`"value"`), false)
	damaged := slices.Clone(data)
	damaged[len(damaged)-len(`"value"`)-1] += 2 // the length, doubled

	encoded := Record{Version: 1, Data: data}
	encoded.check()
	for name, replace := range map[string]func(r *Record){
		"other bytes":    func(r *Record) { r.Data = damaged },
		"fewer bytes":    func(r *Record) { r.Data = r.Data[:len(r.Data)-1] },
		"bytes appended": func(r *Record) { r.Data = append(r.Data[:len(r.Data):len(r.Data)], 1) },
		"no bytes":       func(r *Record) { r.Data = nil },
	} {
		t.Run(name, func(t *testing.T) {
			rec := encoded
			replace(&rec)
			require.False(t, rec.isChecked())
			_, err := store.Save(t.Context(), id, 0, rec, time.Minute)
			require.NoError(t, err)
			stored, err := store.Load(t.Context(), id)
			require.NoError(t, err)
			_, err = parseRecord(stored, id)
			require.ErrorIs(t, err, errRefused)
			require.NoError(t, store.Delete(t.Context(), id, 0))
		})
	}
	_, err := store.Save(t.Context(), id, 0, encoded, time.Minute)
	require.NoError(t, err)
	stored, err := store.Load(t.Context(), id)
	require.NoError(t, err)
	require.True(t, stored.isChecked(), "what was encoded here is looked through at every load")
	_, err = parseRecord(stored, id)
	require.NoError(t, err)
}

// T5: numbers are read as encoding/binary does, but in their minimal spelling only,
// however much or little stands behind them.
func FuzzVarint(f *testing.F) {
	for _, v := range []uint64{0, 1, 127, 128, 1 << 14, 1<<42 - 1, maxMillis, maxMillis + 1, 1 << 56, 1<<63 - 1} {
		f.Add(binary.AppendUvarint(nil, v), uint64(maxMillis))
	}
	f.Add([]byte{0x80, 0}, uint64(maxSize))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint64(maxSize))
	f.Fuzz(func(t *testing.T, data []byte, limit uint64) {
		limit %= maxMillis + 1
		for behind := range 10 {
			in := reader{data: append(slices.Clip(data), make([]byte, behind)...)}
			v, n := binary.Uvarint(in.data)
			good := n > 0 && v <= limit && len(binary.AppendUvarint(nil, v)) == n
			got := in.uvarint(limit)
			if in.bad == good || good && (got != v || in.at != n) || !good && (got != 0 || in.more()) {
				t.Fatalf("%x, limit %d: read %d in %d bytes, bad %v; want %d in %d, good %v", in.data, limit, got, in.at, in.bad, v, n, good)
			}
		}
	})
}

// T5: a time is written as encoding/binary does, and read back, whatever its length.
func TestT5TimesHaveOneSpelling(t *testing.T) {
	for bits := range 51 {
		for _, at := range []int64{1<<bits - 1, 1 << bits, 1<<bits + 1, 0x2_a5c3_96b4_71 & (1<<bits - 1)} {
			if at > maxMillis {
				continue
			}
			data := appendMillis(nil, at)
			require.Equal(t, binary.AppendUvarint(nil, uint64(at)), data, at)
			for behind := range 10 {
				in := reader{data: append(slices.Clip(data), make([]byte, behind)...)}
				require.Equal(t, at, in.millis(), "%x", in.data)
				require.Equal(t, len(data), in.at)
			}
		}
	}
	in := reader{data: []byte{0x81, 0x82, 0x83, 0x84, 0x85, 0, 0, 0, 0}} // five bytes' worth in six
	require.Zero(t, in.millis())
	require.True(t, in.bad)
}
