package bench

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// comparisonView is the table of a comparison.
type comparisonView struct {
	Names   []comparedName
	Rows    []comparedRow
	Figures []figure
}

type comparedName struct {
	Sample                 template.HTML
	Name, Full, What, When string
}

type comparedRow struct {
	Name  string
	Cells []comparedCell
}

// Ratio is the ratio to the first result, "" if there is none.
type comparedCell struct{ Text, Ratio string }

// WriteComparisonHTML writes the results side by side as one page: the figures with their ratios to the first result's,
// and the curves over each other. At least two results; it needs nothing from elsewhere, as WriteHTML.
func WriteComparisonHTML(w io.Writer, list []Compared) error {
	if len(list) < 2 {
		return fmt.Errorf("bench: %d result(s): a comparison needs two or more", len(list))
	}
	full := list
	list = briefNames(list)
	var names []string
	v := &comparisonView{Rows: comparedRows(list), Figures: comparedFigures(list)}
	p := &page{Kind: "netbench compare", Comparison: v, Lead: list[0].Result.circumstances()[1:]}
	for i, c := range list {
		r := c.Result
		names = append(names, c.Name)
		v.Names = append(v.Names, comparedName{sample(i, true), c.Name, full[i].Name,
			fmt.Sprintf("%s, %s, %s, %d B", r.Mode, r.addrText(), r.shape(), r.Parameters.SizeBytes), r.circumstances()[0]})
		if a := r.status(); a.Class != "ok" {
			a.Head = c.Name + ": " + a.Head
			p.Alarms = append(p.Alarms, a)
		}
		p.Runs = append(p.Runs, &section{Name: c.Name, Facts: r.section().Facts})
	}
	p.praise()
	p.Heading = strings.Join(names, space+"· ")
	if len(list) > headingNames {
		p.Heading = fmt.Sprintf("%d results side by side", len(list))
	}
	p.Title = "netbench compare " + strings.Join(names, " ")
	for _, text := range comparability(list) {
		p.Alarms = append(p.Alarms, alarm{"warn", "Careful", text})
	}
	return pages.Execute(w, p)
}

// headingNames is how many names a heading can hold; nameLength, how many characters a name in a chart.
const (
	headingNames = 3
	nameLength   = 28
)

// briefNames removes the folder that all names have in common, and shortens the names that are still too long.
func briefNames(list []Compared) []Compared {
	common := list[0].Name
	for _, c := range list {
		for !strings.HasPrefix(c.Name, common) {
			common = common[:len(common)-1]
		}
	}
	common = common[:strings.LastIndex(common, "/")+1]
	brief := make([]Compared, len(list))
	for i, c := range list {
		brief[i] = Compared{cut(c.Name[len(common):], nameLength), c.Result}
	}
	return brief
}

func comparedRows(list []Compared) []comparedRow {
	var all []comparedRow
	for _, r := range rows() {
		line, any, base := comparedRow{Name: r.name}, false, math.NaN()
		for i, c := range list {
			cell := comparedCell{Text: "–"}
			if value, ok := r.figure(c.Result); ok {
				any = true
				cell.Text = r.page(value)
				if i == 0 {
					base = value
				} else if base > 0 {
					cell.Ratio = "×" + digits(round3(value/base))
				}
			}
			line.Cells = append(line.Cells, cell)
		}
		if any {
			all = append(all, line)
		}
	}
	return all
}

// comparedFigures are the charts with a line for each result.
func comparedFigures(list []Compared) []figure {
	var figures []figure
	add := func(f figure, ok bool) {
		if ok {
			figures = append(figures, f)
		}
	}
	var curves []named
	var all [][]Point
	var notes []string
	cost := bars{}
	for i, c := range list {
		r := c.Result
		curves = append(curves, named{c.Name + ", " + r.Main().Name, r.Main()})
		series, note := thin(r.Series)
		all, notes = append(all, series), append(notes, note)
		n := float64(r.Totals.Messages)
		if s := r.Server; s != nil && n > 0 {
			cost = append(cost, bar{c.Name + ", server", s.UserS * 1e6 / n, s.SystemS * 1e6 / n, i})
		}
		if n > 0 {
			cost = append(cost, bar{c.Name + ", client", r.Client.UserS * 1e6 / n, r.Client.SystemS * 1e6 / n, i})
		}
	}
	note := ""
	for _, n := range notes {
		if n != "" {
			note = n
		}
	}
	title, unit, t := throughputOf(list[0].Result.Mode)
	add(overlay(title, note, list, all, unit, false, t.figure))
	add(overlay("p99 over time", note, list, all, latencies, true, func(p *Point) (float64, bool) { return p.P99, p.P99 > 0 }))
	add(curveFigure("Latency by percentile", curves))
	if len(cost) > 0 {
		figures = append(figures, cpuFigure(cost, "per message or delivery"))
	}
	add(overlay("Server CPU", note, list, all, percentage, false, serverCPU))
	add(overlay("Server memory (RSS)", note, list, all, memory, false, serverRSS))
	return figures
}

// overlay draws one figure of every result over time.
func overlay(title, note string, list []Compared, all [][]Point, m measure, log bool, of func(*Point) (float64, bool)) (figure, bool) {
	var joint chart
	joint.label = title
	low, high, last := math.Inf(1), 0.0, 0.0
	for i, series := range all {
		c, ok := over(series, m, log, track{list[i].Name, i, false, of})
		last = max(last, end(series))
		if !ok {
			continue
		}
		joint.lines = append(joint.lines, c.lines...)
		for _, p := range c.lines[0].at {
			if high = max(high, p.y); p.y > 0 {
				low = min(low, p.y)
			}
		}
	}
	joint.x = elapsed.through(0, last)
	if joint.y = m.fromZero(high); log {
		joint.y = m.fitting(low, high)
	}
	return figure{Title: title, Note: note, Legend: joint.legend(false), SVG: joint.both()}, len(joint.lines) > 0
}
