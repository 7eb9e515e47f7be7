package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"strings"
)

//go:embed page.html
var pageText string

// pages is the template of every page. Drawings are made and escaped in chart.go; the template escapes all other text.
var pages = template.Must(template.New("page").Parse(pageText))

// WriteHTML writes the result as one page that needs nothing else: no script, no font, no picture from elsewhere. It is
// drawn from what the JSON form holds too, so a result that was read gives the same page.
func (r *Result) WriteHTML(w io.Writer) error {
	s := r.section()
	p := &page{
		Title: fmt.Sprintf("netbench %s %s", r.Mode, r.addrText()), Kind: "netbench " + string(r.Mode),
		Heading: s.Heading, Lead: append([]string{s.Line}, r.circumstances()...), Runs: []*section{s},
	}
	s.Heading, s.Line = "", "" // said at the top
	return pages.Execute(w, p)
}

// WriteTour writes several results, such as those of runs against one server, as one page: a summary, and what WriteHTML
// shows of each. The names are shown; each should occur once.
func WriteTour(w io.Writer, heading string, list []Compared) error {
	p := &page{Title: heading, Kind: "netbench", Heading: heading, Summary: &summaryView{}}
	for i, c := range list {
		if i == 0 {
			p.Lead = c.Result.circumstances()
		}
		s := c.Result.section()
		s.ID, s.Name = fmt.Sprintf("run-%d", i+1), c.Name
		if a := c.Result.status(); a.Class != "ok" {
			a.Head = c.Name + ": " + a.Head
			p.Alarms = append(p.Alarms, a)
		}
		p.Runs = append(p.Runs, s)
		p.Summary.Rows = append(p.Summary.Rows, summaryRow{s.ID, c.Name, c.Result.summaryCells()})
	}
	p.praise()
	return pages.Execute(w, p)
}

// praise returns an alarm of class ok if no run has another alarm.
func (p *page) praise() {
	if len(p.Alarms) == 0 {
		p.Alarms = []alarm{{"ok", "No errors", "In every run each byte that came back was right."}}
	}
}

// page is the data for page.html.
type page struct {
	Title, Kind, Heading string
	Lead                 []string
	Alarms               []alarm
	Summary              *summaryView
	Comparison           *comparisonView
	Runs                 []*section
}

// section is one run.
type section struct {
	ID, Name, Heading, Line string
	Alarms                  []alarm
	Tiles                   []tile
	Figures, Server         []figure
	Search, Trouble         []figure // what stands beside Steps and Errors; one at most
	Latency                 *latencyView
	Steps                   []stepView
	Errors                  []ErrorSample
	MoreErrors              string
	Facts                   []facts
}

// alarm is a sentence that a reader must not miss. Its class is ok, warn or bad.
type alarm struct{ Class, Head, Text string }

// tile is one figure in large type.
type tile struct{ Class, Label, Number, Unit, Note string }

type facts struct {
	Title string
	Pairs [][2]string
}

// modeTitles describe a run in a few words.
var modeTitles = map[Mode]string{
	Echo: "Closed loop", Rate: "Open loop at a fixed rate", Churn: "Connect, send, receive, close", Idle: "Idle connections",
	Fanout: "One publisher, many subscribers", Ramp: "Connections added at a rate", Search: "Highest rate under a p99 limit",
}

