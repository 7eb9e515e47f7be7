package bench

import "fmt"

// tiles returns the figures that a reader looks for first.
func (r *Result) tiles() []tile {
	d := r.Main()
	list := []tile{r.leadTile()}
	for _, q := range []struct {
		label string
		us    float64
	}{{"p50", d.P50}, {"p99", d.P99}, {"p99.9", d.P999}, {"max", d.Max}} {
		t := tile{Label: q.label, Number: "–"}
		if d.Count > 0 {
			t.Number, t.Unit = scaled(q.us, timeUnits, digits)
			t.Note = d.Name
		}
		list = append(list, t)
	}
	list = append(list, r.errorTile())
	cost := func(whose string, us float64) tile {
		t := tile{Label: whose + " CPU", Number: "–", Note: per(r.Mode)}
		if r.Totals.Messages > 0 {
			t.Number, t.Unit = scaled(us, timeUnits, digits)
		}
		return t
	}
	number := func(label, number, unit, note string) {
		list = append(list, tile{Label: label, Number: number, Unit: unit, Note: note})
	}
	if s := r.Server; s != nil {
		list = append(list, cost("Server", s.PerMessageUS), cost("Client", r.Client.PerMessageUS))
		n, unit := scaled(float64(s.RSSMax), byteUnits, digits)
		note := "at most"
		if r.Mode == Idle || r.Mode == Ramp {
			note = byteText(s.RSSPerConn) + " per connection"
		}
		number("Server RSS", n, unit, note)
		number("Server load", fmt.Sprintf("%.0f", s.SharePct), "%", "of one core")
	} else {
		list = append(list, cost("Client", r.Client.PerMessageUS))
		n, unit := scaled(r.Totals.BytesPerS, flowUnits, digits)
		number("Received", n, unit, "payload, verified")
		n, unit = countParts(float64(r.Totals.Sent))
		number("Sent", n, unit, "messages, whole run")
		n, unit = countParts(float64(r.Totals.ConnsOpened))
		number("Connections", n, unit, "opened, whole run")
	}
	number("Client load", fmt.Sprintf("%.0f", r.Client.SharePct), "%", "of its cores")
	return list
}

// leadTile returns the main figure of the mode: messages, connections or deliveries per second.
func (r *Result) leadTile() tile {
	t := &r.Totals
	lead := tile{Class: "lead"}
	switch r.Mode {
	case Ramp, Idle:
		n := uint64(t.ConnsAtStart)
		if r.Mode == Ramp {
			n = t.ConnsInTime
		}
		lead.Label, lead.Number, lead.Note = "Connections", grouped(n), fmt.Sprintf("of %s wanted", grouped(uint64(r.Parameters.Conns)))
		return lead
	}
	value, what, count := r.speed()
	lead.Label = "Throughput"
	lead.Number, lead.Unit = scaled(value, countUnits, digits)
	lead.Unit += "/s"
	lead.Note = grouped(count) + " " + what
	if t.FellBehind {
		lead.Class = "lead bad"
		lead.Note = "answered, of " + rateText(t.AskedPerS) + " asked"
	}
	if best := r.bestStep(); r.Mode == Search {
		lead.Label = "Highest rate"
		lead.Note = fmt.Sprintf("messages with p99 under %s", timeText(r.Parameters.P99LimitUS))
		lead.Number, lead.Unit = scaled(best, countUnits, digits)
		lead.Unit += "/s"
	}
	return lead
}

// speed returns the main rate of the mode, what it counts, and the count.
func (r *Result) speed() (perS float64, what string, count uint64) {
	t := &r.Totals
	switch r.Mode {
	case Churn:
		return t.CyclesPerS, "connections", t.Cycles
	case Fanout:
		return t.MessagesPerS, "deliveries", t.Messages
	default:
		return t.MessagesPerS, "messages", t.Messages
	}
}

// bestStep returns the highest rate of a step that passed: the rate asked for, or the rate achieved if that is lower.
func (r *Result) bestStep() float64 {
	best := 0.0
	for _, s := range r.Steps {
		if s.Passed {
			best = max(best, min(s.RatePerS, s.AchievedPerS))
		}
	}
	return best
}

func (r *Result) errorTile() tile {
	n := r.Errors.Total()
	t := tile{Label: "Errors", Number: grouped(n), Note: "whole run"}
	if n > 0 {
		t.Class = "bad"
	}
	return t
}

// latencyView is a table with a column for each measured distribution.
type latencyView struct {
	Names []string
	Rows  []latencyRow
	About [][2]string
}

type latencyRow struct {
	Name  string
	Cells []string
}

// latencyView returns nil if no time was measured.
func (r *Result) latencyView() *latencyView {
	v := &latencyView{}
	rows := []struct {
		name string
		of   func(*Summary) string
	}{
		{"min", func(s *Summary) string { return timeText(s.Min) }},
		{"p50", func(s *Summary) string { return timeText(s.P50) }},
		{"p90", func(s *Summary) string { return timeText(s.P90) }},
		{"p99", func(s *Summary) string { return timeText(s.P99) }},
		{"p99.9", func(s *Summary) string { return timeText(s.P999) }},
		{"p99.99", func(s *Summary) string { return timeText(s.P9999) }},
		{"max", func(s *Summary) string { return timeText(s.Max) }},
		{"mean", func(s *Summary) string { return timeText(s.Mean) }},
		{"values", func(s *Summary) string { return grouped(s.Count) }},
	}
	for _, row := range rows {
		v.Rows = append(v.Rows, latencyRow{Name: row.name})
	}
	for i := range r.Distributions {
		d := &r.Distributions[i]
		if d.Count == 0 {
			continue
		}
		v.Names = append(v.Names, d.Name)
		v.About = append(v.About, [2]string{d.Name, d.About})
		for j, row := range rows {
			v.Rows[j].Cells = append(v.Rows[j].Cells, row.of(&d.Summary))
		}
	}
	if len(v.Names) == 0 {
		return nil
	}
	return v
}

// stepView is one step of a search.
type stepView struct {
	Rate, Achieved, P99, Client, Verdict string
	Passed                               bool
}

func (r *Result) stepViews() []stepView {
	var list []stepView
	for _, s := range r.Steps {
		v := stepView{rateText(s.RatePerS), rateText(s.AchievedPerS), timeText(s.P99), percentText(s.ClientSharePct), "passed", s.Passed}
		if !s.Passed {
			v.Verdict = s.Why
		}
		list = append(list, v)
	}
	return list
}
