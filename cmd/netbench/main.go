package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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

// run is the whole program; it returns the exit code. SIGINT and SIGTERM end a run early and in order; a second one
// finds the default action.
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

// untilSignal returns a context that SIGINT or SIGTERM ends; a second one finds the default action. restore must be
// called.
func untilSignal(ctx context.Context) (_ context.Context, restore func()) {
	ctx, restore = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	go func() { // it ends with ctx, which restore ends
		<-ctx.Done()
		restore()
	}()
	return ctx, restore
}

// load carries out a run and writes what came of it.
func load(ctx context.Context, cmd *command, cfg *config, stdout, stderr io.Writer) int {
	ctx, restore := untilSignal(ctx)
	defer restore()

	// Files are opened first: a typing error in a name should not cost a run.
	files, err := openFiles(cfg)
	if err != nil {
		fmt.Fprintf(stderr, "netbench: %v\n", err)
		return exitFault
	}
	defer files.close()

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
	if err := files.write(result, cfg, stdout); err != nil {
		fmt.Fprintf(stderr, "netbench: %v\n", err)
		return exitFault
	}
	if code == exitOK && result.Errors.Total() > 0 {
		return exitErrors
	}
	return code
}