func (r *Result) section() *section {
	p := &r.Parameters
	series, note := thin(r.Series)
	title := modeTitles[r.Mode]
	if title == "" {
		title = string(r.Mode)
	}
	layers := r.layerText()
	if layers != "" {
		layers = "," + layers
	}
	s := &section{
		Heading: title + space + "· " + r.addrText(),
		Line:    fmt.Sprintf("%s%s, %d B messages, %s measured", r.shape(), layers, p.SizeBytes, timeTick(1e6*r.Totals.MeasuredS)),
		Alarms:  []alarm{r.status()}, Tiles: r.tiles(), Latency: r.latencyView(), Steps: r.stepViews(),
		Server: serverFigures(r, series, note), Errors: r.ErrorSamples,
		Facts: []facts{{"Parameters", pairs(r.Parameters)}, {"Machine", pairs(r.Machine)}, {"Totals", pairs(r.Totals)}, {"Client", pairs(r.Client)}},
	}
	for i := range r.Addresses {
		s.Facts = append(s.Facts, facts{"Subscribers at " + r.Addresses[i].Addr, pairs(r.Addresses[i])})
	}
	if p.WarmupS > 0 {
		s.Line += fmt.Sprintf(" after %s of warm-up", timeTick(1e6*p.WarmupS))
	}
	if r.Server != nil {
		s.Facts = append(s.Facts, facts{"Server", pairs(*r.Server)})
	}
	s.Facts = append(s.Facts, facts{"Errors by kind", r.errorPairs()})
	for _, w := range r.Warnings {
		if w != r.behindText() || s.Alarms[0].Class == "bad" { // otherwise the first alarm has said it
			s.Alarms = append(s.Alarms, alarm{"warn", "Note", w})
		}
	}
	if n := uint64(len(r.ErrorSamples)); r.Errors.Total() > n {
		s.MoreErrors = grouped(r.Errors.Total() - n)
	}
	add := func(f figure, ok bool) {
		if ok {
			s.Figures = append(s.Figures, f)
		}
	}
	if f, ok := stepsFigure(r); ok {
		s.Search = []figure{f}
	}
	if f, ok := errorsFigure(series, note); ok {
		s.Trouble = []figure{f}
	}
	add(throughputFigure(r, series, note))
	add(latencyFigure(r, series, note))
	add(curvesFigure(r))
	return s
}

// status returns the first alarm: whether the figures can be used as they are.
func (r *Result) status() alarm {
	n := r.Errors.Total()
	counted := grouped(n) + " errors: "
	if n == 1 {
		counted = "1 error: "
	}
	counted += r.errorSummary()
	early := ""
	if r.Interrupted {
		early = fmt.Sprintf("Interrupted after %.1f s. ", r.Totals.MeasuredS)
	}
	switch {
	case r.Failure != "" && n > 0:
		return alarm{"bad", "Failed", early + r.Failure + ". " + counted}
	case r.Failure != "":
		return alarm{"bad", "Failed", early + r.Failure}
	case n > 0:
		return alarm{"bad", "Errors", early + counted}
	case r.Totals.FellBehind:
		return alarm{"warn", "Did not keep up", early + upperFirst(r.behindText()) + ". No error, every byte that came back was right."}
	case r.Totals.Messages == 0:
		return alarm{"warn", "No messages", early + "No error, but nothing was exchanged either."}
	case r.Interrupted:
		return alarm{"warn", "Interrupted", fmt.Sprintf("After %.1f s. No error so far, every byte that came back was right.", r.Totals.MeasuredS)}
	}
	return alarm{"ok", "No errors", "Every byte that came back was right: " + grouped(r.Totals.BytesVerified) + " bytes."}
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// circumstances returns when and where a result was measured.
func (r *Result) circumstances() []string {
	m := &r.Machine
	var where []string
	for _, part := range []string{m.CPU, m.coresText(), m.OS + "/" + m.Arch + " " + m.Kernel, m.GoVersion} {
		if strings.Trim(part, "/ ") != "" {
			where = append(where, part)
		}
	}
	zone := "-07:00" // a zone's name does not survive in JSON
	if _, offset := r.Started.Zone(); offset == 0 {
		zone = "UTC"
	}
	return []string{r.Started.Format("2 January 2006, 15:04:05 " + zone), strings.Join(where, " · ")}
}

// pairs lists every field of a plain struct under its key in JSON, so that none is forgotten.
func pairs(of any) [][2]string {
	v := reflect.ValueOf(of)
	var list [][2]string
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous {
			list = append(list, pairs(v.Field(i).Interface())...)
			continue
		}
		text := fmt.Sprint(v.Field(i).Interface())
		switch f := v.Field(i); f.Kind() {
		case reflect.Float64:
			text = number(round6(f.Float()))
		case reflect.Uint64:
			text = grouped(f.Uint())
		}
		list = append(list, [2]string{v.Type().Field(i).Tag.Get("json"), text})
	}
	return list
}

func (r *Result) errorPairs() [][2]string {
	var list [][2]string
	for k, n := range r.Errors {
		list = append(list, [2]string{Kind(k).String(), grouped(n)})
	}
	return list
}
