package bench

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func made() *Result {
	r := &Result{Schema: SchemaVersion, Mode: Echo, Parameters: Plan{Mode: Echo, Addr: "h:1"}.WithDefaults().ptr().parameters()}
	r.Totals = Totals{MeasuredS: 2, Messages: 1000, MessagesPerS: 500, BytesPerS: 32000}
	r.Distributions = []Distribution{{Name: "reply", Summary: Summary{Count: 1000, P50: 10, P99: 20, P999: 30, Max: 40}}}
	r.Client.PerMessageUS = 5
	return r
}

func (p Plan) ptr() *Plan { return &p }

func tableOf(t testing.TB, r *Result) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFirstLine(t *testing.T) {
	for want, change := range map[string]func(*Result){
		"OK       no error":                       func(*Result) {},
		"ERRORS   3: wrong_bytes 2, late 1":       func(r *Result) { r.Errors[WrongBytes], r.Errors[Late] = 2, 1 },
		"FAILED   out of luck":                    func(r *Result) { r.Failure = "out of luck" },
		"OK so far, interrupted after 2.0 s":      func(r *Result) { r.Interrupted = true },
		"OK       no error; no messages were exc": func(r *Result) { r.Totals.Messages = 0 },
	} {
		r := made()
		change(r)
		if got := tableOf(t, r); !strings.HasPrefix(got, want) {
			t.Errorf("want %q, got\n%s", want, got)
		}
	}
}

func TestTable(t *testing.T) {
	r := made()
	r.Server = &Server{PerMessageUS: 7.25}
	r.Warnings = []string{"the client was busy"}
	r.Steps = []Step{{RatePerS: 1000, AchievedPerS: 1010, Passed: true}, {RatePerS: 1030, AchievedPerS: 1005, Passed: true}, {RatePerS: 2000, AchievedPerS: 1900, Why: "errors"}}
	got := tableOf(t, r)
	for _, part := range []string{"500/s   1000, 0.03 MB/s", "p99.99", "10.0 us", "5.00 us per message", "7.25 us per message",
		"WARNING  the client was busy", "errors\n", "highest rate with p99 under 5.00 ms: 1005 msg/s"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in\n%s", part, got)
		}
	}
}

func TestClientIsTheLimit(t *testing.T) {
	r := &run{plan: Plan{Mode: Echo, Addr: "h:1"}.WithDefaults()}
	out := made()
	out.Totals.ConnsAtStart = r.plan.Conns
	out.Client.SharePct = 91
	r.warn(out)
	if len(out.Warnings) == 0 || !strings.Contains(out.Warnings[0], "the client used 91 % of the cores") {
		t.Errorf("%q", out.Warnings)
	}
}

func TestDurations(t *testing.T) {
	for us, want := range map[float64]string{0: "0", 1.234: "1.23 us", 45.67: "45.7 us", 999: "999 us", 1234: "1.23 ms", 45678: "45.7 ms", 456789: "457 ms", 12.3e6: "12.30 s"} {
		if got := duration(us); got != want {
			t.Errorf("%v us: %s, want %s", us, got, want)
		}
	}
}

func TestComparison(t *testing.T) {
	a, b := made(), made()
	b.Totals.MessagesPerS = 750
	b.Errors[Reset] = 4
	b.Parameters.Conns = 1
	var out bytes.Buffer
	if err := WriteComparison(&out, []Compared{{"a.json", a}, {"b.json", b}}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"750 x1.50", "reply p99", "20.0 us x1.00", "b.json was not run with the parameters of a.json", "b.json has 4 errors"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in\n%s", part, &out)
		}
	}
	if strings.Contains(out.String(), "server") {
		t.Errorf("there is no server figure to show:\n%s", &out)
	}
	if WriteComparison(&out, []Compared{{"a.json", a}}) == nil {
		t.Error("one result was compared")
	}
}

func TestLive(t *testing.T) {
	var out bytes.Buffer
	l := NewLive(&out)
	p := Progress{Mode: Echo, Phase: "running", Elapsed: 5 * time.Second, Total: 10 * time.Second, Conns: 64, Messages: 12345, P99: 1500 * time.Microsecond, Errors: 2}
	l.Show(p)
	l.Clear()
	if out.Len() > 0 {
		t.Errorf("not a terminal, but got %q", &out)
	}
	l.columns = func() int { return 200 }
	l.Show(p)
	l.Clear()
	const want = clearLine + "echo   5.0 s [##########..........] 64 conns, 12345 msg/s, p99 1.50 ms, 2 errors" + clearLine
	if out.String() != want {
		t.Errorf("\n got %q\nwant %q", &out, want)
	}
	out.Reset()
	l.columns = func() int { return 10 }
	l.Show(p)
	if out.String() != clearLine+"echo   5." {
		t.Errorf("got %q", &out)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := terminalColumns(f); n != 0 {
		t.Errorf("%s has %d columns", os.DevNull, n)
	}
}
