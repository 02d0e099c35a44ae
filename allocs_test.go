//go:build !race

// The race detector makes compilers keep on the heap what would be on the stack.

package session_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// The committed table says how many allocations each kind of request costs
// above the bare handler, on a MemoryStore. Time is reported by benchmarks/ and
// never asserted; allocations do not depend on the machine.
const allocTable = "testdata/allocs.txt"

var updateAllocs = flag.Bool("update-allocs", false, "write testdata/allocs.txt")

// allocLimits are promises; the table may be better, never worse.
var allocLimits = map[string]int{"anonymous": 3, "read": 4, "write": 6}

func TestAllocations(t *testing.T) {
	var got strings.Builder
	counts := make(map[string]int)
	for _, op := range allocOps {
		n := countAllocs(t, op)
		counts[op.name] = n
		fmt.Fprintf(&got, "%s %d\n", op.name, n)
		if limit, ok := allocLimits[op.name]; ok && n > limit {
			t.Errorf("%s: %d allocations, the limit is %d", op.name, n, limit)
		}
	}
	if *updateAllocs {
		if err := os.WriteFile(allocTable, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, want := range readAllocTable(t) {
		if n, ok := counts[name]; !ok || n > want {
			t.Errorf("%s: %d allocations, %s has %d; find what was added, or run: go test -run TestAllocations -update-allocs .", name, n, allocTable, want)
		}
	}
	if t.Failed() {
		t.Logf("now:\n%s", got.String())
	}
}

func readAllocTable(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile(allocTable)
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		var name string
		var n int
		if _, err := fmt.Sscanf(line, "%s %d", &name, &n); err != nil {
			t.Fatalf("%s: %q: %v", allocTable, line, err)
		}
		table[name] = n
	}
	return table
}

var (
	allocEmail  = session.NewKey[string]("email")
	allocNote   = session.NewKey[string]("note")
	allocMember = session.NewKey[bool]("member")
	allocVisits = session.NewKey[int]("visits")
	allocSeen   = session.NewKey[time.Time]("seen")
)

var allocText = strings.Repeat("likes long walks; ", 12)

func allocLogin(s *session.Session) {
	if err := s.Login("42"); err != nil {
		panic(err)
	}
	allocEmail.Set(s, "someone.or.other@example.com")
	allocNote.Set(s, allocText)
	allocMember.Set(s, true)
	allocVisits.Set(s, 1)
	allocSeen.Set(s, time.Date(2026, time.November, 1, 12, 30, 0, 0, time.UTC))
}

type allocOp struct {
	name  string
	begin func(*session.Session)
	once  bool
	use   func(*session.Session) // nil: the handler does not look at its session
}

// allocOps are the requests. Each is sent by a visitor whom begin made, nil for
// one without a session. One that ends its session gets a new visitor each time.
var allocOps = []allocOp{
	{name: "anonymous"},
	{name: "untouched", begin: allocLogin},
	{name: "read", begin: allocLogin, use: func(s *session.Session) { _ = allocEmail.Get(s) }},
	{name: "write", begin: allocLogin, use: func(s *session.Session) { allocVisits.Set(s, allocVisits.Get(s)+1) }},
	{name: "login", begin: func(s *session.Session) { allocVisits.Set(s, 1) }, once: true, use: allocLogin},
	{name: "renew", begin: allocLogin, once: true, use: func(s *session.Session) { _ = s.Renew() }},
	{name: "logout", begin: allocLogin, once: true, use: (*session.Session).Destroy},
}

// countAllocs is what a request of op allocates more than the bare handler does.
func countAllocs(t *testing.T, op allocOp) int {
	t.Helper()
	const runs = 200
	m, err := session.New(session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	visitors := make([]http.Header, 1, runs+1)
	visitors[0] = http.Header{}
	if op.begin != nil {
		visitors[0] = allocVisitor(t, m, op.begin)
	}
	for op.once && len(visitors) < cap(visitors) { // AllocsPerRun runs once more than it is told
		visitors = append(visitors, allocVisitor(t, m, op.begin))
	}
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	handler := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if op.use != nil {
			op.use(session.FromContext(r.Context()))
		}
		w.WriteHeader(http.StatusOK)
	}))
	w := &allocWriter{header: http.Header{}}
	run := func(h http.Handler) float64 {
		next := 0
		return testing.AllocsPerRun(runs, func() {
			clear(w.header)
			h.ServeHTTP(w, &http.Request{Method: http.MethodGet, Header: visitors[next%len(visitors)]})
			next++
		})
	}
	return int(run(handler) - run(bare))
}

func allocVisitor(t *testing.T, m *session.Manager, begin func(*session.Session)) http.Header {
	t.Helper()
	c := sessiontest.Cookie(t, m, begin)
	return http.Header{"Cookie": {c.Name + "=" + c.Value}}
}

// allocWriter is a http.ResponseWriter that allocates nothing.
type allocWriter struct{ header http.Header }

func (w *allocWriter) Header() http.Header         { return w.header }
func (w *allocWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *allocWriter) WriteHeader(int)             {}
