package browsertest

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"slices"
)

// Picture writes the whole page, as wide as v says and as high as it is, to a PNG
// file for the documentation. Height is not looked at.
func (b *Browser) Picture(file string, v View) {
	b.t.Helper()
	v.Height = 100
	b.Look(v)
	v.Height = int(b.Script("return document.documentElement.scrollHeight").(float64))
	b.Look(v)
	to, err := os.Create(file)
	b.must(err)
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	b.must(errors.Join(encoder.Encode(to, withPalette(b.Screenshot())), to.Close()))
}

// withPalette keeps the 256 most frequent colours, which halves the file of a
// page without photographs.
func withPalette(from image.Image) image.Image {
	count := make(map[color.Color]int)
	for y := range from.Bounds().Dy() {
		for x := range from.Bounds().Dx() {
			count[from.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	to := image.NewPaletted(from.Bounds(), colours[:min(len(colours), 256)])
	draw.Draw(to, to.Rect, from, image.Point{}, draw.Src)
	return to
}
