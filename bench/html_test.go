package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// drawn is a result in which everything that a page can show occurs.
func drawn() *Result {
	r := made()
	r.Mode = Rate
	r.Started = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r.Machine = Machine{OS: "plan9", Arch: "mips", Kernel: "6.6", CPU: "Abacus 7", Cores: 12, GoVersion: "go1.99", DescriptorLimit: 1 << 20}
	r.Totals = Totals{MeasuredS: 3, Messages: 271828, MessagesPerS: 90609, BytesPerS: 5.8e6, BytesVerified: 17396992}
	summary := Summary{Count: 271828, Min: 12.3, P50: 850.4, P90: 1234, P99: 35600, P999: 456789, P9999: 1e6, Max: 1.02e6, Mean: 900}
	curve := []CurvePoint{{0, 12.3, 1}, {50, 850, 135914}, {99, 35600, 269109}, {99.9, 456789, 271556}, {100, 1.02e6, 271828}}
	lesser := summary
	lesser.Max, lesser.P999 = 77700, 66600
	r.Distributions = []Distribution{
		{Name: "planned", About: "planned about", Summary: summary, Curve: curve},
		{Name: "reply", About: "reply about", Summary: lesser, Curve: curve},
	}
	for i := range 30 {
		cpu, rss := 50+float64(i), uint64(11<<20)
		p := Point{At: float64(i) / 10, Length: 0.1, Messages: 90000 + float64(i), P50: 800, P99: 30000, Max: 1e6, Conns: 64, ServerCPU: &cpu, ServerRSS: &rss}
		if i == 7 { // a stall
			p = Point{At: p.At, Length: p.Length, Errors: 2, Conns: 64}
		}
		r.Series = append(r.Series, p)
	}
	r.Client = Client{UserS: 1, SystemS: 2, PerMessageUS: 11.04, SharePct: 87, Threads: 1}
	r.Server = &Server{UserS: 1, SystemS: 1.5, PerMessageUS: 9.197, SharePct: 83, RSSMax: 11 << 20}
	return r
}

// aSearch is a result with steps.
func aSearch() *Result {
	r := drawn()
	r.Mode = Search
	r.Steps = []Step{{RatePerS: 1000, AchievedPerS: 1000, P99: 800, Passed: true}, {RatePerS: 2000, P99: 900000, Why: "p99 is over the limit"}}
	return r
}

// readPage parses a page, as XML in its strictest form, and returns the text that is shown and the elements with their
// attributes.
func readPage(t testing.TB, page string) (text string, elements []xml.StartElement) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	var b strings.Builder
	style := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), elements
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, page[max(0, int(d.InputOffset())-200):min(len(page), int(d.InputOffset())+50)])
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements = append(elements, token.Copy())
			style = token.Name.Local == "style"
		case xml.EndElement:
			style = false
		case xml.CharData:
			if !style {
				b.Write(token)
			}
		}
	}
}

