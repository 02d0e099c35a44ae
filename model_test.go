package session_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

// The model walks random sequences of operations by several requests at once
// against a reference that is written as the rules read: maps, one operation
// after the other, no versions, no merging (R16, L1 to L4, C2 to C4, C7). One
// operation runs at a time, so a seed is a story that can be told again:
//
//	go test -run 'TestModel/memory/seed=17'
//
// Values are strings. Keys a and b go with a Login, c survives it.

var modelKeys = map[string]session.Key[string]{
	"a": session.NewKey[string]("a"),
	"b": session.NewKey[string]("b"),
	"c": session.NewKey[string]("c").SurvivesLogin(),
}

// A modelRecord is a session as the reference knows it.
type modelRecord struct {
	n      int
	user   string
	secret int
	values map[string]string
}

func (r *modelRecord) clone() *modelRecord {
	c := *r
	c.values = maps.Clone(r.values)
	return &c
}

type modelOp struct{ verb, key, arg string }

func (o modelOp) String() string { return strings.TrimSpace(o.verb + " " + o.key + o.arg) }

// apply does one operation to a record, as if nobody else were there.
func (o modelOp) apply(r *modelRecord) {
	switch o.verb {
	case "set":
		r.values[o.key] = o.arg
	case "update":
		r.values[o.key] += o.arg
	case "delete":
		delete(r.values, o.key)
	case "clear":
		clear(r.values)
	case "login":
		r.user = o.arg
		maps.DeleteFunc(r.values, func(k, _ string) bool { return k != "c" })
	case "destroy", "replace":
		*r = modelRecord{values: map[string]string{}}
	}
}

// A modelRequest is what one request knows and has not yet saved.
type modelRequest struct {
	base       *modelRecord // as loaded or last saved; nil: none
	ended      bool
	cookied    bool // its cookie opened a session
	superseded bool // or had, until a moment ago
	begun      bool
	ops        []modelOp
	cookie     string // "", "clear" or the number of a secret
}

// view is what the handler reads.
func (q *modelRequest) view() *modelRecord {
	r := &modelRecord{values: map[string]string{}}
	if q.base != nil {
		r = q.base.clone()
	}
	for _, o := range q.ops {
		o.apply(r)
	}
	return r
}

func (q *modelRequest) begunSession() bool {
	return q.base != nil && (len(q.ops) == 0 || q.ops[0].verb != "destroy" || len(q.ops) > 1) ||
		slices.ContainsFunc(q.ops, func(o modelOp) bool { return o.verb == "set" || o.verb == "update" || o.verb == "login" })
}

// do notes an operation, as R16 says.
func (q *modelRequest) do(o modelOp) (err error) {
	view := q.view()
	switch o.verb {
	case "destroy":
		q.drop(o)
		return nil
	case "login":
		if q.begun {
			return session.ErrCommitted
		}
		if view.user != "" && view.user != o.arg {
			q.drop(modelOp{verb: "replace"})
		}
	case "renew":
		if q.begun {
			return session.ErrCommitted
		}
		if !q.begunSession() {
			return nil
		}
	case "clear":
		if !q.begunSession() {
			return nil
		}
	case "delete":
		if _, there := view.values[o.key]; !there && q.base == nil && len(q.ops) == 0 {
			return nil
		}
	}
	q.ops = append(q.ops, o)
	return nil
}

func (q *modelRequest) drop(o modelOp) {
	q.ops = nil
	if q.base != nil || q.superseded {
		q.ops = []modelOp{o}
	}
}

// A model is the store, and every secret that was ever given out.
type model struct {
	records map[int]*modelRecord
	last    int
	owner   map[int]int // record of each secret
}

func (m *model) next() int { m.last++; return m.last }

// load is what a token of that secret opens.
func (m *model) load(secret int) *modelRequest {
	r := m.records[m.owner[secret]]
	switch {
	case r == nil:
		return &modelRequest{}
	case r.secret != secret:
		return &modelRequest{ended: true, superseded: true} // C7
	}
	return &modelRequest{base: r.clone(), cookied: true}
}

