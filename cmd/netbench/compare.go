package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/servercore-go/servercore/bench"
)

const compareHelp = `netbench compare shows results side by side. Each figure has its ratio to that of the first file.

  netbench echo -addr 127.0.0.1:7777 -json a.json
  netbench echo -addr 127.0.0.1:8888 -json b.json
  netbench compare a.json b.json
  netbench compare a.json b.json -html compare.html

It warns if the results are from different machines or were run with different parameters.

Exit codes: 0 compared; 1 a file could not be read; 2 bad flags, or fewer than two files.

Flags of compare:
`

// compareFlags binds the flags of compare.
func compareFlags(html *string) *flag.FlagSet {
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(html, "html", "", "`file` for the comparison as one self-contained HTML page, with all curves in the same charts.")
	return fs
}

// parseMixed parses flags that may stand before, between and after the other arguments, which it returns.
func parseMixed(fs *flag.FlagSet, args []string) (others []string, err error) {
	for {
		if err := fs.Parse(args); err != nil || fs.NArg() == 0 {
			return others, err
		}
		if read := len(args) - fs.NArg(); read > 0 && args[read-1] == "--" {
			return append(others, fs.Args()...), nil
		}
		others, args = append(others, fs.Arg(0)), fs.Args()[1:]
	}
}

func compare(args []string, stdout, stderr io.Writer) int {
	var html string
	names, err := parseMixed(compareFlags(&html), args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, compareHelp)
		fs := compareFlags(&html)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return exitOK
	}
	if err == nil && len(names) < 2 {
		err = fmt.Errorf("%d file(s) given: name two or more that -json has written", len(names))
	}
	if err != nil {
		fmt.Fprintf(stderr, "netbench compare: %v\nRun netbench compare -h for an example.\n", err)
		return exitUsage
	}
	var list []bench.Compared
	for _, name := range names {
		r, err := readFile(name)
		if err != nil {
			fmt.Fprintf(stderr, "netbench compare: %s: %v\n", name, err)
			return exitFault
		}
		list = append(list, bench.Compared{Name: name, Result: r})
	}
	page, err := newFile(html)
	if err == nil {
		err = bench.WriteComparison(stdout, list)
	}
	if err == nil && page.name != "" {
		err = bench.WriteComparisonHTML(&page.text, list)
	}
	if err == nil {
		err = page.commit()
	}
	if err != nil {
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