func pageOf(t testing.TB, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// everyPage is each kind of page there is.
func everyPage(t testing.TB, r *Result) map[string]string {
	two := []Compared{{"one", r}, {"two", aSearch()}}
	return map[string]string{
		"run":        pageOf(t, r.WriteHTML),
		"search":     pageOf(t, aSearch().WriteHTML),
		"empty":      pageOf(t, (&Result{}).WriteHTML),
		"tour":       pageOf(t, func(w io.Writer) error { return WriteTour(w, "A tour", two) }),
		"comparison": pageOf(t, func(w io.Writer) error { return WriteComparisonHTML(w, two) }),
	}
}

func TestPageHasEveryFigure(t *testing.T) {
	r := drawn()
	r.Warnings = []string{"mind the gap"}
	page := pageOf(t, r.WriteHTML)
	text, elements := readPage(t, page)
	for _, part := range []string{
		"4 March 2026, 05:06:07 UTC", "Abacus 7", "12 cores", "plan9/mips 6.6", "go1.99", "h:1", "64 connections", "64 B messages",
		"90.6", "271,828 messages", "850", "35.6", "457", "1.02", "9.20", "11.0", "11.0\u00a0MiB", "mind the gap",
		"Throughput over time", "Latency over time", "Latency by percentile", "from the planned send", "from the actual send",
		"Server CPU", "Server memory (RSS)", "CPU time per message", "messages per second", "% of one core",
		"50\u00a0%", "90\u00a0%", "99\u00a0%", "99.9\u00a0%", "99.99\u00a0%", "latency, log scale", "77.7\u00a0ms",
		"size_bytes", "descriptor_limit", "early_end", "Every byte that came back was right",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing", part)
		}
	}
	drawings := 0
	for _, e := range elements {
		if e.Name.Local == "svg" {
			drawings++
		}
	}
	if drawings < 12 { // six charts in two shapes
		t.Errorf("only %d drawings", drawings)
	}
	text, _ = readPage(t, pageOf(t, aSearch().WriteHTML))
	for _, part := range []string{"Highest rate", "1.00", "limit 5\u00a0ms", "Steps of the search", "did not pass", "p99 is over the limit"} {
		if !strings.Contains(text, part) {
			t.Errorf("search: %q is missing", part)
		}
	}
}

func TestComparisonPage(t *testing.T) {
	a, b := drawn(), drawn()
	b.Totals.MessagesPerS *= 1.5
	b.Distributions[0].P99 /= 4
	b.Errors[Reset] = 3
	text, _ := readPage(t, pageOf(t, func(w io.Writer) error { return WriteComparisonHTML(w, []Compared{{"a.json", a}, {"b.json", b}}) }))
	for _, part := range []string{"a.json", "b.json", "×1.50", "×0.250", "8.90\u00a0ms", "b.json: Errors", "reset 3", "Throughput over time", "Latency by percentile", "p99 over time", "a.json, server"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if WriteComparisonHTML(io.Discard, []Compared{{"a", a}}) == nil {
		t.Error("one result was compared")
	}
}

// Nothing is loaded from anywhere, in both colour schemes.
func TestPageNeedsNothing(t *testing.T) {
	outside := regexp.MustCompile(`(?i)https?:|url\(|@import|//[a-z]`)
	for name, page := range everyPage(t, drawn()) {
		if found := outside.FindString(page); found != "" {
			t.Errorf("%s: the page has %q", name, found)
		}
		_, elements := readPage(t, page)
		for _, e := range elements {
			for _, a := range e.Attr {
				switch local := a.Name.Local; {
				case local == "src", local == "srcset", local == "style", strings.HasPrefix(local, "on"),
					local == "href" && a.Value != "data:," && !strings.HasPrefix(a.Value, "#"):
					t.Errorf("%s: <%s %s=%q>", name, e.Name.Local, local, a.Value)
				}
			}
			if l := e.Name.Local; l == "script" || l == "iframe" || l == "img" || l == "object" {
				t.Errorf("%s: <%s>", name, l)
			}
		}
		for _, part := range []string{"prefers-color-scheme: dark", `name="viewport"`, `name="color-scheme" content="light dark"`, "default-src 'none'"} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: %q is missing", name, part)
			}
		}
	}
}

func TestBriefNames(t *testing.T) {
	for _, tt := range []struct{ names, want string }{
		{"a.json b.json", "a.json b.json"},
		{"/x/y/a.json /x/y/b.json /x/ya", "y/a.json y/b.json ya"},
		{"x/a x/a", "a a"},
		{"one two", "one two"},
		{strings.Repeat("0123456789", 5) + " é/é", "…" + strings.Repeat("0123456789", 5)[23:] + " é/é"},
	} {
		var list []Compared
		for _, name := range strings.Fields(tt.names) {
			list = append(list, Compared{Name: name})
		}
		var got []string
		for _, c := range briefNames(list) {
			got = append(got, c.Name)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %s", tt.names, got, tt.want)
		}
	}
}

