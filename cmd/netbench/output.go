package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/servercore-go/servercore/bench"
)

// outputs are the files of a run, nil where none was asked for.
type outputs struct{ json, hgrm *os.File }

func openFiles(cfg *config) (outputs, error) {
	var o outputs
	var err error
	create := func(name string) *os.File {
		if name == "" || name == "-" || err != nil {
			return nil
		}
		var f *os.File
		f, err = os.Create(name)
		return f
	}
	o.json, o.hgrm = create(cfg.json), create(cfg.hgrm)
	if err != nil {
		o.close()
	}
	return o, err
}

// close is for the ways out that have written nothing; write has closed what it wrote.
func (o outputs) close() {
	o.json.Close()
	o.hgrm.Close()
}

// write writes the table to stdout, unless JSON goes there or -quiet was given, and the files.
func (o outputs) write(r *bench.Result, cfg *config, stdout io.Writer) error {
	var errs []error
	if cfg.json == "-" {
		errs = append(errs, r.WriteJSON(stdout))
	} else if cfg.table && !cfg.quiet {
		errs = append(errs, r.WriteTable(stdout))
	}
	if o.json != nil {
		errs = append(errs, r.WriteJSON(o.json), o.json.Close())
	}
	if o.hgrm != nil {
		errs = append(errs, r.WriteHGRM(o.hgrm), o.hgrm.Close())
	}
	return errors.Join(errs...)
}

const compareHelp = `netbench compare shows results side by side, each figure with its ratio to that of the first file.

  netbench echo -addr 127.0.0.1:7777 -json a.json
  netbench echo -addr 127.0.0.1:8888 -json b.json
  netbench compare a.json b.json

It says so when the results are from different machines or were run with different parameters.

Exit codes: 0 compared; 1 a file could not be read; 2 fewer than two files.
`

func compare(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, compareHelp)
		return exitOK
	}
	if err == nil && fs.NArg() < 2 {
		err = fmt.Errorf("%d file(s) given: name two or more that -json has written", fs.NArg())
	}
	if err != nil {
		fmt.Fprintf(stderr, "netbench compare: %v\nRun netbench compare -h for an example.\n", err)
		return exitUsage
	}
	var list []bench.Compared
	for _, name := range fs.Args() {
		r, err := readFile(name)
		if err != nil {
			fmt.Fprintf(stderr, "netbench compare: %s: %v\n", name, err)
			return exitFault
		}
		list = append(list, bench.Compared{Name: name, Result: r})
	}
	if err := bench.WriteComparison(stdout, list); err != nil {
		fmt.Fprintf(stderr, "netbench compare: %v\n", err)
		return exitFault
	}
	return exitOK
}

func readFile(name string) (*bench.Result, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bench.ReadResult(f)
}
