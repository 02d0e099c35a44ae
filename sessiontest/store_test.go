package sessiontest_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

func openMemory(*testing.T) session.Store { return new(session.MemoryStore) }

func TestMemoryStore(t *testing.T) {
	sessiontest.TestStore(t, openMemory, sessiontest.Options{})
}

// On the real clock the suite is held to its own brackets.
func TestMemoryStoreRealTime(t *testing.T) {
	sessiontest.TestStore(t, openMemory, sessiontest.Options{RealTime: true})
}

// What the broken stores are made of must pass, or their failures prove nothing.
func TestPlainStore(t *testing.T) {
	open := func(*testing.T) session.Store { return newPlain() }
	sessiontest.TestStore(t, open, sessiontest.Options{})
}

func TestPlainUserStore(t *testing.T) {
	for _, free := range []bool{false, true} {
		open := func(*testing.T) session.Store {
			s := newPlainUsers()
			s.free = free
			return s
		}
		name := fmt.Sprintf("free %v, ", free)
		t.Run(name+"virtual time", func(t *testing.T) { sessiontest.TestStore(t, open, sessiontest.Options{}) })
		t.Run(name+"real time", func(t *testing.T) { sessiontest.TestStore(t, open, sessiontest.Options{RealTime: true}) })
	}
}

// The environment of a child process: which defect, and on which clock.
const (
	defectVar = "SESSIONTEST_DEFECT"
	clockVar  = "SESSIONTEST_REAL_TIME"
)

// TestDefect fails on purpose, in a child process that TestSuiteHasTeeth starts:
// a *testing.T cannot be faked, and a subtest's failure cannot be taken back.
func TestDefect(t *testing.T) {
	name := os.Getenv(defectVar)
	if name == "" {
		t.Skip("only in a child process")
	}
	for _, d := range defects() {
		if d.name == name {
			open := func(*testing.T) session.Store { return d.open() }
			sessiontest.TestStore(t, open, sessiontest.Options{RealTime: os.Getenv(clockVar) != ""})
			return
		}
	}
	t.Fatalf("there is no defect %q", name)
}

func TestSuiteHasTeeth(t *testing.T) {
	var mu sync.Mutex
	cases, meant := map[string]bool{}, map[string]bool{"UserStore": true} // which is a group
	t.Run("defects", func(t *testing.T) {
		for _, d := range defects() {
			for _, clock := range clocks(d) {
				t.Run(d.name+clock, func(t *testing.T) {
					t.Parallel()
					verdicts := runDefect(t, d, clock)
					mu.Lock()
					defer mu.Unlock()
					for name := range verdicts {
						cases[name] = true
					}
					for _, name := range d.want {
						meant[name] = true
					}
				})
			}
		}
	})
	t.Run("every case bites", func(t *testing.T) {
		for name := range cases {
			if !meant[name] {
				t.Errorf("no defect is meant for %q: it proves nothing yet", name)
			}
		}
	})
}

func clocks(d defect) []string {
	if d.inClock {
		return []string{"", " on the real clock"}
	}
	return []string{""}
}

// runDefect holds a broken store to the suite in a child process, expects it to
// fail where it must, and returns each case's verdict: PASS, FAIL or SKIP. On the
// real clock a busy machine may miss the moment at which a defect shows, so it
// gets three chances there.
func runDefect(t *testing.T, d defect, clock string) map[string]string {
	t.Helper()
	chances := 1
	if clock != "" {
		chances = 3
	}
	for chance := 1; ; chance++ {
		verdicts, faults := tryDefect(t, d, clock)
		if len(faults) == 0 {
			return verdicts
		}
		if chance == chances {
			t.Fatal(strings.Join(faults, "\n"))
		}
	}
}

func tryDefect(t *testing.T, d defect, clock string) (verdicts map[string]string, faults []string) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), binary, "-test.run=^TestDefect$", "-test.v", "-test.timeout=60s")
	child.Env = append(os.Environ(), defectVar+"="+d.name, clockVar+"="+clock)
	out, err := child.CombinedOutput()
	if strings.Contains(string(out), "panic: ") {
		t.Fatalf("the suite did not come to its end:\n%s", out)
	}
	if err == nil {
		faults = append(faults, "the suite passes this store")
	} else if !strings.Contains(string(out), "The rule: ") {
		faults = append(faults, fmt.Sprintf("no failure quotes its rule:\n%s", out))
	}
	verdicts = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ +--- (\w+): TestDefect/(\S+)`).FindAllStringSubmatch(string(out), -1) {
		verdicts[strings.ReplaceAll(m[2], "_", " ")] = m[1]
	}
	for _, want := range d.want {
		if got := verdicts[want]; got != "FAIL" {
			faults = append(faults, fmt.Sprintf("verdict of %q: %q, want FAIL", want, got))
		}
	}
	return verdicts, faults
}
