package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/servercore-go/servercore/bench"
)

// Exit codes.
const (
	exitOK     = 0
	exitFault  = 1 // could not run
	exitUsage  = 2
	exitErrors = 3 // ran, and met errors
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program. It returns the exit code. SIGINT and SIGTERM end a run early and in order; a second one has the default
// action of the system.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	name, rest := "", []string(nil)
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	switch name {
	case "-h", "--help", "-help", "help":
		fmt.Fprint(stdout, overview())
		return exitOK
	case "", "demo":
		return demo(ctx, rest, stdout, stderr)
	case childCommand:
		return serveChild(ctx, rest, os.Stdin, stdout, stderr)
	case "compare":
		return compare(rest, stdout, stderr)
	}
	cmd, ok := find(name)
	if !ok {
		fmt.Fprintf(stderr, "netbench: unknown command %q\nRun netbench -h for the list.\n", name)
		return exitUsage
	}
	cfg, err := parse(cmd, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, cmd.helpText())
		return exitOK
	case err != nil:
		return usage(stderr, cmd, err)
	}
	return load(ctx, cmd, cfg, stdout, stderr)
}

func usage(stderr io.Writer, cmd *command, err error) int {
	var plan *bench.PlanError
	if errors.As(err, &plan) {
		err = fmt.Errorf("-%w", err)
	}
	fmt.Fprintf(stderr, "netbench %s: %v\nRun netbench %s -h for examples and every flag.\n", cmd.name, err, cmd.name)
	return exitUsage
}

// untilSignal returns a context that ends with SIGINT or SIGTERM. A second signal has the default action. restore must be called.
func untilSignal(ctx context.Context) (_ context.Context, restore func()) {
	ctx, restore = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	go func() { // it ends with ctx, which restore ends
		<-ctx.Done()
		restore()
	}()
	return ctx, restore
}

// load carries out a run and writes its result.
func load(ctx context.Context, cmd *command, cfg *config, stdout, stderr io.Writer) int {
	ctx, restore := untilSignal(ctx)
	defer restore()

	// Check the files first, so that a typing error in a name does not cost a run.
	files, err := newOutputs(cfg.json, cfg.hgrm, cfg.html)
	if err != nil {
		fmt.Fprintf(stderr, "netbench: %v\n", err)
		return exitFault
	}

	live := bench.NewLive(stderr)
	opt := bench.Options{}
	if !cfg.quiet {
		opt.Progress = live.Show
	}
	result, err := bench.Run(ctx, cfg.plan, opt)
	live.Clear()

	var plan *bench.PlanError
	if errors.As(err, &plan) {
		return usage(stderr, cmd, err)
	}
	code := exitOK
	if err != nil {
		fmt.Fprintf(stderr, "netbench: %v\n", err)
		code = exitFault
	}
	if result == nil {
		return code
	}
	if err != nil && result.Totals.MeasuredS == 0 {
		cfg.table = false // the error says it all
	}
	werr := show(result, cfg, stdout)
	if err == nil && result.Totals.MeasuredS > 0 {
		werr = errors.Join(werr, files.write(result))
	} else if names := files.names(); len(names) > 0 {
		fmt.Fprintf(stderr, "netbench: there is no result to keep; not written: %s\n", strings.Join(names, ", "))
	}
	if werr != nil {
		fmt.Fprintf(stderr, "netbench: %v\n", werr)
		return exitFault
	}
	if code == exitOK && result.Errors.Total() > 0 {
		return exitErrors
	}
	return code
}

// show writes the result to stdout: as JSON with -json -, otherwise as a table, unless -quiet was given.
func show(r *bench.Result, cfg *config, stdout io.Writer) error {
	switch {
	case cfg.json == "-":
		return r.WriteJSON(stdout)
	case cfg.table && !cfg.quiet:
		return r.WriteTable(stdout)
	}
	return nil
}

// outputs are the output files of a run.
type outputs struct{ json, hgrm, html *file }

func newOutputs(json, hgrm, html string) (o outputs, err error) {
	if json == "-" { // standard output
		json = ""
	}
	if o.json, err = newFile(json); err != nil {
		return o, err
	}
	if o.hgrm, err = newFile(hgrm); err != nil {
		return o, err
	}
	o.html, err = newFile(html)
	return o, err
}

// names returns the names of the files that were asked for.
func (o outputs) names() (list []string) {
	for _, f := range []*file{o.json, o.hgrm, o.html} {
		if f.name != "" {
			list = append(list, f.name)
		}
	}
	return list
}

func (o outputs) write(r *bench.Result) error {
	var errs []error
	for _, part := range []struct {
		to    *file
		write func(io.Writer) error
	}{{o.json, r.WriteJSON}, {o.hgrm, r.WriteHGRM}, {o.html, r.WriteHTML}} {
		if part.to.name != "" {
			errs = append(errs, part.write(&part.to.text))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return commit(o.json, o.hgrm, o.html)
}
