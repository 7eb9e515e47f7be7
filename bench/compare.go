package bench

import (
	"fmt"
	"io"
	"math"
)

// Compared is a result with the name it is shown under.
type Compared struct {
	Name   string
	Result *Result
}

// A row of a comparison takes one figure out of a result; ok is false where there is none.
type row struct {
	name   string
	figure func(*Result) (value float64, ok bool)
	format func(float64) string // for a terminal
	page   func(float64) string
}

// WriteComparison writes the results side by side, each figure with its ratio to the first result's. At least two.
func WriteComparison(w io.Writer, list []Compared) error {
	if len(list) < 2 {
		return fmt.Errorf("bench: %d result(s): a comparison needs two or more", len(list))
	}
	t := &table{}
	const wide = 24
	fmt.Fprintf(t, "%-26s", "")
	for _, c := range list {
		name := c.Name
		if len(name) > wide-2 {
			name = "..." + name[len(name)-wide+5:]
		}
		fmt.Fprintf(t, "%*s", wide, name)
	}
	t.line("")
	for _, r := range rows() {
		base, any := math.NaN(), false
		cells := ""
		for i, c := range list {
			v, ok := r.figure(c.Result)
			cell := "-"
			if ok {
				any = true
				cell = r.format(v)
				if i == 0 {
					base = v
				} else if base > 0 {
					cell += fmt.Sprintf(" x%.2f", v/base)
				}
			}
			cells += fmt.Sprintf("%*s", wide, cell)
		}
		if any {
			t.line("%-26s%s", r.name, cells)
		}
	}
	for _, text := range comparability(list) {
		t.line("WARNING  %s", text)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

func rows() []row {
	plain := func(f float64) string { return fmt.Sprintf("%.0f", f) }
	micro := func(f float64) string { return fmt.Sprintf("%.2f us", f) }
	list := []row{
		{"asked/s", func(r *Result) (float64, bool) { return r.Totals.AskedPerS, r.Totals.Planned > 0 }, plain, rateText},
		{"messages/s", func(r *Result) (float64, bool) { return r.Totals.MessagesPerS, r.Totals.Messages > 0 }, plain, rateText},
		{"cycles/s", func(r *Result) (float64, bool) { return r.Totals.CyclesPerS, r.Totals.Cycles > 0 }, plain, rateText},
		{"server CPU per message", func(r *Result) (float64, bool) {
			if r.Server == nil {
				return 0, false
			}
			return r.Server.PerMessageUS, r.Totals.Messages > 0
		}, micro, timeText},
		{"server RSS", func(r *Result) (float64, bool) {
			if r.Server == nil {
				return 0, false
			}
			return float64(r.Server.RSSMax), true
		}, func(f float64) string { return mebibytes(uint64(f)) }, byteText},
		{"client CPU per message", func(r *Result) (float64, bool) { return r.Client.PerMessageUS, r.Totals.Messages > 0 }, micro, timeText},
	}
	for _, d := range distributionTexts {
		for _, f := range []struct {
			name string
			of   func(*Summary) float64
		}{
			{"p50", func(s *Summary) float64 { return s.P50 }}, {"p99", func(s *Summary) float64 { return s.P99 }},
			{"p99.9", func(s *Summary) float64 { return s.P999 }}, {"max", func(s *Summary) float64 { return s.Max }},
		} {
			list = append(list, row{d.name + " " + f.name, func(r *Result) (float64, bool) {
				found := r.Find(d.name)
				if found == nil || found.Count == 0 {
					return 0, false
				}
				return f.of(&found.Summary), true
			}, duration, timeText})
		}
	}
	return append(list, row{"errors", func(r *Result) (float64, bool) { return float64(r.Errors.Total()), true }, plain, countText})
}

// comparability returns the reasons why the results should not be compared.
func comparability(list []Compared) []string {
	var texts []string
	add := func(format string, args ...any) { texts = append(texts, fmt.Sprintf(format, args...)) }
	first := list[0].Result
	for _, c := range list[1:] {
		a, b := first.Parameters, c.Result.Parameters
		a.Addr, b.Addr, a.PID, b.PID, a.Subscribe, b.Subscribe = "", "", 0, 0, "", ""
		if first.Mode != c.Result.Mode || a != b {
			add("%s was not run with the parameters of %s", c.Name, list[0].Name)
		}
		m, n := first.Machine, c.Result.Machine
		m.Date, n.Date = "", ""
		if m != n {
			add("%s is from another machine, kernel or Go version than %s", c.Name, list[0].Name)
		}
	}
	for _, c := range list {
		if text := c.Result.behindText(); text != "" {
			add("%s: %s", c.Name, text)
		}
		if n := c.Result.Errors.Total(); n > 0 {
			add("%s has %d errors", c.Name, n)
		}
	}
	return texts
}
