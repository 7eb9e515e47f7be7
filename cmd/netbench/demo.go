package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/servercore-go/servercore/bench"
)

const demoHelp = `netbench demo starts the reference echo server on a free port of this machine, loads it in seven ways for one and a
half seconds each, two of them over TLS and WebSocket, prints the results, and writes one page with charts. netbench without a command does the same.

  netbench
  netbench demo -html tour.html -json tour.json

The server runs in its own process, which ends with the demo. On Linux its CPU time and memory are reported. Client and
server share the cores of this machine, so the figures are lower than those of two machines.

` + exitText + `
Flags of demo:
`

// A tour is a run of netbench demo: several runs against the reference server.
type tour struct {
	html, json string
	measured   time.Duration // of each stop
	warmup     time.Duration
}

func demoFlags(t *tour) *flag.FlagSet {
	*t = tour{html: "netbench-demo.html", measured: 1200 * time.Millisecond, warmup: 300 * time.Millisecond}
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&t.html, "html", t.html, "`file` for the page.")
	fs.StringVar(&t.json, "json", "", "`file` for the results as JSON: an array with one result for each way, as\nbench/schema.json describes it; - for standard output in place of the tables.")
	return fs
}

// demoTime, if set, is how long a test lets each stop of the tour take.
var demoTime time.Duration

// demo parses the command line, makes the tour and returns the exit code.
func demo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var t tour
	fs := demoFlags(&t)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, demoHelp)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return exitOK
	}
	switch {
	case err != nil:
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: everything is set by flags", fs.Arg(0))
	case t.html == "":
		err = errors.New("-html is empty: name a file for the page, or leave it out")
	}
	if err != nil {
		fmt.Fprintf(stderr, "netbench demo: %v\nRun netbench demo -h for an example.\n", err)
		return exitUsage
	}
	if demoTime != 0 {
		t.measured, t.warmup = demoTime, demoTime/4
	}
	ctx, restore := untilSignal(ctx)
	defer restore()
	code, err := t.make(ctx, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "netbench demo: %v\n", err)
		return exitFault
	}
	return code
}

// A stop of the tour is one run against a server with the given flags.
type stop struct {
	name, server string
	plan         func(before []bench.Compared) bench.Plan
}

// stops are the runs of the tour. churn resets its connections, so that no port stays in TIME_WAIT and the tour can be made again at once.
var stops = []stop{
	{"echo", "-mode echo", func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Echo} }},
	{"pipelined", "-mode echo", func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Echo, Depth: 16} }},
	{"rate", "-mode echo", func(before []bench.Compared) bench.Plan {
		return bench.Plan{Mode: bench.Rate, Rate: half(before[0].Result.Totals.MessagesPerS)}
	}},
	{"churn", "-mode echo", func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Churn, Linger0: true} }},
	{"fanout", "-mode broadcast", func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Fanout} }},
	{"tls", "-mode echo " + selfSigned, func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Echo, TLS: true} }},
	{"websocket", "-mode echo -ws /ws", func([]bench.Compared) bench.Plan { return bench.Plan{Mode: bench.Echo, WS: "/ws"} }},
}

// half returns a round number near half of the rate, at which a server is neither idle nor at its limit.
func half(rate float64) float64 {
	unit := math.Pow(10, max(0, math.Floor(math.Log10(max(rate, 1)))-1))
	return max(100, math.Round(rate/2/unit)*unit)
}

// make makes the tour and writes the results. It checks the files first, so that a typing error in a name does not cost a tour. A tour
// that fails leaves existing files unchanged.
func (t *tour) make(ctx context.Context, stdout, stderr io.Writer) (code int, err error) {
	files, err := newOutputs(t.json, "", t.html)
	if err != nil {
		return exitFault, err
	}
	tables := stdout
	if t.json == "-" {
		tables = io.Discard
	}
	results, failed := t.run(ctx, tables, stderr)
	if len(results) == 0 {
		if failed == nil {
			fmt.Fprintln(stderr, "netbench demo: interrupted before anything was measured")
		}
		return exitOK, failed
	}
	if failed != nil {
		return exitFault, fmt.Errorf("%w; not written: %s", failed, strings.Join(files.names(), ", "))
	}
	if err := t.write(results, files, tables, stdout); err != nil {
		return exitFault, err
	}
	for _, r := range results {
		if r.Result.Errors.Total() > 0 {
			code = exitErrors
		}
	}
	return code, nil
}

// run makes the stops until ctx ends. If the tour fails, it returns the results so far with the error.
func (t *tour) run(ctx context.Context, tables, stderr io.Writer) (results []bench.Compared, err error) {
	var s *child
	defer func() {
		if s != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	live := bench.NewLive(stderr)
	defer live.Clear()
	server := ""
	for i, stop := range stops {
		if ctx.Err() != nil {
			return results, nil
		}
		if stop.server != server {
			if s != nil {
				err := s.stop()
				if s = nil; err != nil {
					return results, err
				}
			}
			if s, err = startChild(ctx, strings.Fields(stop.server)...); err != nil {
				if ctx.Err() != nil {
					err = nil // interrupted during the start
				}
				return results, err
			}
			server = stop.server
		}
		plan := stop.plan(results)
		plan.Addr, plan.Duration, plan.Warmup = s.addr, t.measured, t.warmup
		plan.TLSPin = s.pin
		if runtime.GOOS == "linux" { // the only system where another process's figures can be read
			plan.PID = s.pid()
		}
		r, err := bench.Run(ctx, plan, bench.Options{Progress: live.Show})
		live.Clear()
		if r != nil && (r.Totals.MeasuredS > 0 || !r.Interrupted) {
			results = append(results, bench.Compared{Name: stop.name, Result: r})
			fmt.Fprintf(tables, "== %d of %d: %s\n", i+1, len(stops), stop.name)
			r.WriteTable(tables)
			fmt.Fprintln(tables)
		}
		if err != nil {
			return results, fmt.Errorf("%s: %w", stop.name, err)
		}
	}
	return results, nil
}

const demoTitle = "A tour of the reference echo server"

// write writes the summary, the page and the JSON.
func (t *tour) write(results []bench.Compared, files outputs, tables, stdout io.Writer) error {
	errs := []error{bench.WriteSummary(tables, results)}
	errs = append(errs, bench.WriteTour(&files.html.text, demoTitle, results))
	list := make([]*bench.Result, len(results))
	for i, r := range results {
		list[i] = r.Result
	}
	encode := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		e.SetEscapeHTML(false)
		return e.Encode(list)
	}
	switch t.json {
	case "":
	case "-":
		errs = append(errs, encode(stdout))
	default:
		errs = append(errs, encode(&files.json.text))
	}
	where := t.html
	if absolute, err := filepath.Abs(where); err == nil {
		where = absolute
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := commit(files.json, files.html); err != nil {
		return err
	}
	_, err := fmt.Fprintf(tables, "\nThe page with charts is %s\n", where)
	return err
}
