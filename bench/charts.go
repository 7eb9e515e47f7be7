package bench

import (
	"fmt"
	"html/template"
	"math"
)

// A figure is a drawing with its title, legend and note.
type figure struct {
	Title, Note string
	Legend      []key
	SVG         template.HTML
}

type key struct {
	Sample template.HTML
	Name   string
}

// The measures of the axes of a report.
var (
	elapsed    = measure{title: "time in s, from the start of the measured part", tick: secondTick}
	latencies  = measure{title: "latency", tick: timeTick}
	memory     = measure{title: "resident memory", tick: byteTick, binary: true}
	percentage = measure{title: "% of one core", tick: countTick}
)

func counting(what string) measure { return measure{title: what, tick: countTick} }
func things(what string) measure   { return measure{title: what, tick: countTick, whole: true} }

// legend returns the legend of the lines. A single line needs none.
func (c *chart) legend(marked bool) []key {
	if len(c.lines) < 2 {
		return nil
	}
	var list []key
	for _, l := range c.lines {
		list = append(list, key{sample(l.look, marked), l.name})
	}
	return list
}

// over returns a chart over the time of a run with a line for each track, and whether the chart has any point.
func over(series []Point, m measure, log bool, list ...track) (*chart, bool) {
	c := &chart{x: elapsed.through(0, end(series))}
	low, high, any := math.Inf(1), 0.0, false
	for _, t := range list {
		l := line{name: t.name, look: t.look, area: t.area}
		gap := true
		for j := range series {
			p := &series[j]
			v, ok := t.figure(p)
			if !ok {
				gap = true
				continue
			}
			l.at = append(l.at, point{p.At + p.Length/2, v, gap})
			gap, any = false, true
			if high = max(high, v); v > 0 {
				low = min(low, v)
			}
		}
		if len(l.at) > 0 {
			c.lines = append(c.lines, l)
		}
	}
	if c.y = m.fromZero(high); log {
		c.y = m.fitting(low, high)
	}
	return c, any
}

// A track takes one figure out of a point of the series. ok is false if the point has none, which leaves a gap.
type track struct {
	name   string
	look   int
	area   bool
	figure func(*Point) (value float64, ok bool)
}

func end(series []Point) float64 {
	if len(series) == 0 {
		return 0
	}
	last := &series[len(series)-1]
	return last.At + last.Length
}

// tell adds the hits: the figures of each point of the series.
func (c *chart) tell(series []Point, text func(*Point) string) {
	for i := range series {
		p := &series[i]
		c.hits = append(c.hits, hit{p.At, p.At + p.Length, trimmed(round3(p.At)) + " s: " + text(p)})
	}
}

// throughputOf returns the figure of throughput for a mode, over time.
func throughputOf(m Mode) (title string, unit measure, t track) {
	switch m {
	case Churn:
		return "Connections per second", counting("connections per second"), track{"connections", 0, true, func(p *Point) (float64, bool) { return p.Opened, true }}
	case Fanout:
		return "Deliveries over time", counting("deliveries per second"), track{"deliveries", 0, true, messagesOf}
	case Ramp, Idle:
		return "Open connections", things("connections"), track{"connections", 0, true, func(p *Point) (float64, bool) { return float64(p.Conns), true }}
	default:
		return "Throughput over time", counting("messages per second"), track{"messages", 0, true, messagesOf}
	}
}

func messagesOf(p *Point) (float64, bool) { return p.Messages, true }

func throughputFigure(r *Result, series []Point, note string) (figure, bool) {
	mode := r.Mode
	title, unit, t := throughputOf(mode)
	if n := len(series); (mode == Idle || mode == Ramp) && n > 1 && series[n-1].Conns == 0 {
		series = series[:n-1] // the connections are closed during the last interval
	}
	c, ok := over(series, unit, false, t)
	c.label = title
	if asked := r.Totals.AskedPerS; r.Totals.FellBehind && mode != Idle && mode != Ramp {
		c.limit = &limit{asked, "asked " + rateText(asked)}
		for i := range series {
			asked = max(asked, series[i].Messages)
		}
		c.y = unit.fromZero(asked * 1.1)
	}
	c.tell(series, func(p *Point) string {
		v, _ := t.figure(p)
		return fmt.Sprintf("%s %s, %s, %d errors", countText(v), unit.title, flowText(p.Bytes), p.Errors)
	})
	return figure{Title: title, Note: note, SVG: c.both()}, ok
}

