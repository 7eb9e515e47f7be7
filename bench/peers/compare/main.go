//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitOK     = 0
	exitFault  = 1
	exitUsage  = 2
	exitErrors = 3
	exitWorse  = 4
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program. It returns the exit code. The first SIGINT or SIGTERM ends the measurement and reports the results so far; a
// second one has the default action.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "compare: %v\nRun compare -h for every flag.\n", err)
		return exitUsage
	}
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	go func() {
		<-ctx.Done()
		restore()
	}()
	rep, err := compare(ctx, cfg, stderr)
	if err == nil {
		rep.Command = command(args)
		err = write(rep, cfg, stdout, stderr)
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "compare: %v\n", err)
		return exitFault
	case rep.Interrupted:
		return exitFault
	case rep.faults():
		return exitErrors
	case rep.worse():
		return exitWorse
	}
	return exitOK
}

func compare(ctx context.Context, cfg config, log io.Writer) (*report, error) {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	starter, err := newStarter()
	if err != nil {
		return nil, err
	}
	before := loadAverage() // building is a load too
	fmt.Fprintln(log, "building the servers and netbench")
	if err := buildGo(ctx, dir); err != nil {
		return nil, err
	}
	revision := ""
	if cfg.base != "" {
		if revision, err = buildBase(ctx, dir, cfg.base); err != nil {
			return nil, err
		}
	}
	if cfg.crossCheck || slices.ContainsFunc(cfg.workloads, func(w workload) bool { return slices.ContainsFunc(cfg.on(w), isC) }) {
		if err := buildC(ctx, dir); err != nil {
			return nil, err
		}
	}
	r := &runner{cfg: cfg, dir: dir, starter: starter, log: log}
	rep := &report{Date: time.Now(), LoadBefore: before, Versions: versions(dir), Rounds: cfg.rounds,
		Base: cfg.base, DurationS: cfg.duration.Seconds(), WarmupS: cfg.warmup.Seconds(), ServerCPU: cfg.serverCPU, ClientCPU: cfg.clientCPU}
	if cfg.base != "" {
		rep.Versions[oursBase] = revision
	}
	if cfg.crossCheck {
		var last sample
		rep.CrossChecks, last = r.crossCheck(ctx)
		rep.Machine = last.machine
	} else {
		rep.Outcomes, rep.Machine = r.run(ctx)
	}
	rep.Machine.Cores = runtime.NumCPU() // netbench may have been pinned to fewer
	rep.LoadAfter = loadAverage()
	rep.Interrupted = ctx.Err() != nil
	return rep, nil
}

// loadAverage returns the load average of the last minute, or 0 if it is unknown.
func loadAverage() (load float64) {
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(text), &load)
	}
	return load
}

// write writes the tables to stdout, and both files.
func write(rep *report, cfg config, stdout, stderr io.Writer) error {
	if err := rep.writeMarkdown(stdout); err != nil || cfg.out == "" {
		return err
	}
	for _, f := range []struct {
		ending string
		write  func(io.Writer) error
	}{{".md", rep.writeMarkdown}, {".json", rep.writeJSON}} {
		file, err := os.Create(cfg.out + f.ending)
		if err != nil {
			return err
		}
		if err := errors.Join(f.write(file), file.Close()); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "wrote %s\n", file.Name())
	}
	return nil
}

// command returns the command line that repeats the comparison.
func command(args []string) string {
	line := "go run ./compare"
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t'\"$*?;&|<>()\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		line += " " + a
	}
	return line
}

// config is the validated command line.
type config struct {
	workloads            []workload
	servers              []server // each name once; see on
	rounds               int
	duration, warmup     time.Duration
	serverCPU, clientCPU []int
	out                  string
	base                 string // the revision beside which ours is measured; "" for none
	crossCheck           bool
}

// on returns the servers on which a workload is measured, in the order of a round.
func (c config) on(w workload) (on []server) {
	for _, s := range w.servers() {
		if c.has(s.name) {
			on = append(on, s)
			if s.name == ours && c.base != "" {
				on = append(on, s.atBase())
			}
		}
	}
	return on
}

// has reports whether the server of that name is measured.
func (c config) has(name string) bool {
	return slices.ContainsFunc(c.servers, func(s server) bool { return s.name == name })
}

