// Command mutants proves that the tests can fail. It makes one known mistake at a time in the code, with go's -overlay, so that no file
// is changed, and runs the tests that must notice it. A mistake that no test notices is an error, unless explained.go explains it.
//
//	make mutants
//
// or, from the root of the repository: go -C tools run ./mutants. Flags: -h.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	rootFlag = flag.String("root", "..", "the root of the repository")
	only     = flag.String("run", "", "a regular expression for \"file: name\" of the mistakes to make; empty: all")
	sample   = flag.Int("sample", 0, "how many of them to make, chosen by -seed; 0: all")
	seed     = flag.Uint64("seed", 0, "chooses the sample; 0: by the commit that is checked out, or the date")
	jobs     = flag.Int("jobs", 2, "how many mistakes are made at a time")
	limit    = flag.Duration("limit", time.Minute, "how long the tests of one mistake may take")
	seeds    = flag.Int("seeds", 10_000, "how many seeds the simulator of package session may take for each mistake")
	list     = flag.Bool("list", false, "print what has noticed each mistake, too")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "mutants makes known mistakes, one at a time, and wants the tests to notice each.\n\n"+
			"Exit codes: 0 all were noticed or are explained; 1 one was not, or the code no longer has what is to be changed; 2 bad flags.\n\nFlags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil || *jobs < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "mutants: bad flags:", err, *jobs, flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, pattern); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pattern *regexp.Regexp) error {
	root, err := filepath.Abs(*rootFlag)
	if err != nil {
		return err
	}
	chosen := choose(root, pattern)
	work, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if *sample == 0 { // .ci/run has just run all tests when it takes its sample
		if err := baseline(ctx, root, chosen); err != nil {
			return err
		}
	}
	results, err := tryAll(ctx, root, work, chosen)
	if err != nil {
		return err
	}
	return report(chosen, results)
}

// choose returns the mistakes to make.
func choose(root string, pattern *regexp.Regexp) []mutant {
	all := slices.DeleteFunc(mutants(), func(m mutant) bool { return !pattern.MatchString(m.file + ": " + m.name) })
	if *sample == 0 {
		return all
	}
	if *seed == 0 {
		*seed = seedOfToday(root)
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return explained[m.name] != "" })
	chosen := draw(all, *sample, *seed)
	fmt.Printf("%d of %d mistakes, by -seed %d\n", len(chosen), len(all), *seed)
	return chosen
}

// draw returns n of the list at random, the same ones for the same seed.
func draw(all []mutant, n int, seed uint64) []mutant {
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// seedOfToday returns a seed that differs from commit to commit.
func seedOfToday(root string) uint64 {
	out, err := exec.Command("git", "-C", root, "rev-parse", "--short=12", "HEAD").Output()
	if err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(out)), 16, 64); err == nil {
			return n
		}
	}
	n, _ := strconv.ParseUint(time.Now().Format("20060102"), 10, 64)
	return n
}

// baseline runs the tests on the unchanged code: none may fail.
func baseline(ctx context.Context, root string, chosen []mutant) error {
	var packages []string
	tests := make(map[string][]string)
	for _, m := range chosen {
		pkg, run := m.testPackage()
		top, _, _ := strings.Cut(run, "/")
		if tests[pkg] == nil {
			packages = append(packages, pkg)
		}
		if !slices.Contains(tests[pkg], top) {
			tests[pkg] = append(tests[pkg], top)
		}
	}
	for _, pkg := range packages {
		fmt.Fprintf(os.Stderr, "without a mistake: %s\n", pkg)
		run := strings.Join(tests[pkg], "|")
		out, err := goTest(ctx, root, pkg, run, 10*(*limit))
		if err != nil && ctx.Err() == nil { // the machine may be busy
			out, err = goTest(ctx, root, pkg, run, 10*(*limit))
		}
		if err != nil {
			return fmt.Errorf("the tests of %s fail on the code as it is: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// tryAll makes the mistakes, several at a time, and prints a line for each. A mistake that is not noticed is tried once more, because
// some have an effect only if two things happen at the same time.
func tryAll(ctx context.Context, root, work string, chosen []mutant) ([]verdict, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([]verdict, len(chosen))
	next := make(chan int)
	var mu sync.Mutex
	var workers sync.WaitGroup
	done := 0
	for range *jobs {
		dir, err := os.MkdirTemp(work, "job")
		if err != nil {
			return nil, err
		}
		workers.Go(func() {
			for i := range next {
				m := &chosen[i]
				v, err := m.try(ctx, root, dir)
				if err == nil && !v.noticed && explained[m.name] == "" {
					v, err = m.try(ctx, root, dir)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %s: %w", m.file, m.name, err))
					continue
				}
				results[i] = v
				mu.Lock()
				done++
				fmt.Fprintf(os.Stderr, "[%3d/%d] %4.1f s  %s  %s: %s\n", done, len(chosen), v.took.Seconds(), v.word(m), m.file, m.name)
				mu.Unlock()
			}
		})
	}
	for i := range chosen {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return results, context.Cause(ctx)
}

// word returns the verdict as a word.
func (v verdict) word(m *mutant) string {
	switch {
	case v.noticed:
		return "noticed  "
	case explained[m.name] != "":
		return "explained"
	}
	return "SURVIVES "
}