func TestPageEscapes(t *testing.T) {
	const evil = `"'></title></svg></style><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{.}}`
	r := aSearch()
	r.Parameters.Addr, r.Parameters.Arrival, r.Failure, r.Warnings = evil, evil, evil, []string{evil}
	r.Machine = Machine{OS: evil, Arch: evil, Kernel: evil, CPU: evil, GoVersion: evil, Date: evil}
	r.Errors[Other] = 1
	r.ErrorSamples = []ErrorSample{{Kind: evil, Detail: evil}}
	r.Steps[1].Why = evil
	for i := range r.Distributions {
		r.Distributions[i].Name, r.Distributions[i].About = evil, evil
	}
	odd := *r
	odd.Mode = evil
	two := []Compared{{evil, r}, {evil, &odd}}
	for name, page := range map[string]string{
		"run": pageOf(t, r.WriteHTML), "odd": pageOf(t, odd.WriteHTML),
		"tour":       pageOf(t, func(w io.Writer) error { return WriteTour(w, evil, two) }),
		"comparison": pageOf(t, func(w io.Writer) error { return WriteComparisonHTML(w, two) }),
	} {
		text, elements := readPage(t, page)
		if !strings.Contains(text, evil) {
			t.Errorf("%s: the text is not shown as it is", name)
		}
		for _, e := range elements {
			if l := e.Name.Local; l == "script" || l == "img" {
				t.Errorf("%s: <%s> came in", name, l)
			}
		}
	}
}

// Errors and failures stand before any figure.
func TestPageSaysErrorsFirst(t *testing.T) {
	for want, change := range map[string]func(*Result){
		"Errors 1,234 errors: wrong_bytes 1234":                     func(r *Result) { r.Errors[WrongBytes] = 1234 },
		"Errors 1 error: reset 1":                                   func(r *Result) { r.Errors[Reset] = 1 },
		"Failed out of luck":                                        func(r *Result) { r.Failure = "out of luck" },
		"Failed Interrupted after 3.0 s. out of luck. 1 error: res": func(r *Result) { r.Failure, r.Interrupted, r.Errors[Reset] = "out of luck", true, 1 },
		"Interrupted After 3.0 s":                                   func(r *Result) { r.Interrupted = true },
		"No messages No error":                                      func(r *Result) { r.Totals.Messages = 0 },
	} {
		r := drawn()
		change(r)
		text, _ := readPage(t, pageOf(t, r.WriteHTML))
		said, figures := strings.Index(text, want), strings.Index(text, "Throughput")
		if said < 0 || said > figures {
			t.Errorf("%q is at %d, the first figure at %d", want, said, figures)
		}
		text, _ = readPage(t, pageOf(t, func(w io.Writer) error { return WriteTour(w, "tour", []Compared{{"one", drawn()}, {"two", r}}) }))
		head, rest, _ := strings.Cut(want, " ")
		if said := strings.Index(text, "two: "+head); said < 0 || said > strings.Index(text, "throughput") {
			t.Errorf("the tour does not begin with %q %q", head, rest)
		}
	}
}

// A page can be drawn from the JSON form as well.
func TestPageOfAReadResult(t *testing.T) {
	r := drawn()
	again, err := ReadResult(strings.NewReader(pageOf(t, r.WriteJSON)))
	if err != nil {
		t.Fatal(err)
	}
	if pageOf(t, r.WriteHTML) != pageOf(t, again.WriteHTML) {
		t.Error("the pages differ")
	}
}

// A result of any mode, as it comes from a run, can be drawn.
func TestPageOfEveryMode(t *testing.T) {
	echo := peer(t, plainEcho)
	for _, p := range []Plan{short(Echo, echo), short(Churn, echo), short(Idle, echo), short(Fanout, peer(t, broadcast()))} {
		r := carryOut(t, p)
		text, _ := readPage(t, pageOf(t, r.WriteHTML))
		if !strings.Contains(text, modeTitles[p.Mode]) || !strings.Contains(text, "No") {
			t.Errorf("%s: %.200s", p.Mode, text)
		}
	}
}