// commit saves what q did. UpdateNow confirms: what it saw must be the newest.
func (m *model) commit(q *modelRequest, confirm bool) error {
	ops := q.ops
	q.ops = nil
	if len(ops) == 0 {
		return nil
	}
	if v := ops[0].verb; (v == "destroy" || v == "replace") && q.base != nil {
		there := m.records[q.base.n]
		if q.base.user == "" && there != nil && there.user != "" {
			q.ended = true // C4
		} else {
			delete(m.records, q.base.n)
			switch {
			case q.begun: // what left, left
			case q.ended:
				q.cookie = ""
			case q.cookied:
				q.cookie = "clear"
			default:
				q.cookie = ""
			}
			q.base, ops = nil, ops[1:]
			if len(ops) == 0 {
				return nil
			}
		}
	}
	mints := slices.ContainsFunc(ops, func(o modelOp) bool { return o.verb == "login" || o.verb == "renew" })
	if q.base != nil && !q.ended {
		after := q.base.clone()
		for _, o := range ops {
			o.apply(after)
		}
		there := m.records[q.base.n]
		if !mints && maps.Equal(after.values, q.base.values) && !confirm {
			return nil
		}
		if there != nil && there.secret == q.base.secret {
			for _, o := range ops {
				o.apply(there)
			}
			if mints {
				m.mint(q, there)
			}
			q.base = there.clone()
			return nil
		}
		q.ended = true // C3
	}
	if q.ended {
		i := len(ops) - 1
		for i >= 0 && ops[i].verb != "login" {
			i--
		}
		switch {
		case i < 0 && len(ops) == 1 && ops[0].verb == "destroy" && !q.superseded:
			return nil
		case i < 0:
			return session.ErrEnded
		}
		ops = ops[i:] // L4
	}
	fresh := &modelRecord{values: map[string]string{}}
	for _, o := range ops {
		o.apply(fresh)
	}
	if fresh.user == "" && len(fresh.values) == 0 {
		return nil // R1
	}
	if q.begun {
		return session.ErrCommitted // R7
	}
	fresh.n = m.next()
	m.records[fresh.n] = fresh
	m.mint(q, fresh)
	q.base, q.ended, q.superseded = fresh.clone(), false, false
	return nil
}

func (m *model) mint(q *modelRequest, r *modelRecord) {
	r.secret = m.next()
	m.owner[r.secret] = r.n
	q.cookie = fmt.Sprint(r.secret)
}

// A walk is one story: the model, the real thing, and what the visitors hold.
type walk struct {
	t       *testing.T
	rand    *rand.Rand
	manager *session.Manager
	model   model
	tokens  map[int]string // of each secret
	ids     map[int]uuid.UUID
	open    []*walkRequest
	story   []string
}

// A walkRequest is a request in the middle of its handler.
type walkRequest struct {
	name string
	q    *modelRequest
	w    *httptest.ResponseRecorder
	step chan func(http.ResponseWriter, *http.Request)
	done chan struct{}
}

func TestModel(t *testing.T) {
	eachStore(t, func(t *testing.T, store session.Store) {
		walks := 300
		if _, memory := store.(*session.MemoryStore); !memory {
			walks = 40
		}
		for seed := range walks {
			t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { newWalk(t, store, uint64(seed)).run() })
		}
	})
}

