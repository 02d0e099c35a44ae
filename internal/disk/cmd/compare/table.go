package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is everything that the table is made of.
type report struct {
	settings
	machine
	date  time.Time
	redis string // its version
	rows  []row
}

// A row is one job over one store, in all rounds.
type row struct {
	store  string
	job    job
	rounds []measurement
}

// add notes what a round found.
func (r *report) add(on subject, j job, m measurement) {
	at := slices.IndexFunc(r.rows, func(x row) bool { return x.store == on.name && x.job == j })
	if at < 0 {
		at = len(r.rows)
		r.rows = append(r.rows, row{store: on.name, job: j})
	}
	r.rows[at].rounds = append(r.rows[at].rounds, m)
}

// median is that of the rounds.
func (x row) median(of func(measurement) float64) float64 {
	var values []float64
	for _, m := range x.rounds {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func perSecond(m measurement) float64 { return m.perSecond }

const begin, end = "<!-- disk:begin -->", "<!-- disk:end -->"

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Written by `go run ./cmd/compare` in internal/disk on %s. %s, redis-server %s, bbolt %s, go-redis %s, %d cores, %s. %s\n\n",
		r.date.Format("2 January 2006"), strings.Replace(runtime.Version(), "go", "Go ", 1), r.redis,
		moduleVersion("go.etcd.io/bbolt"), moduleVersion("github.com/redis/go-redis/v9"), r.cores, r.filesystem, r.roundsText())
	fmt.Fprintf(&b, "A bare write of 512 bytes and `fsync` there took %s µs (median of %d), 99 %% of them at most %s µs.\n", number(r.sync[0]), r.syncs, number(r.sync[1]))
	if r.quick {
		b.WriteString("\n**A run with -quick: it shows that the program works. The figures mean nothing.**\n")
	}
	for _, path := range []string{"/read", "/write"} {
		fmt.Fprintf(&b, "\n%s:\n\n| sessions in | at once | requests a second | p50 µs | p99 µs | times slower than MemoryStore | `fsync`s a request |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n", requests[path])
		for _, x := range r.rows {
			if x.job.path == path {
				r.line(&b, x)
			}
		}
	}
	return b.String()
}

var requests = map[string]string{
	"/read":  "A request that reads one value",
	"/write": "A request that reads a value and writes it",
}

func (r *report) roundsText() string {
	if r.rounds == 1 {
		return fmt.Sprintf("One round of %v a row.", r.budget)
	}
	return fmt.Sprintf("Medians of %d rounds of %v a row.", r.rounds, r.budget)
}

func (r *report) line(b *strings.Builder, x row) {
	syncs := "not counted"
	if n := x.median(func(m measurement) float64 { return m.syncs }); n >= 0 {
		syncs = number(n)
	}
	fmt.Fprintf(b, "| %s | %d | %.0f | %s | %s | %s | %s |\n", x.store, x.job.workers, x.median(perSecond),
		number(x.median(func(m measurement) float64 { return m.p50 })),
		number(x.median(func(m measurement) float64 { return m.p99 })),
		number(r.memory(x.job)/x.median(perSecond)), syncs)
}

// memory is what MemoryStore does of a job in a second.
func (r *report) memory(j job) float64 {
	for _, x := range r.rows {
		if x.store == "MemoryStore" && x.job == j {
			return x.median(perSecond)
		}
	}
	return 0
}

// number has two digits, or all before the point.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.2g", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// split returns what a page has before and behind the table.
func split(page string) (before, after string, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return "", "", err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return "", "", fmt.Errorf("compare: %s lacks %s or, behind it, %s", page, begin, end)
	}
	return before, after, nil
}

// writeInto puts text between the markers of a page.
func writeInto(page, text string) error {
	before, after, err := split(page)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(before+begin+"\n"+text+end+after), 0o644)
}
