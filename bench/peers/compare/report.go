//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/servercore-go/servercore/bench"
)

// A report is the result of a comparison. Its JSON form has every sample.
type report struct {
	Date        time.Time         `json:"date"`
	Command     string            `json:"command"`
	Interrupted bool              `json:"interrupted"`
	Machine     bench.Machine     `json:"machine"`             // as netbench saw it, but for the cores
	LoadBefore  float64           `json:"load_average_before"` // of the last minute
	LoadAfter   float64           `json:"load_average_after"`
	Versions    map[string]string `json:"versions"`
	Base        string            `json:"base"` // the revision of -base; "" for none
	Rounds      int               `json:"rounds"`
	DurationS   float64           `json:"duration_s"`
	WarmupS     float64           `json:"warmup_s"`
	ServerCPU   []int             `json:"server_cpu"` // empty: any
	ClientCPU   []int             `json:"client_cpu"`
	Outcomes    []outcome         `json:"workloads"`
	CrossChecks []crossCheck      `json:"cross_checks"`
}

// faults reports whether there were errors that the figures alone do not show.
func (r *report) faults() bool {
	for _, o := range r.Outcomes {
		if o.Failure != "" || len(o.troubles()) > 0 {
			return true
		}
	}
	return slices.ContainsFunc(r.CrossChecks, func(c crossCheck) bool { return !c.agrees() })
}