func TestLongSeriesAreThinned(t *testing.T) {
	r := drawn()
	r.Series = nil
	for i := range 86400 {
		p := Point{At: float64(i), Length: 1, Messages: 100, P50: 10, P99: 20, Max: 30}
		if i == 40000 {
			p.Max, p.Errors = 5e6, 1
		}
		r.Series = append(r.Series, p)
	}
	list, note := thin(r.Series)
	sum, highest, errs := 0.0, 0.0, uint64(0)
	for _, p := range list {
		sum, highest, errs = sum+p.Messages*p.Length, max(highest, p.Max), errs+p.Errors
	}
	if len(list) > pointsDrawn || note == "" || !near(sum, 100*86400) || highest != 5e6 || errs != 1 {
		t.Errorf("%d points, note %q, %v messages, highest %v, %d errors", len(list), note, sum, highest, errs)
	}
	if page := pageOf(t, r.WriteHTML); len(page) > 300_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func TestTexts(t *testing.T) {
	for want, got := range map[string]string{
		"1.02 s": timeText(1.02e6), "35.6 ms": timeText(35600), "850 µs": timeText(850.4), "46.0 ns": timeText(0.046), "0": timeText(0),
		"1.00 ms": timeText(999.7), "1.00 s": timeText(999999), "90.6 k/s": rateText(90609), "850/s": rateText(850), "1.81 M/s": rateText(1.812e6),
		"12.3 MiB": byteText(12.3 * (1 << 20)), "5.80 MB/s": flowText(5.8e6), "64": countText(64), "2 ms": timeTick(2000), "200 k": countTick(200e3),
		"1,234,567": grouped(1234567), "12": grouped(12), "123": grouped(123), "100 %": percentText(99.99), "7.5 %": percentText(7.5),
	} {
		if got = strings.ReplaceAll(got, space, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAxes(t *testing.T) {
	labels := func(a axis) string {
		var list []string
		for _, t := range a.ticks {
			if t.label != "" {
				list = append(list, strings.ReplaceAll(t.label, space, " "))
			}
		}
		return strings.Join(list, ", ")
	}
	for want, a := range map[string]axis{
		"0, 5 k, 10 k, 15 k, 20 k": counting("").fromZero(19000),
		"0, 4 MiB, 8 MiB, 12 MiB":  memory.fromZero(11 << 20),
		"0, 1, 2, 3":               things("").fromZero(3),
		"0, 1":                     things("").fromZero(0),
		"0, 2, 4, 6, 8, 10":        elapsed.through(0, 10),
		"100 µs, 1 ms, 50 µs, 200 µs, 500 µs, 2 ms":        latencies.fitting(60, 1500),
		"100 µs, 1 ms, 10 ms, 100 ms, 1 s, 20 µs, 2 s":     latencies.fitting(20, 1.5e6),
		"0, 200 µs, 400 µs, 600 µs, 800 µs, 1 ms":          latencies.fitting(100, 900),
		"50 %, 90 %, 99 %, 99.9 %, 99.99 %, 99.999 %, 0 %": percentiles(100000),
		"50 %, 90 %, 0 %": percentiles(1),
	} {
		if got := labels(a); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		for _, tick := range a.ticks {
			if tick.at < -1e-9 || tick.at > 1+1e-9 {
				t.Errorf("%s: %q is at %v", want, tick.label, tick.at)
			}
		}
	}
	if a := percentiles(1000); fmt.Sprintf("%.3f %.3f %.3f", a.place(0), a.place(90), a.place(100)) != "0.000 0.333 1.000" {
		t.Errorf("%v %v %v", a.place(0), a.place(90), a.place(100))
	}
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSummary(&b, []Compared{{"one", drawn()}, {"two", made()}}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"one ", "90609", "35.6 ms", "9.20 us", "two ", "errors"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%q is missing in\n%s", part, &b)
		}
	}
}