func isC(s server) bool { return s.program == cepoll }

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	loads := fs.String("workloads", "tcp", "`list` with commas: tcp, latency, tls, ws or all, or some of\n"+names(workloads)+",\n"+names(latencyWorkloads)+",\n"+names(tlsWorkloads)+",\n"+names(wsWorkloads))
	on := fs.String("servers", "all", "`list` with commas: "+names(allServers)+"; a workload is measured on those of them that can serve it")
	fs.IntVar(&c.rounds, "rounds", 5, "`number` of times each server is measured; 11 for a claim under 10 %")
	fs.DurationVar(&c.duration, "duration", 3*time.Second, "`time` of the measured part")
	fs.DurationVar(&c.warmup, "warmup", time.Second, "`time` of load before it, on the same connections")
	fs.Func("server-cpu", "`list` of processors for the servers, such as 1 or 2,3 or 2-5; they get one loop for each", processors(&c.serverCPU))
	fs.Func("client-cpu", "`list` of processors for netbench, one reactor on each", processors(&c.clientCPU))
	fs.StringVar(&c.out, "out", "results", "`path` without ending of the two files, .md and .json; \"\" for none")
	fs.StringVar(&c.base, "base", "", "`revision` of this repository, such as HEAD or main: ours is measured beside what it was then, and the report tells which rows moved; exit code 4 if one got worse")
	fs.BoolVar(&c.crossCheck, "cross-check", false, "hold netbench against an independent client instead, on plain gnet")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, "compare loads our echo server and its peers in turn and tells what each costs.")
			fs.SetOutput(stderr)
			fs.PrintDefaults()
		}
		return c, err
	}
	var err error
	if c.workloads, err = pick("workloads", groups(*loads), allWorkloads); err != nil {
		return c, err
	}
	if c.servers, err = pick("servers", *on, allServers); err != nil {
		return c, err
	}
	for _, w := range c.workloads {
		if len(c.on(w)) == 0 {
			return c, fmt.Errorf("-servers %s: none of them can serve %s; use all, or some of %s", *on, w, names(w.servers()))
		}
	}
	switch {
	case fs.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q: everything is set by flags", fs.Arg(0))
	case c.rounds < 1:
		return c, fmt.Errorf("-rounds %d: use a positive number", c.rounds)
	case c.duration < 100*time.Millisecond:
		return c, fmt.Errorf("-duration %v: use 100ms or more; processor time is counted in steps of 10 ms", c.duration)
	case c.warmup < 0:
		return c, fmt.Errorf("-warmup %v: use 0 or a positive time", c.warmup)
	case c.base != "" && !(c.has(ours) && c.has(oursAgain)):
		return c, fmt.Errorf("-base %s: -servers needs %s and %s, which tell a move from noise", c.base, ours, oursAgain)
	case c.base != "" && c.rounds < leastForMove:
		return c, fmt.Errorf("-base %s: %d rounds cannot tell a move from noise; use %d, or 11 for a claim", c.base, c.rounds, leastForMove)
	}
	if c.out != "" { // a typing error should not cost an hour
		if info, err := os.Stat(filepath.Dir(c.out)); err != nil || !info.IsDir() {
			return c, fmt.Errorf("-out %s: there is no folder %s; make it first", c.out, filepath.Dir(c.out))
		}
	}
	return c, nil
}

func names[T fmt.Stringer](all []T) string {
	var s []string
	for _, t := range all {
		s = append(s, t.String())
	}
	return strings.Join(s, ", ")
}

// groups replaces the names of groups in a list of workloads by those of their members.
func groups(list string) string {
	all := strings.Split(list, ",")
	for i, name := range all {
		switch strings.TrimSpace(name) {
		case "tcp":
			all[i] = names(workloads)
		case "latency":
			all[i] = names(latencyWorkloads)
		case "tls":
			all[i] = names(tlsWorkloads)
		case "ws":
			all[i] = names(wsWorkloads)
		}
	}
	return strings.Join(all, ",")
}

// pick returns the elements that list names, in the order of all.
func pick[T fmt.Stringer](flag, list string, all []T) ([]T, error) {
	if list == "all" {
		return all, nil
	}
	want := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		want[strings.TrimSpace(name)] = true
	}
	var found []T
	for _, t := range all {
		if want[t.String()] {
			found = append(found, t)
			delete(want, t.String())
		}
	}
	for name := range want {
		return nil, fmt.Errorf("-%s: there is no %q; use all, or some of %s", flag, name, names(all))
	}
	return found, nil
}

func processors(p *[]int) func(string) error {
	return func(list string) error {
		bad := errors.New("use numbers and ranges with commas, such as 1 or 2,4-6")
		var found []int
		for part := range strings.SplitSeq(list, ",") {
			from, to, isRange := strings.Cut(part, "-")
			if !isRange {
				to = from
			}
			first, err1 := strconv.Atoi(from)
			last, err2 := strconv.Atoi(to)
			if err1 != nil || err2 != nil || first < 0 || last < first || last > 1023 {
				return bad
			}
			for n := first; n <= last; n++ {
				if !slices.Contains(found, n) {
					found = append(found, n)
				}
			}
		}
		*p = found
		return nil
	}
}
