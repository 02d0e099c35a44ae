// Command scale fills memory stores with a million sessions and prints what one
// of them takes, and what it costs others when half of them expire.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/sojourn-go/session/benchmarks/internal/scale"
)

func main() {
	n := flag.Int("n", 1_000_000, "how many sessions")
	watch := flag.Duration("watch", 25*time.Second, "how long each phase is watched")
	wait := flag.Duration("wait", time.Minute, "how long to wait for memory to come back")
	only := flag.String("store", "", "one store only, by its name in the results")
	asJSON := flag.Bool("json", false, "print results as JSON, one a line")
	flag.Parse()
	for _, s := range scale.Stores {
		if *only != "" && *only != s.Name {
			continue
		}
		r := scale.Run(s.Name, scale.Config{Sessions: *n, Watch: *watch, Wait: *wait}, s.BytesOnly, s.Open, os.Stderr)
		if *asJSON {
			_ = json.NewEncoder(os.Stdout).Encode(r)
			continue
		}
		fmt.Printf("%+v\n", r)
	}
}