func latencyFigure(r *Result, series []Point, note string) (figure, bool) {
	some := func(get func(*Point) float64) func(*Point) (float64, bool) {
		return func(p *Point) (float64, bool) { v := get(p); return v, v > 0 }
	}
	c, ok := over(series, latencies, true,
		track{"p50", 0, false, some(func(p *Point) float64 { return p.P50 })},
		track{"p99", 1, false, some(func(p *Point) float64 { return p.P99 })},
		track{"max", 2, false, some(func(p *Point) float64 { return p.Max })})
	c.label = "Latency over time: p50, p99 and maximum"
	c.tell(series, func(p *Point) string {
		return fmt.Sprintf("p50 %s, p99 %s, max %s", timeText(p.P50), timeText(p.P99), timeText(p.Max))
	})
	title := "Latency over time"
	if r.Mode == Rate || r.Mode == Search {
		title += ", from the planned send"
	}
	return figure{Title: title, Note: note, Legend: c.legend(false), SVG: c.both()}, ok
}

// curvesOf returns the distributions whose curves are drawn together in a mode, and their names in that chart.
func curvesOf(m Mode) [][2]string {
	switch m {
	case Rate, Search:
		return [][2]string{{"planned", "from the planned send"}, {"reply", "from the actual send"}}
	case Churn:
		return [][2]string{{"cycle", "cycle: connect to reply"}, {"connect", "connect"}, {"reply", "reply"}, {"handshake", "TLS handshake"}, {"upgrade", "WebSocket upgrade"}}
	case Fanout:
		return [][2]string{{"delivery", "delivery to one subscriber"}, {"round", "round: to the last one"}}
	case Ramp:
		return [][2]string{{"reply", "reply"}, {"connect", "connect"}, {"handshake", "TLS handshake"}, {"upgrade", "WebSocket upgrade"}}
	default:
		return [][2]string{{"reply", "reply"}}
	}
}

// named is a distribution with its name in a chart.
type named struct {
	name string
	*Distribution
}

// curveFigure draws percentile curves over each other.
func curveFigure(title string, list []named) (figure, bool) {
	c := &chart{label: "Latency by percentile"}
	low, high, count := math.Inf(1), 0.0, uint64(0)
	for i, d := range list {
		if d.Count == 0 || len(d.Curve) == 0 {
			continue
		}
		count, high = max(count, d.Count), max(high, d.Max)
		l := line{name: d.name, look: i}
		for _, p := range d.Curve {
			if p.Latency > 0 {
				low = min(low, p.Latency)
			}
			// The largest of Count values is at the percentile above which 1 of Count values lies.
			l.at = append(l.at, point{x: min(p.Percentile, 100*(1-1/float64(d.Count))), y: p.Latency})
		}
		c.lines = append(c.lines, l)
		for _, m := range []struct {
			percent, us float64
			name        string
		}{{50, d.P50, "p50"}, {90, d.P90, "p90"}, {99, d.P99, "p99"}, {99.9, d.P999, "p99.9"}, {99.99, d.P9999, "p99.99"}} {
			if 1-m.percent/100 >= 1/float64(d.Count) {
				c.marks = append(c.marks, mark{x: m.percent, y: m.us, look: i, text: fmt.Sprintf("%s: %s %s", d.name, m.name, timeText(m.us))})
			}
		}
	}
	if count == 0 {
		return figure{}, false
	}
	c.x, c.y = percentiles(count), latencies.fitting(low, high)
	return figure{Title: title, Legend: c.legend(true), SVG: c.high()}, true
}

func curvesFigure(r *Result) (figure, bool) {
	var list []named
	for _, c := range curvesOf(r.Mode) {
		if d := r.Find(c[0]); d != nil {
			list = append(list, named{c[1], d})
		}
	}
	return curveFigure("Latency by percentile", list)
}

