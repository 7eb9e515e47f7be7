// Soakplot draws what make soak has sampled: soakplot samples.csv plot.svg. Its charts stand one above the other, over the same
// time: what must not grow, and beneath it what went on meanwhile.
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// charts are the columns to draw, each with its unit.
var charts = []struct {
	column, title string
	unit          float64
}{
	{"rss_bytes", "resident memory, MiB", 1 << 20},
	{"descriptors", "descriptors", 1},
	{"goroutines", "goroutines", 1},
	{"live_buffers", "live buffers", 1},
	{"live_sessions", "sessions that live", 1},
	{"bystanders_p99_ms", "bystanders' p99, ms", 1},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: soakplot samples.csv plot.svg")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "soakplot:", err)
		os.Exit(1)
	}
	fmt.Println("the curves are in", os.Args[2])
}

func run(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return err
	}
	if len(rows) < 3 {
		return fmt.Errorf("%s: %d rows are no curve", from, len(rows))
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(chart(rows, out), out.Close())
}

// chart draws rows. The first row has the names of the columns.
func chart(rows [][]string, out *os.File) error {
	var all [][]*plot.Plot
	for i, c := range charts {
		points, err := curve(rows, c.column, c.unit)
		if err != nil {
			return err
		}
		p := plot.New()
		p.Title.Text = c.title
		if i == len(charts)-1 {
			p.X.Label.Text = "minutes"
		}
		p.Y.Min, p.Y.Max = 0, 1 // a curve is read against zero
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color = color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
		grid := plotter.NewGrid()
		grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 0xdd}, color.Gray{Y: 0xdd}
		p.Add(grid, line)
		all = append(all, []*plot.Plot{p})
	}
	canvas := vgsvg.New(24*vg.Centimeter, vg.Length(len(all))*5*vg.Centimeter)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	tiles := draw.Tiles{Rows: len(all), Cols: 1, PadX: vg.Millimeter, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter,
		PadLeft: 2 * vg.Millimeter, PadRight: 6 * vg.Millimeter}
	places := plot.Align(all, tiles, whole)
	for i := range all {
		all[i][0].Draw(places[i][0])
	}
	_, err := canvas.WriteTo(out)
	return err
}

// curve returns a column over time, in minutes.
func curve(rows [][]string, column string, unit float64) (plotter.XYs, error) {
	at := -1
	for i, name := range rows[0] {
		if name == column {
			at = i
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("there is no column %q", column)
	}
	var points plotter.XYs
	for _, row := range rows[1:] {
		seconds, err1 := strconv.ParseFloat(row[0], 64)
		value, err2 := strconv.ParseFloat(row[at], 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		points = append(points, plotter.XY{X: seconds / 60, Y: value / unit})
	}
	return points, nil
}
