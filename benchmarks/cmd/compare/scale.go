package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/session/benchmarks/internal/scale"
)

type scaleRow = scale.Result

// measureScale runs each store in a process of its own: the heap is what is
// measured.
func measureScale(s settings, h *host) []scaleRow {
	program := filepath.Join(h.dir, "scale")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/scale").CombinedOutput(); err != nil {
		h.Fatalf("%v\n%s", err, out)
	}
	var rows []scaleRow
	for _, store := range scale.Stores {
		cmd := exec.Command(program, "-json", "-store", store.Name,
			"-n", fmt.Sprint(s.sessions), "-watch", s.watch.String(), "-wait", s.wait.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			h.Fatal(err)
		}
		var row scaleRow
		if err := json.Unmarshal(out, &row); err != nil {
			h.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

// measureSweep asks the library's own benchmark how long its sweep holds a lock:
// from outside that cannot be seen.
func measureSweep(s settings, h *host) map[string]float64 {
	values := make(map[string]float64)
	if s.quick {
		return values
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "MemoryStoreSweep", "-benchtime", "5x", ".")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "BenchmarkMemoryStoreSweep") {
			continue
		}
		fields := strings.Fields(line)
		for i := 2; i+1 < len(fields); i += 2 {
			var v float64
			if _, err := fmt.Sscan(fields[i], &v); err != nil && err != io.EOF {
				h.Fatal(err)
			}
			values[fields[i+1]] = v
		}
	}
	return values
}