// stepsFigure draws the steps of a search: p99 over the rate, and the limit.
func stepsFigure(r *Result) (figure, bool) {
	if len(r.Steps) == 0 {
		return figure{}, false
	}
	least := r.Parameters.P99LimitUS
	low, high, fast := least, least, 0.0
	c := &chart{label: "Steps of the search: p99 over the rate", limit: &limit{least, "limit " + timeTick(least)}}
	for _, s := range r.Steps {
		if s.P99 > 0 {
			low, high = min(low, s.P99), max(high, s.P99)
		}
		fast = max(fast, s.RatePerS)
		text := fmt.Sprintf("%s: p99 %s", rateText(s.RatePerS), timeText(s.P99))
		if !s.Passed {
			text += ", " + s.Why
		}
		c.marks = append(c.marks, mark{x: s.RatePerS, y: s.P99, cross: !s.Passed, text: text})
	}
	c.x = counting("messages per second, planned").through(0, fast*1.05)
	m := latencies
	m.title = "p99"
	c.y = m.fitting(low, high*1.1)
	return figure{Title: "Steps of the search", SVG: c.both(), Legend: []key{
		{template.HTML(`<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><path class="mark l0" transform="translate(15 6)" d="` + markShape(0) + `"/></svg>`), "passed"},
		{template.HTML(`<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><path class="cross" transform="translate(15 6)" d="M-4.5 -4.5L4.5 4.5M4.5 -4.5L-4.5 4.5"/></svg>`), "did not pass"},
	}}, true
}

// errorsFigure draws the number of errors over time.
func errorsFigure(series []Point, note string) (figure, bool) {
	any := false
	c, _ := over(series, things("errors in an interval"), false, track{"errors", 1, true, func(p *Point) (float64, bool) {
		any = any || p.Errors > 0
		return float64(p.Errors), true
	}})
	c.label = "Errors over time"
	return figure{Title: "Errors over time", Note: note, SVG: c.both()}, any
}

// serverFigures draw the CPU time and memory of the server. The list is empty if they are not known.
func serverFigures(r *Result, series []Point, note string) []figure {
	var list []figure
	cpu, ok := over(series, percentage, false, track{"CPU", 0, true, serverCPU})
	if ok {
		cpu.label = "CPU of the server over time"
		cpu.tell(series, func(p *Point) string { v, _ := serverCPU(p); return percentText(v) + " of one core" })
		list = append(list, figure{Title: "Server CPU", Note: note, SVG: cpu.both()})
	}
	rss, ok := over(series, memory, false, track{"RSS", 2, true, serverRSS})
	if ok {
		rss.label = "Resident memory of the server over time"
		rss.tell(series, func(p *Point) string { v, _ := serverRSS(p); return byteText(v) })
		list = append(list, figure{Title: "Server memory (RSS)", Note: note, SVG: rss.both()})
	}
	if s, n := r.Server, float64(r.Totals.Messages); s != nil && n > 0 {
		list = append(list, cpuFigure(bars{
			{"server", s.UserS * 1e6 / n, s.SystemS * 1e6 / n, 0},
			{"client (netbench)", r.Client.UserS * 1e6 / n, r.Client.SystemS * 1e6 / n, 1},
		}, per(r.Mode)))
	}
	return list
}

func cpuFigure(b bars, per string) figure {
	return figure{Title: "CPU time " + per, SVG: b.both(), Legend: []key{
		{`<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><rect class="bar ink" x="1" y="0.5" width="28" height="11"/></svg>`, "user"},
		{`<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><rect class="bar part ink" x="1" y="0.5" width="28" height="11"/></svg>`, "system"},
	}}
}

// per names the unit that the CPU time of a mode is divided by.
func per(m Mode) string {
	if m == Fanout {
		return "per delivery"
	}
	return "per message"
}

func serverCPU(p *Point) (float64, bool) {
	if p.ServerCPU == nil {
		return 0, false
	}
	return *p.ServerCPU, true
}

func serverRSS(p *Point) (float64, bool) {
	if p.ServerRSS == nil {
		return 0, false
	}
	return float64(*p.ServerRSS), true
}
