package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	reportBegin = "<!-- report:begin -->"
	reportEnd   = "<!-- report:end -->"
)

// environment says where figures come from.
func environment(people int, redis string, took time.Duration) string {
	return fmt.Sprintf("Made by `go run ./examples/cluster -report` on %s in %v: %d visitors, three servers, %s, Redis %s, %d processors (%s).",
		time.Now().UTC().Format("2 January 2006"), took.Round(time.Second), people, runtime.Version(), redis, runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH)
}

// write puts the report between the markers of docs/many-servers.md, and its
// plots beside that.
func write(docs string, all []outcome, where string) error {
	page := filepath.Join(docs, "many-servers.md")
	old, err := os.ReadFile(page)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# Many servers\n\n"+reportBegin+"\n"+reportEnd+"\n"), nil
	}
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), reportBegin)
	_, tail, closed := strings.Cut(rest, reportEnd)
	if !ok || !closed {
		return fmt.Errorf("cluster: %s has no %s with a %s behind it", page, reportBegin, reportEnd)
	}
	text := head + reportBegin + "\n" + reportText(all, where) + reportEnd + tail
	errs := []error{os.WriteFile(page, []byte(text), 0o644)}
	for name, svg := range plots(all) {
		errs = append(errs, os.WriteFile(filepath.Join(docs, name), svg, 0o644))
	}
	return errors.Join(errs...)
}

func reportText(all []outcome, where string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s Each line is one run with new servers and new visitors, who log in, increment a counter and look at it, five times a second each.\n\n", where)
	b.WriteString("| what happens | sessions in | logouts | increments lost | requests without an answer | longest wait |\n| --- | --- | --- | --- | --- | --- |\n")
	twice, mixed := int64(0), int64(0)
	for _, o := range all {
		t := o.tally
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d of %d | %.2f s |\n",
			o.fault, o.way.inText(), t.Logouts, t.Lost, t.Failed, t.Failed+t.Requests, t.Gap.Seconds())
		twice, mixed = twice+t.Twice, mixed+t.Mixed
	}
	fmt.Fprintf(&b, "\nA visitor who moves twice may be logged out twice. Increments lost are those that were answered 200 and are gone. The longest wait is that of the visitor who had it worst, from asking to a good answer, asking again every %v included; how much of it is this machine's own, the lines with nothing say. ", retryTime)
	fmt.Fprintf(&b, "Increments that were counted without having been tried: %d. Answers with somebody else's session: %d.\n\n", twice, mixed)
	b.WriteString("![Logouts that nobody asked for, by what happens and where sessions are](many-servers-logouts.svg)\n\n")
	b.WriteString("![The longest wait, by what happens and where sessions are](many-servers-wait.svg)\n\n")
	b.WriteString("![Answers and requests without one while the Redis primary is killed, with shared Redis](many-servers-failover.svg)\n\n")
	b.WriteString("What a request costs while nothing happens. The processor time is that of the three servers, health checks included; the commands are those that the Redis primary ran, those that scripts call included.\n\n")
	b.WriteString("| sessions in | requests | CPU per request | Redis commands per request |\n| --- | --- | --- | --- |\n")
	for _, o := range undisturbed(all) {
		cpu, commands := o.cost.perRequest()
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", o.way.inText(), o.cost.Requests, cpu, commands)
	}
	b.WriteString("\n![Processor time per request, by where sessions are](many-servers-cost.svg)\n")
	return b.String()
}

// undisturbed are the runs in which nothing happened.
func undisturbed(all []outcome) (calm []outcome) {
	for _, o := range all {
		if o.fault == faults[0].title {
			calm = append(calm, o)
		}
	}
	return calm
}