// troubles lists the measurements that failed or had errors.
func (o *outcome) troubles() (lines []string) {
	for _, s := range o.Series {
		for _, one := range s.Samples {
			if one.Failure != "" {
				lines = append(lines, fmt.Sprintf("%s, round %d: FAILED: %s", s.Server, one.Round, one.Failure))
			}
			if len(one.Errors) > 0 {
				lines = append(lines, fmt.Sprintf("%s, round %d: errors: %s", s.Server, one.Round, strings.Join(one.Errors, "; ")))
			}
		}
	}
	return lines
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Peers\n\n")
	if r.Interrupted {
		b.WriteString("**Interrupted: what was measured until then.**\n\n")
	}
	if r.faults() {
		b.WriteString("**There were failures or errors: see below the tables marked with `!`.**\n\n")
	}
	fmt.Fprintf(&b, "    %s\n\n", r.Command)
	m := &r.Machine
	fmt.Fprintf(&b, "%s; %s, %d cores, %s %s, %s. Server on %s, client on %s. %d rounds of %g s after %g s of warm-up.\n",
		r.Date.Format("2006-01-02 15:04"), m.CPU, m.Cores, m.OS, m.Kernel, m.GoVersion, cores(r.ServerCPU), cores(r.ClientCPU),
		r.Rounds, r.DurationS, r.WarmupS)
	fmt.Fprintf(&b, "Load average %.1f before and %.1f after", r.LoadBefore, r.LoadAfter)
	if r.LoadBefore > quiet {
		b.WriteString(": **the machine was busy with something else, so look at the ratios only**")
	}
	b.WriteString(".\n" + longer(r.Outcomes))
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, name+" "+r.Versions[name])
	}
	fmt.Fprintf(&b, "Built from: %s.\n\n", strings.Join(versions, "; "))
	b.WriteString(legends(r.Outcomes))
	r.writeMoves(&b)
	for i := range r.Outcomes {
		r.Outcomes[i].write(&b)
	}
	for i := range r.CrossChecks {
		r.CrossChecks[i].write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quiet is the load average up to which a machine counts as idle.
const quiet = 0.7

// legends returns what a reader of the tables must know.
func legends(all []outcome) string {
	if len(all) == 0 {
		return ""
	}
	text := "Medians of all rounds. CPU is the server's processor time. A ratio is the median of the ratios of each round. Below 1 is less:\n" +
		"better for CPU, memory and time, worse for a rate. `~`: no difference can be told, because the rounds disagree on its direction or\n" +
		"the two runs of ours differ as much. `!`: failures or errors, listed below the table.\n"
	tcp := func(o outcome) bool { return o.Over == overTCP }
	if slices.ContainsFunc(all, tcp) {
		text += "*To gnet* is the row's figure divided by that of plain gnet in the mode that is better in that figure, *to C* by that of cepoll.\n"
	}
	if slices.ContainsFunc(all, func(o outcome) bool { return !tcp(o) }) {
		text += "*Ours to it* is the figure of ours divided by that of the row.\n"
	}
	return text + "\n"
}

// longer returns the names of the workloads that are measured for longer than -duration.
func longer(all []outcome) string {
	var names []string
	for _, o := range all {
		if o.Times > 1 {
			names = append(names, fmt.Sprintf("%s (%d times)", o.Workload, o.Times))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "Measured for longer: " + strings.Join(names, ", ") + ".\n"
}

func cores(list []int) string {
	if len(list) == 0 {
		return "any core"
	}
	var s []string
	for _, c := range list {
		s = append(s, strconv.Itoa(c))
	}
	return "core " + strings.Join(s, ", ")
}

func (o *outcome) write(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\n%s.", o.Workload, upper(o.About))
	if o.Note != "" {
		b.WriteString(" " + o.Note)
	}
	b.WriteString("\n\n")
	if o.Failure != "" {
		fmt.Fprintf(b, "**Not measured: %s**\n\n", o.Failure)
		return
	}
	rows := [][]string{o.header()}
	for i := range o.Series {
		rows = append(rows, o.row(&o.Series[i], o.figures()[0]))
	}
	table(b, rows)
	o.footnotes(b)
}

// figures returns those that are compared; the first is what the workload is about.
func (o *outcome) figures() []figure {
	switch {
	case o.Idle:
		return []figure{rss}
	case o.hasLatency():
		return []figure{cpu, rate, p999}
	}
	return []figure{cpu, rate}
}

func (o *outcome) header() []string {
	compared, first := "ours to it", "CPU us/"+o.Unit
	if o.Over == overTCP {
		compared = "to gnet"
	}
	if o.Idle {
		first = "bytes/connection"
	}
	header := []string{"server", first, "range", compared, "range"}
	if o.Over == overTCP {
		header = append(header, "to C")
	}
	if o.Idle {
		return header
	}
	units := map[string]string{"message": "messages/s", "delivery": "deliveries/s", "connection": "connections/s"}
	header = append(header, units[o.Unit], compared)
	if o.hasLatency() {
		header = append(header, "p50 us", "p99 us", "p99.9 us", compared)
	}
	return header
}

// hasLatency reports whether any sample has one. The program deflate reports none.
func (o *outcome) hasLatency() bool {
	return slices.ContainsFunc(o.Series, func(s series) bool {
		return slices.ContainsFunc(s.Samples, func(one sample) bool { return one.P999 > 0 })
	})
}

func (o *outcome) row(s *series, main figure) []string {
	name := s.Server
	for _, one := range s.Samples {
		if one.Failure != "" || len(one.Errors) > 0 {
			name = s.Server + " !"
		}
	}
	show := digits
	if o.Idle {
		show = thousands
	}
	c := s.spread(main)
	if c.N == 0 {
		return []string{name, "-"}
	}
	between := func(s spread, show func(float64) string) string { return show(s.Min) + " - " + show(s.Max) }
	row := []string{name, show(c.Median), between(c, show)}
	ratio, text := o.compared(s, main)
	row = append(row, text)
	if ratio.N > 0 {
		text = between(ratio, ratioText)
	}
	row = append(row, text)
	if o.Over == overTCP {
		_, text = o.ratio(s, o.find(cepoll), main)
		row = append(row, text)
	}
	if o.Idle {
		return row
	}
	_, text = o.compared(s, rate)
	row = append(row, thousands(s.spread(rate).Median), text)
	if !o.hasLatency() {
		return row
	}
	_, text = o.compared(s, p999)
	return append(row, digits(s.spread(p50).Median), digits(s.spread(p99).Median), digits(s.spread(p999).Median), text)
}

// compared returns the ratio that a row shows: over TCP of s to plain gnet, else of ours to s.
func (o *outcome) compared(s *series, f figure) (spread, string) {
	if o.Over == overTCP {
		return o.ratio(s, o.base(f), f)
	}
	if our := o.find(ours); our != nil {
		return o.ratio(our, s, f)
	}
	return spread{}, "-"
}

// ratio returns the ratio of s to base, and its text with the mark for noise.
func (o *outcome) ratio(s, base *series, f figure) (spread, string) {
	if base == nil {
		return spread{}, "-"
	}
	if base.Server == s.Server {
		return spread{}, "1"
	}
	r := s.ratios(base, f)
	switch {
	case r.N == 0:
		return r, "-"
	case clear(r, o.noise(f)):
		return r, ratioText(r.Median)
	}
	return r, ratioText(r.Median) + "~"
}

func (o *outcome) footnotes(b *strings.Builder) {
	var modes, noises []string
	for _, f := range o.figures() {
		if base := o.base(f); base != nil {
			modes = append(modes, f.name+" "+base.Server)
		}
		if n := o.noise(f); n.N > 0 {
			noises = append(noises, fmt.Sprintf("%s %s (%s - %s)", f.name, ratioText(n.Median), ratioText(n.Min), ratioText(n.Max)))
		}
	}
	if len(modes) > 0 {
		fmt.Fprintf(b, "gnet here: %s. ", strings.Join(modes, ", "))
	}
	if len(noises) > 0 {
		fmt.Fprintf(b, "Noise, %s to %s: %s.", oursAgain, ours, strings.Join(noises, ", "))
	}
	b.WriteString("\n\n")
	if busy := o.busyClients(); busy != "" {
		fmt.Fprintf(b, "%s\n\n", busy)
	}
	for _, line := range o.troubles() {
		fmt.Fprintf(b, "- ! %s\n", strings.ReplaceAll(line, "\n", "\n  "))
	}
	if len(o.troubles()) > 0 {
		b.WriteString("\n")
	}
}

// busyClients returns the servers for which netbench may have been the limit. Their rates are then not those of the server; their CPU per
// message is.
func (o *outcome) busyClients() string {
	var names []string
	for i := range o.Series {
		s := &o.Series[i]
		client := s.spread(figure{of: func(s sample) float64 { return s.ClientShare }})
		own := s.spread(figure{of: func(s sample) float64 { return s.ServerShare }})
		if client.N > 0 && client.Median > 90 && own.Median < 90 {
			names = append(names, s.Server)
		}
	}
	switch {
	case len(names) == 0:
		return ""
	case o.Planned:
		return "netbench was busy more than 90 % of the time with: " + strings.Join(names, ", ") + ". The latency may be its own."
	}
	return "netbench was the limit, not the server, for: " + strings.Join(names, ", ") + ". Use CPU, not the rate, to compare these."
}

// table writes rows, of which the first is the header, as a markdown table with aligned columns.
func table(b *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for i, row := range rows {
		for c, n := range width {
			cell := ""
			if c < len(row) {
				cell = row[c]
			}
			if c == 0 {
				fmt.Fprintf(b, "| %-*s ", n, cell)
			} else {
				fmt.Fprintf(b, "| %*s ", n, cell)
			}
		}
		b.WriteString("|\n")
		if i == 0 {
			for c, n := range width {
				dashes := strings.Repeat("-", n+1)
				if c == 0 {
					b.WriteString("|:" + dashes)
				} else {
					b.WriteString("|" + dashes + ":")
				}
			}
			b.WriteString("|\n")
		}
	}
	b.WriteString("\n")
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// ratioText returns a ratio with two decimals, or with three if it is small.
func ratioText(f float64) string {
	if f > 0 && f < 0.1 {
		return strconv.FormatFloat(f, 'f', 3, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// digits shows three significant digits, and all of those before the point.
func digits(f float64) string {
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	places := max(0, 2-int(math.Floor(math.Log10(math.Abs(f)))))
	if places == 0 {
		return thousands(f)
	}
	return strconv.FormatFloat(f, 'f', places, 64)
}

// thousands shows a whole number with separators.
func thousands(f float64) string {
	s := strconv.FormatFloat(math.Abs(f), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if f <= -0.5 {
		s = "-" + s
	}
	return s
}
