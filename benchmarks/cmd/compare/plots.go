package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/session/benchmarks"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// One set of colours for pages on white and on black: nothing is painted behind
// a plot, and what is painted has contrast with both.
var (
	ink  = color.RGBA{0x7d, 0x85, 0x90, 0xff}
	hues = []color.Color{color.RGBA{0x2f, 0x81, 0xf7, 0xff}, color.RGBA{0xdb, 0x7d, 0x2a, 0xff}, color.RGBA{0x8a, 0x63, 0xd2, 0xff}}
)

// bars is one chart: a row for each name, in each a bar for each label.
type bars struct {
	file, title, unit string
	names             []string
	labels            []string
	values            [][]float64 // by label, then by name
	stacked           bool
}

func writePlots(r *report, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, b := range []bars{memoryBars(r), redisBars(r), scaleBars(r)} {
		if err := b.write(dir); err != nil {
			return err
		}
	}
	return nil
}

func memoryBars(r *report) bars {
	b := bars{
		file: "memory.svg", title: "CPU of one request, sessions in memory", unit: "microseconds",
		labels: []string{"read", "write", "login"},
		values: make([][]float64, 3),
	}
	for _, peer := range benchmarks.Peers {
		if peer.Store != "memory" {
			continue
		}
		b.names = append(b.names, peer.Lib)
		for i, label := range b.labels {
			b.values[i] = append(b.values[i], median(r.costs(cell{peer.Lib, "memory", benchmarks.Op(label)}))/1e3)
		}
	}
	return b
}

func redisBars(r *report) bars {
	b := bars{
		file: "redis.svg", title: "CPU of one read over HTTP, sessions in Redis", unit: "microseconds",
		labels: []string{"application", "Redis"}, values: make([][]float64, 2), stacked: true,
	}
	add := func(lib string) {
		s := r.http[cell{lib, "redis", benchmarks.OpRead}]
		b.names = append(b.names, lib)
		b.values[0] = append(b.values[0], s.median(func(h httpSample) float64 { return h.app }))
		b.values[1] = append(b.values[1], s.median(func(h httpSample) float64 { return h.redis }))
	}
	add("floor-get")
	for _, peer := range benchmarks.Peers {
		if peer.Store == "redis" {
			add(peer.Lib)
		}
	}
	return b
}

func scaleBars(r *report) bars {
	b := bars{file: "scale.svg", title: "Heap of one session in memory", unit: "bytes", labels: []string{"bytes"}, values: make([][]float64, 1)}
	for _, row := range r.scale {
		b.names = append(b.names, row.Store)
		b.values[0] = append(b.values[0], row.BytesPerSession)
	}
	return b
}

func (b bars) write(dir string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text, p.X.Label.Text = b.title, b.unit
	p.Title.TextStyle.Color, p.Legend.TextStyle.Color = ink, ink
	p.Title.Padding = vg.Points(8)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Label.TextStyle.Color, axis.Tick.Label.Color, axis.Tick.Color = ink, ink, ink, ink
	}
	p.X.Min = 0
	p.NominalY(reversed(b.names)...)
	p.Y.Tick.Length, p.Y.Width = 0, 0
	p.Legend.Top, p.Legend.XOffs = true, -vg.Points(12) // where the cheapest leave room
	p.Legend.Padding = vg.Points(2)

	width := vg.Points(9)
	if b.stacked || len(b.labels) == 1 {
		width = vg.Points(14)
	}
	var below *plotter.BarChart
	ends := make([]float64, len(b.names))
	for i, label := range b.labels {
		chart, err := plotter.NewBarChart(plotter.Values(reversed(b.values[i])), width)
		if err != nil {
			return err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, hues[i], 0
		switch {
		case b.stacked && below != nil:
			chart.StackOn(below)
		case !b.stacked:
			chart.Offset = width * vg.Length(float64(len(b.labels)-1)/2-float64(i))
		}
		below = chart
		p.Add(chart)
		for j, v := range reversed(b.values[i]) {
			if !b.stacked {
				ends[j] = 0
			}
			ends[j] += v
		}
		if !b.stacked || i == len(b.labels)-1 {
			labels, err := endLabels(ends, chart.Offset)
			if err != nil {
				return err
			}
			p.Add(labels)
		}
		if len(b.labels) > 1 {
			p.Legend.Add(label, chart)
		}
	}
	p.X.Max *= 1.12 // room for the figures at the ends

	height := vg.Points(70) + vg.Length(len(b.names))*(width*vg.Length(barsInRow(b))+vg.Points(8))
	canvas := vgsvg.New(vg.Points(560), height)
	p.Draw(draw.Crop(draw.New(canvas), 0, -vg.Points(12), 0, 0)) // the last tick's figure is wider than its tick
	// The reader's own fonts: those that the plot is laid out with are rarely there.
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	text := strings.ReplaceAll(svg.String(), "font-family:Liberation Sans", "font-family:system-ui,sans-serif")
	return os.WriteFile(filepath.Join(dir, b.file), []byte(text), 0o644)
}

func barsInRow(b bars) int {
	if b.stacked {
		return 1
	}
	return len(b.labels)
}

func endLabels(ends []float64, offset vg.Length) (*plotter.Labels, error) {
	at := plotter.XYLabels{XYs: make(plotter.XYs, len(ends)), Labels: make([]string, len(ends))}
	for i, v := range ends {
		at.XYs[i].X, at.XYs[i].Y = v, float64(i)
		at.Labels[i] = number(v)
	}
	labels, err := plotter.NewLabels(at)
	if err != nil {
		return nil, err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Color = ink
		labels.TextStyle[i].Font.Size = vg.Points(8)
		labels.TextStyle[i].YAlign = draw.YCenter
	}
	labels.Offset = vg.Point{X: vg.Points(3), Y: offset}
	return labels, nil
}

// reversed, because a plot counts its rows from below.
func reversed[T any](s []T) []T {
	out := make([]T, len(s))
	for i, v := range s {
		out[len(s)-1-i] = v
	}
	return out
}

// number has three digits that mean something, and no more.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
