// Command diagram draws docs/response.svg, the states of a response. Run it
// after a change here:
//
//	go run ./internal/diagram > docs/response.svg
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A box is a state, with a line on what holds in it.
type box struct {
	x, y        int
	name, holds string
}

const boxWidth, boxHeight = 210, 70

var boxes = []box{
	{20, 180, "open", "nothing sent"},
	{400, 40, "begun", "saved, header complete"},
	{400, 320, "failed", "the error handler answered"},
	{780, 180, "over", "changes are refused"},
}

// An arrow is a path, the place of its words, and the words, a line each.
type arrow struct {
	path  string
	x, y  int
	words []string
	panic bool
}

var arrows = []arrow{
	{"M 90 180 C 60 110 150 110 130 178", 100, 108, []string{"1xx but 101: passed on"}, false},
	{"M 230 195 C 300 190 330 90 398 78", 270, 34, []string{"first byte, 2xx to 5xx, 101,", "Flush, Hijack or return:", "saved"}, false},
	{"M 230 235 C 300 240 330 345 398 353", 185, 300, []string{"the same,", "save fails:", "context cancelled"}, false},
	{"M 610 75 C 700 80 760 120 830 178", 770, 62, []string{"return: late changes", "saved, session touched"}, false},
	{"M 610 355 C 700 350 760 310 830 252", 800, 370, []string{"return or panic: nothing"}, false},
	{"M 230 215 L 778 215", 504, 236, []string{"panic: unsaved changes dropped, a logout saved"}, true},
	{"M 540 110 C 590 170 680 195 778 200", 495, 152, []string{"panic: the same"}, true},
}

const style = `<style>
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.name { font-weight: 600; font-size: 16px }
rect { fill: #eef2f7; stroke: #57606a; stroke-width: 1.5 }
path { fill: none; stroke: #57606a; stroke-width: 1.5 }
.panic { stroke-dasharray: 6 4 }
#head path { fill: #57606a; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
rect { fill: #21262d; stroke: #9da7b3 }
path { stroke: #9da7b3 }
#head path { fill: #9da7b3 }
}
</style>`

func draw(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1010 420" role="img" aria-label="States of a response: open, begun, failed, over">`)
	fmt.Fprintln(&b, style)
	fmt.Fprintln(&b, `<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>`)
	for _, a := range arrows {
		class := ""
		if a.panic {
			class = ` class="panic"`
		}
		fmt.Fprintf(&b, "<path%s d=%q marker-end=\"url(#head)\"/>\n", class, a.path)
		for i, line := range a.words {
			writeText(&b, a.x, a.y+i*18, "", line)
		}
	}
	for _, s := range boxes {
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", s.x, s.y, boxWidth, boxHeight)
		writeText(&b, s.x+boxWidth/2, s.y+30, ` class="name"`, s.name)
		writeText(&b, s.x+boxWidth/2, s.y+52, "", s.holds)
	}
	fmt.Fprintln(&b, "</svg>")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeText(b *strings.Builder, x, y int, class, line string) {
	fmt.Fprintf(b, "<text%s x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", class, x, y, line)
}

func main() {
	if err := draw(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
