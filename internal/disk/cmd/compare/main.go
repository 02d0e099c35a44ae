// Command compare measures what the same request costs with sessions in memory,
// in Redis with and without a file, and in a database on the disk, and writes the
// table between the markers of docs/many-servers.md. Run it in the module's
// directory:
//
//	go run ./cmd/compare
//
// It needs redis-server. Its files are in the directory for temporary ones: to
// measure another disk, set TMPDIR.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/redistest"
)

// settings say how long everything takes.
type settings struct {
	quick   bool
	rounds  int           // of all stores, one after the other
	budget  time.Duration // of one measurement
	warm    time.Duration // before it, uncounted
	syncFor time.Duration // of bare writes with a sync
}

var (
	full      = settings{rounds: 5, budget: 2 * time.Second, warm: 300 * time.Millisecond, syncFor: 5 * time.Second}
	shortened = settings{quick: true, rounds: 1, budget: 200 * time.Millisecond, warm: 50 * time.Millisecond, syncFor: 500 * time.Millisecond}
)

// onlyPrint stands for a page.
const onlyPrint = "-"

func main() {
	log.SetFlags(log.Ltime)
	quick := flag.Bool("quick", false, "half a minute at the most, to see that everything works; its figures mean nothing")
	out := flag.String("out", "../../docs/many-servers.md", "the page to write into; "+onlyPrint+": only print")
	flag.Parse()
	s := full
	if *quick {
		s = shortened
	}
	servers := new(redistest.Program)
	err := run(servers, s, *out, os.Stdout)
	servers.Close()
	if err != nil {
		log.Fatal(err)
	}
}

// run ends what it starts with servers.
func run(servers testing.TB, s settings, page string, w io.Writer) error {
	if page != onlyPrint {
		if _, _, err := split(page); err != nil { // before it takes minutes
			return err
		}
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return err
	}
	servers.Cleanup(func() { _ = os.RemoveAll(dir) })

	r := &report{settings: s, date: time.Now().UTC()}
	if r.machine, err = lookAt(dir, s.syncFor); err != nil {
		return err
	}
	subjects, version, err := openAll(servers, dir)
	if err != nil {
		return err
	}
	r.redis = version
	for round := range s.rounds {
		log.Printf("round %d of %d", round+1, s.rounds)
		for _, subject := range subjects {
			for _, job := range jobs {
				m, err := measure(s, subject, job)
				if err != nil {
					return fmt.Errorf("%s: %w", subject.name, err)
				}
				r.add(subject, job, m)
			}
		}
	}
	text := r.markdown()
	if _, err := io.WriteString(w, text); err != nil || page == onlyPrint {
		return err
	}
	return writeInto(page, text)
}
