//go:build linux

package trials

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// The table has a line for each criterion of each trial.
type verdict string

const (
	pass   verdict = "pass"
	fail   verdict = "FAIL"
	notRun verdict = "not run"
)

type line struct {
	trial, criterion, figure string
	verdict                  verdict
}

var table struct {
	mu    sync.Mutex
	lines []line
}

func note(l line) {
	table.mu.Lock()
	defer table.mu.Unlock()
	table.lines = append(table.lines, l)
}

// printTable prints the lines in the order of the trials. The criteria of the oracle share one line.
func printTable(w io.Writer) {
	table.mu.Lock()
	defer table.mu.Unlock()
	if len(table.lines) == 0 {
		return
	}
	slices.SortStableFunc(table.lines, func(a, b line) int { return strings.Compare(a.trial, b.trial) })
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tab, "\ntrial\tcriterion\tfigure\t\n")
	for _, l := range table.lines {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", l.trial, l.criterion, strings.ReplaceAll(l.figure, "\n", " "), l.verdict)
	}
	_ = tab.Flush()
}
