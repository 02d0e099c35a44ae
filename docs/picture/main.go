// Picture draws docs/request.svg, the life of a request. Run it in the
// repository's root:
//
//	go run ./docs/picture > docs/request.svg
package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"strings"
)

func main() {
	os.Stdout.Write(draw())
}

// A box is a step: a title, and lines below it that say more.
type box struct {
	x, y, w, h int
	kind       string
	text       string
}

// An arrow is a path of points, and a label beside its middle.
type arrow struct {
	points         string
	labelX, labelY int
	label          string
}

var boxes = []box{
	{250, 20, 220, 56, "edge", "Request\nthrough Manager.Handler"},
	{250, 126, 220, 72, "step", "Find tokens (R3)\nof our cookie's name, at most 3,\nwithout the store"},
	{250, 254, 220, 72, "store", "Load (R4)\ncheck ID, end and hash\n(T4, E3, T1)"},
	{250, 382, 220, 88, "step", "Handler\nreads base and steps,\nwrites steps; Update runs at once,\nprovisionally"},
	{250, 526, 220, 72, "step", "First byte, or return (R5)\nfold the steps over the record:\ndoes anything change?"},
	{250, 654, 220, 72, "store", "Conditional save (C1)\nif the version is the one seen;\nin turn with others of the session"},
	{250, 782, 220, 72, "step", "Complete the header\none Set-Cookie (R13),\nCache-Control and Vary (R12)"},
	{250, 910, 220, 72, "edge", "Response\nlater changes saved at return (R7),\ntouch if due (R4)"},
	{545, 654, 205, 72, "step", "Merge (C2)\nstill our secret? (C3) then fold\nthe steps over the live record"},
	{545, 254, 205, 72, "fault", "503, cookie stays\nthe store did not answer"},
	{545, 782, 205, 88, "fault", "Error handler (R6)\n409 ended, 500 not encodable,\n503 in doubt; header reset,\nhandler's page goes nowhere"},
	{20, 526, 160, 72, "step", "Nothing to save\nno round trip (R1, R16)"},
	{20, 254, 160, 72, "step", "Anonymous\nno store call (R1);\njunk is ignored (R3)"},
}

var arrows = []arrow{
	{"360,76 360,126", 0, 0, ""},
	{"360,198 360,254", 370, 230, "a candidate"},
	{"250,162 100,162 100,254", 130, 154, "none"},
	{"100,326 100,426 250,426", 0, 0, ""},
	{"360,326 360,382", 370, 358, "live, or anonymous (R2)"},
	{"470,290 545,290", 478, 282, "fails"},
	{"360,470 360,526", 0, 0, ""},
	{"360,598 360,654", 370, 630, "yes"},
	{"250,562 180,562", 205, 554, "no"},
	{"100,598 100,818 250,818", 0, 0, ""},
	{"470,680 545,680", 478, 672, "conflict"},
	{"648,654 648,562 470,562", 560, 554, "again"},
	{"360,726 360,782", 370, 758, "stored"},
	{"648,726 648,782", 658, 758, "ended"},
	{"440,726 440,750 508,750 508,826 545,826", 452, 744, "fails"},
	{"360,854 360,910", 0, 0, ""},
	{"648,870 648,946 470,946", 0, 0, ""},
}

const style = `text{font:12px system-ui,sans-serif;fill:#1d241c}.t{font-weight:600;font-size:13px}.l{fill:#4c574a}` +
	`rect{stroke:#5d6b5a;rx:6}.edge{fill:#e9ece6}.step{fill:#fff}.store{fill:#dcebd9}.fault{fill:#f6deda}` +
	`polyline{fill:none;stroke:#5d6b5a;stroke-width:1.5}`

func draw() []byte {
	var b bytes.Buffer
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 770 1000" role="img" aria-label="The life of a request">` + "\n")
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	b.WriteString(`<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#5d6b5a"/></marker></defs>` + "\n")
	b.WriteString(`<rect width="770" height="1000" style="fill:#fbfbf9;stroke:none"/>` + "\n")
	for _, a := range arrows {
		fmt.Fprintf(&b, `<polyline points="%s" marker-end="url(#a)"/>`+"\n", a.points)
		if a.label != "" {
			fmt.Fprintf(&b, `<text class="l" x="%d" y="%d">%s</text>`+"\n", a.labelX, a.labelY, html.EscapeString(a.label))
		}
	}
	for _, x := range boxes {
		x.draw(&b)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (x box) draw(b *bytes.Buffer) {
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`+"\n", x.kind, x.x, x.y, x.w, x.h)
	lines := strings.Split(x.text, "\n")
	top := x.y + (x.h-16*len(lines))/2 + 12
	for i, line := range lines {
		class := ""
		if i == 0 {
			class = ` class="t"`
		}
		fmt.Fprintf(b, `<text%s x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", class, x.x+x.w/2, top+16*i, html.EscapeString(line))
	}
}