func newWalk(t *testing.T, store session.Store, seed uint64) *walk {
	m, err := session.New(session.Config{Store: store, Name: "model", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return &walk{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), manager: m,
		model:  model{records: map[int]*modelRecord{}, owner: map[int]int{}},
		tokens: map[int]string{}, ids: map[int]uuid.UUID{},
	}
}

func (k *walk) run() {
	for range 60 {
		switch {
		case len(k.open) == 0 || len(k.open) < 3 && k.rand.IntN(6) == 0:
			k.start()
		case k.rand.IntN(4) == 0:
			k.finish(k.rand.IntN(len(k.open)))
		default:
			k.operate(k.open[k.rand.IntN(len(k.open))])
		}
		if k.t.Failed() {
			break
		}
	}
	for len(k.open) > 0 {
		k.finish(0)
	}
	if k.t.Failed() {
		k.t.Logf("the story:\n%s", strings.Join(k.story, "\n"))
	}
}

func (k *walk) tell(format string, args ...any) {
	k.story = append(k.story, fmt.Sprintf(format, args...))
}

// start opens a request with the newest secret, an older one, or none.
func (k *walk) start() {
	secret := 0
	if secrets := slices.Sorted(maps.Keys(k.tokens)); len(secrets) > 0 && k.rand.IntN(8) > 0 {
		secret = secrets[len(secrets)-1]
		if k.rand.IntN(4) == 0 {
			secret = secrets[k.rand.IntN(len(secrets))]
		}
	}
	r := &walkRequest{
		name: fmt.Sprintf("r%d", len(k.story)), q: k.model.load(secret), w: httptest.NewRecorder(),
		step: make(chan func(http.ResponseWriter, *http.Request)), done: make(chan struct{}),
	}
	k.tell("%s begins with secret %d", r.name, secret)
	req := httptest.NewRequest("POST", "/", nil)
	if secret != 0 {
		req.Header.Set("Cookie", "__Host-sid="+k.tokens[secret])
	}
	handler := k.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for f := range r.step {
			f(w, req)
			r.done <- struct{}{}
		}
	}))
	go func() {
		handler.ServeHTTP(r.w, req)
		close(r.done)
	}()
	k.open = append(k.open, r)
	k.compareView(r) // and so wait for the load
}

func (r *walkRequest) do(f func(http.ResponseWriter, *http.Request)) {
	r.step <- f
	<-r.done
}

// operate lets a request do something, and compares what it is told.
func (k *walk) operate(r *walkRequest) {
	o := modelOp{verb: k.pick("set", "set", "set", "update", "update", "delete", "clear", "login", "login", "renew", "destroy", "save", "updatenow", "flush")}
	switch o.verb {
	case "set", "update", "delete", "updatenow":
		o.key, o.arg = k.pick("a", "b", "c"), k.pick("x", "y")
	case "login":
		o.arg = k.pick("alice", "alice", "bob")
	}
	k.tell("%s: %v", r.name, o)
	var want, got error
	var value string
	r.do(func(w http.ResponseWriter, req *http.Request) {
		value, got = perform(w, req, o)
	})
	switch o.verb {
	case "save":
		want = k.model.commit(r.q, false)
	case "updatenow":
		_ = r.q.do(modelOp{"update", o.key, o.arg})
		want = k.model.commit(r.q, true)
		if want == nil && value != k.model.records[r.q.base.n].values[o.key] {
			k.t.Errorf("%s: UpdateNow returned %q, %q was committed", r.name, value, k.model.records[r.q.base.n].values[o.key])
		}
	case "flush":
		want = k.flush(r)
	default:
		want = r.q.do(o)
	}
	if !errors.Is(got, want) || want == nil && got != nil {
		k.t.Errorf("%s: %v returned %v, want %v", r.name, o, got, want)
	}
	if o.verb == "flush" && want != nil {
		k.finish(slices.Index(k.open, r)) // its answer is out: nothing more to tell
		return
	}
	k.compareView(r)
}

func (k *walk) flush(r *walkRequest) error {
	if r.q.begun {
		return nil
	}
	err := k.model.commit(r.q, false)
	r.q.begun = true
	if err != nil {
		r.q.cookie = "failed"
	}
	return err
}

// perform does to a real session what the model does to its own.
func perform(w http.ResponseWriter, req *http.Request, o modelOp) (string, error) {
	s := session.FromContext(req.Context())
	key := modelKeys[o.key]
	add := func(old string) string { return old + o.arg }
	switch o.verb {
	case "set":
		key.Set(s, o.arg)
	case "update":
		key.Update(s, add)
	case "updatenow":
		return key.UpdateNow(req.Context(), s, add)
	case "delete":
		key.Delete(s)
	case "clear":
		s.Clear()
	case "login":
		return "", s.Login(o.arg)
	case "renew":
		return "", s.Renew()
	case "destroy":
		s.Destroy()
	case "save":
		return "", s.Save(req.Context())
	case "flush":
		return "", http.NewResponseController(w).Flush()
	}
	return "", nil
}

