// Growth draws docs/many-servers-growth.svg: what keeping sessions on several
// servers costs each of them as a site grows. Run it in the repository's root:
//
//	go run ./docs/growth > docs/many-servers-growth.svg
//
// The lines are formulas, stated in docs/many-servers.md, for a site on which each
// server that is added brings its own visitors.
package main

import (
	"bytes"
	"fmt"
	"os"
)

func main() {
	os.Stdout.Write(draw())
}

// What each server brings.
const (
	sessions = 10_000
	bytesOf  = 2_000 // a session
	requests = 1_000 // a second, all with a session
	place    = 200   // bytes to know where a session is that is elsewhere
	hint     = 173   // bytes to tell it to a server that joins
)

const most = 16 // servers

// A way is one to keep sessions, and how its lines look.
type way struct{ class, name string }

var ways = []way{{"all", "all-to-all"}, {"pair", "primary-secondary"}, {"sticky", "sticky, no replication"}, {"shared", "a store that all share"}}

// A panel is one cost, by the number of servers.
type panel struct {
	title, unit string
	top         float64
	cost        func(n float64) [4]float64 // of the ways, in their order
}

const mega = 1e6

var panels = []panel{
	{"Messages that a server receives", "thousands a second", 15, func(n float64) [4]float64 {
		return [4]float64{requests * (n - 1) / 1e3, requests / 1e3, 0, 0}
	}},
	{"Memory for sessions on a server", "MB", 320, func(n float64) [4]float64 {
		return [4]float64{n * sessions * bytesOf / mega, (2*sessions*bytesOf + (n-2)*sessions*place) / mega, sessions * bytesOf / mega, 0}
	}},
	{"Sent to a server that joins", "MB", 320, func(n float64) [4]float64 {
		return [4]float64{n * sessions * bytesOf / mega, n * sessions * hint / mega, 0, 0}
	}},
}

const (
	width, height = 300, 190 // of the axes
	left, head    = 50, 70
	step          = width + 75
)

const style = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.faint { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
polyline { fill: none; stroke-width: 2.5 }
.all { stroke: #cf222e } .pair { stroke: #1f6feb } .sticky { stroke: #b4690e } .shared { stroke: #1a7f37; stroke-dasharray: 8 6 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.faint { fill: #9da7b3 }
.grid { stroke: #3d444d }
.all { stroke: #ff7b72 } .pair { stroke: #6cb0ff } .sticky { stroke: #e3a04f } .shared { stroke: #56c46f }
}
</style>
`

func draw() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Messages, memory and what a joining server is sent, by the number of servers: all-to-all grows with each, the others hardly or not at all">`+"\n", len(panels)*step, head+height+90)
	b.WriteString(style)
	for i, p := range panels {
		p.draw(&b, left+i*step)
	}
	for i, w := range ways {
		x, y := left+i*240, head+height+70
		fmt.Fprintf(&b, `<polyline class="%s" points="%d,%d %d,%d"/>`+"\n", w.class, x, y-4, x+40, y-4)
		text(&b, "", x+48, y, "start", w.name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func text(b *bytes.Buffer, class string, x, y int, anchor, words string) {
	fmt.Fprintf(b, `<text class="%s" x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, words)
}

func (p panel) draw(b *bytes.Buffer, x int) {
	text(b, "title", x, 24, "start", p.title)
	text(b, "faint", x, 44, "start", p.unit)
	for i := range 6 {
		value := p.top * float64(i) / 5
		y := p.y(value)
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", x, y, x+width, y)
		text(b, "faint", x-6, y+4, "end", fmt.Sprint(value))
	}
	for n := 2; n <= most; n += 2 {
		text(b, "faint", x+at(n), head+height+20, "middle", fmt.Sprint(n))
	}
	text(b, "faint", x+width/2, head+height+40, "middle", "servers")
	for i, w := range ways {
		fmt.Fprintf(b, `<polyline class="%s" points="`, w.class)
		for n := 2; n <= most; n++ {
			fmt.Fprintf(b, "%d,%d ", x+at(n), p.y(p.cost(float64(n))[i]))
		}
		b.WriteString("\"/>\n")
	}
}

func at(n int) int { return (n - 2) * width / (most - 2) }

func (p panel) y(value float64) int { return head + height - int(value/p.top*height) }
