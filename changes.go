package session

import (
	"bytes"
	"sort"
)

// What a request did to its session is kept as a list of steps, in order, and
// folded over the record that is there when it commits. On a conflict the same
// steps are folded over the other request's record: that is the whole of
// merging (C2, R16). docs/design.md has the table of sequences.

// An op changes the session as a whole; a step's changes come after it.
type op uint8

const (
	opNone    op = iota
	opLogin      // binds a user; what does not survive a login goes (L1, L2)
	opReplace    // a Login as another user: the record goes, survivors included (L3)
	opDestroy    // the record goes
	opRenew      // a new secret
	opClear      // every value goes
)

type step struct {
	op      op
	user    string   // opLogin
	at      int64    // opLogin: when, in milliseconds since 1970
	changes []change // by name, ascending
}

// A change is what a step does to one value.
type change struct {
	name     string
	data     []byte // the new value, nil when deleted; provisional if there are updates
	err      error  // data could not be encoded (R8)
	updates  []update
	survives bool // a Login (L2)
	known    bool // data does not depend on what a commit finds: a Set or Delete came last, or first
}

// An update makes a value's bytes out of those that are there, nil for none.
type update func(old []byte) ([]byte, error)

func search(changes []change, name string) (int, bool) {
	i := sort.Search(len(changes), func(i int) bool { return changes[i].name >= name })
	return i, i < len(changes) && changes[i].name == name
}

// put returns the place of name among the step's changes, made if need be.
func (st *step) put(name string) *change {
	i, found := search(st.changes, name)
	if !found {
		st.changes = append(st.changes, change{})
		copy(st.changes[i+1:], st.changes[i:])
		st.changes[i] = change{name: name}
	}
	return &st.changes[i]
}

// visible is the value that a handler reads after steps on base.
func visible(base *content, steps []step, name string) ([]byte, bool) {
	afterLogin := false
	for i := len(steps) - 1; i >= 0; i-- {
		st := &steps[i]
		if j, found := search(st.changes, name); found {
			if c := &st.changes[j]; c.data != nil && (c.survives || !afterLogin) {
				return c.data, true
			}
			return nil, false
		}
		switch st.op {
		case opLogin:
			afterLogin = true
		case opReplace, opDestroy, opClear:
			return nil, false
		}
	}
	if v, found := base.lookup(name); found && (v.survives || !afterLogin) {
		return v.data, true
	}
	return nil, false
}

// keep says which of the record's values stay.
type keep uint8

const (
	keepAll       keep = iota
	keepSurvivors      // opLogin
	keepNone           // opClear
)

func (k keep) keeps(v value) bool { return k == keepAll || k == keepSurvivors && v.survives }

// An outcome is what steps make of a record.
type outcome struct {
	drops     bool // the record is deleted first
	destroyed bool // because Destroy said so
	fresh     bool // what is left is a new record, not the next version
	login     bool
	renewed   bool

	user          string
	created       int64 // 0: now
	authenticated int64
	keep          keep
	changes       []change // by name, ascending; updates resolved
}

// fold applies steps to base. run calls an update.
func fold(base *content, steps []step, run func(update, []byte) ([]byte, error)) outcome {
	o := outcome{fresh: !base.exists(), user: base.user, created: base.created, authenticated: base.authenticated}
	for i := range steps {
		st := &steps[i]
		switch st.op {
		case opLogin:
			o.login, o.user, o.authenticated = true, st.user, st.at
			o.keep = max(o.keep, keepSurvivors)
			o.changes = survivors(o.changes)
		case opReplace, opDestroy:
			o = outcome{fresh: true, drops: base.exists(), destroyed: o.destroyed || st.op == opDestroy}
		case opRenew:
			o.renewed = true
		case opClear:
			o.keep, o.changes = keepNone, nil
		}
		o.apply(base, st.changes, run)
	}
	return o
}

// survivors turns changes that a Login drops into deletions: left out, they
// would uncover the record's own value of that name.
func survivors(changes []change) []change {
	out := make([]change, len(changes))
	for i, c := range changes {
		if !c.survives {
			c = change{name: c.name, known: true}
		}
		out[i] = c
	}
	return out
}

// apply lays changes over those that are there already.
func (o *outcome) apply(base *content, changes []change, run func(update, []byte) ([]byte, error)) {
	if len(o.changes) == 0 && !anyUpdates(changes) {
		o.changes = changes
		return
	}
	merged := make([]change, 0, len(o.changes)+len(changes))
	before := o.changes
	for _, c := range changes {
		for len(before) > 0 && before[0].name < c.name {
			merged, before = append(merged, before[0]), before[1:]
		}
		if len(c.updates) > 0 {
			c = o.resolve(base, c, run)
		}
		if len(before) > 0 && before[0].name == c.name {
			before = before[1:]
		}
		merged = append(merged, c)
	}
	o.changes = append(merged, before...)
}

