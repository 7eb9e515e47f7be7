//go:build linux

package trials

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// row is a line of the table: a criterion of a trial.
type row struct{ trial, criterion, measured, verdict string }

var table struct {
	mu   sync.Mutex
	rows []row
}

func addRow(r row) {
	table.mu.Lock()
	defer table.mu.Unlock()
	table.rows = append(table.rows, r)
}

// printTable prints what was judged, trial by trial.
func printTable(w io.Writer) {
	table.mu.Lock()
	defer table.mu.Unlock()
	slices.SortStableFunc(table.rows, func(a, b row) int { return cmp.Compare(a.trial, b.trial) })
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(tab, "\ntrial\tcriterion\tmeasured\t\n")
	for _, r := range table.rows {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", r.trial, r.criterion, strings.ReplaceAll(r.measured, "\n", " "), r.verdict)
	}
	_ = tab.Flush()
}

// spread are durations of repetitions.
type spread []time.Duration

func (s spread) worst() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}

func (s spread) at(share float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

func (s spread) String() string {
	return fmt.Sprintf("worst %v, median %v of %d", round(s.worst()), round(s.at(0.5)), len(s))
}

func round(d time.Duration) time.Duration {
	switch {
	case d > 100*time.Millisecond:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d
}