func (k *walk) pick(from ...string) string { return from[k.rand.IntN(len(from))] }

// compareView reads everything that the handler can read.
func (k *walk) compareView(r *walkRequest) {
	want := r.q.view()
	r.do(func(_ http.ResponseWriter, req *http.Request) {
		s := session.FromContext(req.Context())
		got := readAll(s)
		if s.User() != want.user || !maps.Equal(got, want.values) {
			k.t.Errorf("%s reads user %q, %v; want %q, %v", r.name, s.User(), got, want.user, want.values)
		}
	})
}

func readAll(s *session.Session) map[string]string {
	all := map[string]string{}
	for name := range s.Names() {
		all[name] = modelKeys[name].Get(s)
	}
	return all
}

// finish lets a handler return, and compares the response and then the store.
func (k *walk) finish(i int) {
	r := k.open[i]
	k.open = slices.Delete(k.open, i, i+1)
	failed := r.q.cookie == "failed"
	var err error
	if !failed {
		err = k.model.commit(r.q, false)
	}
	close(r.step)
	<-r.done
	k.tell("%s ends: %d", r.name, r.w.Code)
	status := http.StatusOK
	if failed || errors.Is(err, session.ErrEnded) && !r.q.begun {
		status = http.StatusConflict
		r.q.cookie = ""
	}
	if r.w.Code != status {
		k.t.Errorf("%s: status %d, want %d", r.name, r.w.Code, status)
	}
	k.compareCookie(r)
	k.compareStore()
}

// compareCookie holds the response to at most one Set-Cookie, the right one (R13).
func (k *walk) compareCookie(r *walkRequest) {
	lines := r.w.Result().Cookies()
	got := "none"
	switch {
	case len(lines) > 1:
		got = fmt.Sprint(len(lines), " lines")
	case len(lines) == 1 && lines[0].Value == "":
		got = "clear"
	case len(lines) == 1:
		got = "token"
	}
	want := map[string]string{"": "none", "clear": "clear"}[r.q.cookie]
	if want == "" {
		want = "token"
	}
	if got != want {
		k.t.Errorf("%s: Set-Cookie: %s, want %s", r.name, got, want)
	}
	if got == "token" && want == "token" {
		var secret int
		fmt.Sscan(r.q.cookie, &secret)
		k.tokens[secret] = lines[0].Value
	}
}

// compareStore looks at every secret that a visitor holds: the newest of a live
// record opens it, every other one opens nothing.
func (k *walk) compareStore() {
	for secret, token := range k.tokens {
		record := k.model.records[k.model.owner[secret]]
		if record != nil && record.secret != secret {
			record = nil
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Cookie", "__Host-sid="+token)
		k.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			k.compareRecord(secret, record, session.FromContext(req.Context()))
		})).ServeHTTP(httptest.NewRecorder(), req)
	}
}

func (k *walk) compareRecord(secret int, want *modelRecord, s *session.Session) {
	got := readAll(s)
	switch {
	case want == nil:
		if s.ID() != uuid.Nil || s.User() != "" || len(got) > 0 || !s.IsNew() {
			k.t.Errorf("dead secret %d opens %v: user %q, %v", secret, s, s.User(), got)
		}
		return
	case s.User() != want.user || !maps.Equal(got, want.values):
		k.t.Errorf("secret %d opens user %q, %v; want %q, %v", secret, s.User(), got, want.user, want.values)
	}
	if id, known := k.ids[want.n]; known && id != s.ID() {
		k.t.Errorf("L1: the session of secret %d changed its ID from %v to %v", secret, id, s.ID())
	}
	k.ids[want.n] = s.ID()
}
