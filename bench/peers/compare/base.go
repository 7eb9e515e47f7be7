//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// baseDir has the programs of ours at the revision of -base, in the folder of the programs.
const baseDir = "base"

// atBase returns the server as it was at the revision of -base.
func (s server) atBase() server {
	s.name, s.program = oursBase, filepath.Join(baseDir, s.program)
	if s.special != "" {
		s.special = filepath.Join(baseDir, s.special)
	}
	return s
}

// buildBase builds ours as it was at a revision into dir/base, from an export of its files, and returns the revision's number. The working tree
// is not touched.
func buildBase(ctx context.Context, dir, revision string) (number string, err error) {
	here, err := nestedDir(ctx)
	if err != nil {
		return "", err
	}
	number, err = output(ctx, here, "git", "rev-parse", "--short=12", "--verify", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("-base %s: use a commit, branch or tag of this repository: %w", revision, err)
	}
	top, err := output(ctx, here, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", err
	}
	tree, archive := filepath.Join(dir, "base-files"), filepath.Join(dir, "base.tar")
	if err := os.Mkdir(tree, 0o700); err != nil {
		return "", err
	}
	if _, err := output(ctx, top, "git", "archive", "--output", archive, number); err != nil {
		return "", err
	}
	if _, err := output(ctx, tree, "tar", "-xf", archive); err != nil {
		return "", err
	}
	for _, from := range []string{"cmd/echoserver", "bench/peers/ours"} {
		if _, err := output(ctx, filepath.Join(tree, from), "go", "build", "-o", filepath.Join(dir, baseDir)+"/", "."); err != nil {
			return "", fmt.Errorf("-base %s has no %s that can be built: %w", revision, from, err)
		}
	}
	return number, nil
}

// leastForMove is the number of rounds from which on a move is told: that all of five agree by chance happens to one row in sixteen, that eleven
// do to one in a thousand.
const leastForMove = 5

// A move is how a figure of ours differs from what it was at the revision of -base.
type move struct {
	figure figure
	text   string // the ratio, now to then
	clear  bool   // it is more than noise
	worse  bool
}

// moves returns the moves of a workload, none if either was not measured.
func (o *outcome) moves() (all []move) {
	now, then := o.find(ours), o.find(oursBase)
	if now == nil || then == nil {
		return nil
	}
	for _, f := range o.figures() {
		r, text := o.ratio(now, then, f)
		all = append(all, move{figure: f, text: text, clear: clear(r, o.noise(f)), worse: (r.Median > 1) != f.larger})
	}
	return all
}

// verdict tells the moves of a workload that are more than noise.
func verdict(all []move) string {
	var said []string
	for _, m := range all {
		if m.clear {
			said = append(said, m.figure.name+map[bool]string{true: " **worse**", false: " better"}[m.worse])
		}
	}
	if len(said) == 0 {
		return "as before"
	}
	return strings.Join(said, ", ")
}

// worse reports whether a figure of any workload got worse by more than noise.
func (r *report) worse() bool {
	for i := range r.Outcomes {
		for _, m := range r.Outcomes[i].moves() {
			if m.clear && m.worse {
				return true
			}
		}
	}
	return false
}

// writeMoves writes one row for each workload: ours to what it was at the revision of -base.
func (r *report) writeMoves(b *strings.Builder) {
	if r.Base == "" {
		return
	}
	fmt.Fprintf(b, "## Since %s\n\n", r.Base)
	b.WriteString("Ours to what it was then. A row has moved if all rounds agree on the direction, and if its median is farther from 1 than that of ours to itself.\n\n")
	rows := [][]string{{"workload", "CPU or memory", "rate", "p99.9", "verdict"}}
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		moves := o.moves()
		row := []string{o.Workload, "-", "-", "-", "not measured"}
		for k, m := range moves {
			row[1+k] = m.text
		}
		if len(moves) > 0 {
			row[4] = verdict(moves)
		}
		rows = append(rows, row)
	}
	table(b, rows)
}
