package session

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// R16, T5: what an outcome leaves of a record is encoded as if every value of it
// were written anew, in order.
func TestR16EncodingIsThatOfAllValues(t *testing.T) {
	names := []string{"a", "ab", "b", "ba", "c", strings.Repeat("d", 127), strings.Repeat("d", 128), strings.Repeat("e", 255)}
	sizes := []int{1, 2, 63, 64, 8191, 8192}
	rnd := rand.New(rand.NewPCG(1, 2))
	some := func() map[string]change {
		values := make(map[string]change)
		for _, name := range names {
			if rnd.IntN(2) == 0 {
				data := make([]byte, sizes[rnd.IntN(len(sizes))])
				values[name] = change{name: name, data: data, survives: rnd.IntN(2) == 0}
			}
		}
		return values
	}
	sorted := func(values map[string]change) (list []change) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			list = append(list, values[name])
		}
		return list
	}
	for range 3000 {
		before, changes := some(), some()
		d := draft{id: newID(), created: 1, end: 2, written: 1, outcome: &outcome{changes: sorted(before)}}
		data := d.encode()
		base, err := parseRecord(Record{Version: 1, Data: data}, d.id)
		require.NoError(t, err)
		o := outcome{keep: keep(rnd.IntN(3))}
		want := make(map[string]change)
		for name, v := range before {
			if o.keep == keepAll || o.keep == keepSurvivors && v.survives {
				want[name] = v
			}
		}
		for name, c := range changes {
			if rnd.IntN(4) == 0 {
				c.data = nil
				changes[name] = c
				delete(want, name)
				continue
			}
			want[name] = c
		}
		o.changes = sorted(changes)
		var expected []byte
		for _, c := range sorted(want) {
			expected = appendValue(expected, c.name, c.data, c.survives)
		}
		require.Equal(t, expected, o.appendValues(nil, &base))
		for name, c := range before {
			v, found := base.lookup(name)
			require.True(t, found)
			require.Equal(t, value{data: c.data, survives: c.survives}, v)
		}
	}
}
