package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"time"
)

const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.faint { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
.memory { fill: #b4690e } .drain { fill: #1f6feb } .redis { fill: #1a7f37 }
.good, .failed { fill: none; stroke-width: 2 }
.good { stroke: #1a7f37 } .failed { stroke: #cf222e }
text.good { stroke: none; fill: #1a7f37 } text.failed { stroke: none; fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.faint { fill: #9da7b3 }
.grid { stroke: #3d444d }
.memory { fill: #e3a04f } .drain { fill: #6cb0ff } .redis { fill: #56c46f }
.good { stroke: #56c46f } .failed { stroke: #ff7b72 }
text.good { fill: #56c46f } text.failed { fill: #ff7b72 }
}
</style>
`

const (
	plotWidth = 760
	barsLeft  = 250 // where bars begin
	barsRight = 690
)

// A bar is a value of one way.
type bar struct {
	way   way
	value float64
	text  string // of the value
}

// A group is bars with a name.
type group struct {
	name string
	bars []bar
}

// plots draws the report, by file name.
func plots(all []outcome) map[string][]byte {
	out := map[string][]byte{
		"many-servers-logouts.svg": bars("Logouts that nobody asked for", byFault(all, func(o outcome) bar {
			return bar{o.way, float64(o.tally.Logouts), fmt.Sprint(o.tally.Logouts)}
		})),
		"many-servers-wait.svg": bars("Longest wait of a visitor", byFault(all, func(o outcome) bar {
			return bar{o.way, o.tally.Gap.Seconds(), fmt.Sprintf("%.2f s", o.tally.Gap.Seconds())}
		})),
	}
	calm := group{name: "CPU per request"}
	for _, o := range undisturbed(all) {
		cpu, _ := o.cost.perRequest()
		calm.bars = append(calm.bars, bar{o.way, float64(o.cost.CPU.Microseconds()) / float64(max(1, o.cost.Requests)), cpu})
	}
	out["many-servers-cost.svg"] = bars("Processor time of the servers while nothing happens", []group{calm})
	for _, o := range all {
		if o.way == sharedRedis && o.fault == faults[len(faults)-1].title {
			out["many-servers-failover.svg"] = failover(o)
		}
	}
	return out
}

func byFault(all []outcome, value func(outcome) bar) (groups []group) {
	for _, o := range all {
		name := strings.ReplaceAll(o.fault, "`", "")
		if len(groups) == 0 || groups[len(groups)-1].name != name {
			groups = append(groups, group{name: name})
		}
		last := &groups[len(groups)-1]
		last.bars = append(last.bars, value(o))
	}
	return groups
}

// bars draws groups below each other, the longest bar as wide as there is room.
func bars(title string, groups []group) []byte {
	const step, gap, top = 20, 14, 62
	var b bytes.Buffer
	most, y := 0.0, top
	for _, g := range groups {
		y += step*len(g.bars) + gap
		for _, x := range g.bars {
			most = max(most, x.value)
		}
	}
	begin(&b, y, title)
	x := barsLeft
	for _, w := range ways {
		fmt.Fprintf(&b, "<rect class=%q x=\"%d\" y=\"36\" width=\"12\" height=\"12\"/>\n", string(w), x)
		label(&b, x+18, 47, "", "", w.Title())
		x += 40 + 8*len(w.Title())
	}
	y = top
	for _, g := range groups {
		label(&b, barsLeft-12, y+step*len(g.bars)/2+4, "", "end", g.name)
		for _, x := range g.bars {
			width := 0.0
			if most > 0 {
				width = x.value / most * (barsRight - barsLeft)
			}
			fmt.Fprintf(&b, "<rect class=%q x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", string(x.way), barsLeft, y, max(width, 1), step-5)
			label(&b, barsLeft+int(width)+7, y+12, "faint", "", x.text)
			y += step
		}
		y += gap
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// failover draws what visitors saw around the death of the primary.
func failover(o outcome) []byte {
	const left, right, top, bottom, height = 60, 730, 50, 240, 290
	per := int(time.Second/bucketTime) / 2 // half a second to a point
	var goods, fails []int
	most := 1
	for i := 0; i+per <= len(o.line); i += per {
		good, failed := 0, 0
		for _, x := range o.line[i : i+per] {
			good, failed = good+x.Good, failed+x.Failed
		}
		goods, fails = append(goods, 2*good), append(fails, 2*failed)
		most = max(most, 2*good, 2*failed)
	}
	var b bytes.Buffer
	begin(&b, height, "Shared Redis, kill -9 of the primary: answers per second")
	n := max(1, len(goods)-1)
	for _, v := range []int{0, most / 2, most} {
		y := bottom - v*(bottom-top)/most
		fmt.Fprintf(&b, "<path class=\"grid\" d=\"M %d %d H %d\"/>\n", left, y, right)
		label(&b, left-8, y+4, "faint", "end", fmt.Sprint(v))
	}
	for i := 0; i < len(goods); i += 4 {
		x := left + i*(right-left)/n
		label(&b, x, bottom+20, "faint", "middle", fmt.Sprintf("%d s", i/2))
	}
	death := left + int(float64(o.at)/float64(time.Second)*2*float64(right-left)/float64(n))
	fmt.Fprintf(&b, "<path class=\"grid\" stroke-dasharray=\"4 4\" d=\"M %d %d V %d\"/>\n", death, top, bottom)
	label(&b, death+6, top+12, "faint", "", "killed")
	line := func(class string, values []int) {
		points := make([]string, len(values))
		for i, v := range values {
			points[i] = fmt.Sprintf("%d,%d", left+i*(right-left)/n, bottom-v*(bottom-top)/most)
		}
		fmt.Fprintf(&b, "<polyline class=%q points=%q/>\n", class, strings.Join(points, " "))
	}
	line("failed", fails)
	line("good", goods)
	label(&b, left, height-10, "good", "", "answers")
	label(&b, left+70, height-10, "failed", "", "requests without an answer")
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func begin(b *bytes.Buffer, height int, title string) {
	fmt.Fprintf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=%q>\n%s", plotWidth, height, html.EscapeString(title), plotStyle)
	label(b, 20, 22, "title", "", title)
}

func label(b *bytes.Buffer, x, y int, class, anchor, text string) {
	if class != "" {
		class = fmt.Sprintf(" class=%q", class)
	}
	if anchor != "" {
		anchor = fmt.Sprintf(" text-anchor=%q", anchor)
	}
	fmt.Fprintf(b, "<text%s x=\"%d\" y=\"%d\"%s>%s</text>\n", class, x, y, anchor, html.EscapeString(text))
}