func anyUpdates(changes []change) bool {
	for i := range changes {
		if len(changes[i].updates) > 0 {
			return true
		}
	}
	return false
}

// resolve runs the updates of c on the value that is there.
func (o *outcome) resolve(base *content, c change, run func(update, []byte) ([]byte, error)) change {
	data, err := o.lookup(base, c.name)
	for i := 0; i < len(c.updates) && err == nil; i++ {
		data, err = run(c.updates[i], data)
	}
	return change{name: c.name, data: data, survives: c.survives, err: err, known: true}
}

// lookup returns the value so far. The error is that of one that could not be
// encoded, which an update in a later step does not heal either (R8).
func (o *outcome) lookup(base *content, name string) ([]byte, error) {
	if i, found := search(o.changes, name); found {
		return o.changes[i].data, o.changes[i].err
	}
	if v, found := base.lookup(name); found && !o.fresh && o.keep.keeps(v) {
		return v.data, nil
	}
	return nil, nil
}

// err is the first value that could not be encoded (R8).
func (o *outcome) err() error {
	for i := range o.changes {
		if o.changes[i].err != nil {
			return o.changes[i].err
		}
	}
	return nil
}

// mints reports whether the outcome needs a new secret, and so a cookie.
func (o *outcome) mints() bool { return o.login || o.renewed || o.fresh && o.stores() }

// stores reports whether a fresh outcome is worth a record (R1, R16).
func (o *outcome) stores() bool {
	if o.user != "" {
		return true
	}
	for i := range o.changes {
		if o.changes[i].data != nil {
			return true
		}
	}
	return false
}

// alters reports whether the outcome differs from the record that it was folded over.
func (o *outcome) alters(base *content) bool {
	if o.fresh {
		return o.stores()
	}
	if o.login || o.renewed {
		return true
	}
	for i := range o.changes {
		c := &o.changes[i]
		v, found := base.lookup(c.name)
		if found != (c.data != nil) || found && (c.survives != v.survives || !bytes.Equal(c.data, v.data)) {
			return true
		}
	}
	return o.keep != keepAll && o.loses(base)
}

// loses reports whether a value goes that no change names.
func (o *outcome) loses(base *content) bool {
	for in := base.values(); in.more(); {
		v := in.value()
		if _, named := search(o.changes, string(v.name)); !named && !o.keep.keeps(v) {
			return true
		}
	}
	return false
}

// maxValues is how many bytes appendValues needs at the most.
func (o *outcome) maxValues(base *content) int {
	size := 0
	for i := range o.changes {
		size += len(o.changes[i].name) + len(o.changes[i].data) + 4
	}
	if base != nil {
		size += len(base.data) - int(base.valuesAt)
	}
	return size
}

// appendValues encodes what the outcome leaves of base, nil for none, in
// ascending order of names. What stays side by side is copied as it is, because a
// value has one encoding (T5).
func (o *outcome) appendValues(out []byte, base *content) []byte {
	data, from := o.kept(base), 0
	for i := range o.changes {
		c := &o.changes[i]
		at, next := placeOf(data, from, c.name)
		out = append(out, data[from:at]...)
		out, from = c.append(out), next
	}
	return append(out, data[from:]...)
}

// kept are the values that stay unless a change names them.
func (o *outcome) kept(base *content) (data []byte) {
	if base == nil {
		return nil
	}
	in := base.values()
	if o.keep == keepAll {
		return in.data
	}
	for in.more() {
		at := in.at
		if v := in.value(); o.keep.keeps(v) {
			data = append(data, in.data[at:in.at]...)
		}
	}
	return data
}

// placeOf is where the value called name begins and ends, at or after from; if
// there is none, where it would, twice.
func placeOf(data []byte, from int, name string) (at, end int) {
	if at, _, end, _ = findValue(data, from, name); at >= 0 {
		return at, end
	}
	in := reader{data: data, at: from}
	for in.more() {
		at = in.at
		if v := in.value(); string(v.name) > name {
			return at, at
		}
	}
	return in.at, in.at
}

func (c *change) append(b []byte) []byte {
	if c.data == nil {
		return b
	}
	return appendValue(b, c.name, c.data, c.survives)
}
