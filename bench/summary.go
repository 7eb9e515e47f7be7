package bench

import (
	"io"
)

// WriteSummary writes a line for each result, with the few figures that tell one kind of load from another.
func WriteSummary(w io.Writer, list []Compared) error {
	t := &table{}
	t.line("%-12s%14s  %-12s%9s %9s %9s %9s  %12s %12s %8s", "summary", "per second", "of", "p50", "p99", "p99.9", "max", "server CPU", "client CPU", "errors")
	for _, c := range list {
		r := c.Result
		rate, what, _ := r.speed()
		d := r.Main()
		server := "-"
		if r.Server != nil {
			server = duration(r.Server.PerMessageUS)
		}
		t.line("%-12s%14.0f  %-12s%9s %9s %9s %9s  %12s %12s %8d", c.Name, rate, what, duration(d.P50), duration(d.P99), duration(d.P999), duration(d.Max),
			server, duration(r.Client.PerMessageUS), r.Errors.Total())
	}
	for _, c := range list {
		if text := c.Result.behindText(); text != "" {
			t.line("WARNING  %s: %s", c.Name, text)
		}
	}
	t.line("CPU is that of one message, or for fanout of one delivery.")
	_, err := io.WriteString(w, t.String())
	return err
}

// summaryView is the summary for a page.
type summaryView struct{ Rows []summaryRow }

type summaryRow struct {
	ID, Name string
	Cells    []summaryCell
}

type summaryCell struct{ Class, Title, Text, Note string }

// Titles are the columns of the summary.
func (s *summaryView) Titles() []string {
	if len(s.Rows) == 0 {
		return nil
	}
	var list []string
	for _, c := range s.Rows[0].Cells {
		list = append(list, c.Title)
	}
	return list
}

func (r *Result) summaryCells() []summaryCell {
	rate, what, _ := r.speed()
	d := r.Main()
	if r.Totals.FellBehind {
		what += ", of " + rateText(r.Totals.AskedPerS) + " asked"
	}
	cells := []summaryCell{{"lead", "throughput", rateText(rate), what}}
	for _, q := range []struct {
		title string
		us    float64
	}{{"p50", d.P50}, {"p99", d.P99}, {"p99.9", d.P999}, {"max", d.Max}} {
		cells = append(cells, summaryCell{"", q.title, timeText(q.us), ""})
	}
	server, rss := "–", "–"
	if s := r.Server; s != nil {
		server, rss = timeText(s.PerMessageUS), byteText(float64(s.RSSMax))
	}
	cells = append(cells, summaryCell{"", "server CPU", server, ""}, summaryCell{"", "client CPU", timeText(r.Client.PerMessageUS), ""}, summaryCell{"", "server RSS", rss, ""})
	class := ""
	if r.Errors.Total() > 0 || r.Failure != "" {
		class = "bad"
	}
	return append(cells, summaryCell{class, "errors", grouped(r.Errors.Total()), ""})
}
