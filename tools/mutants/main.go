// Command mutants proves that the simulator of package session can fail. It makes one mistake at a time in the code, by way
// of go's -overlay, so that no file is changed, and runs the simulator on it. A mistake that is not found is an error.
//
//	make mutants
//
// or, from the root of the repository: go -C tools run ./mutants. Flags: -h.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

var (
	root  = flag.String("root", "..", "the root of the repository")
	seeds = flag.Int("seeds", 10_000, "how many seeds the simulator may take for each mistake")
	only  = flag.String("run", "", "a regular expression for the names of the mistakes to make; empty: all")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "mutants makes known mistakes in package session, one at a time, and wants the simulator to find each.\n\nExit codes: 0 all were found; 1 one was not, or the code no longer has what is to be changed; 2 bad flags.\n\nFlags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants: -run:", err)
		os.Exit(2)
	}
	if err := run(pattern); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(pattern *regexp.Regexp) error {
	dir, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)

	// Without a mistake nothing may be found.
	if found, err := simulate(dir, work, nil); err != nil || found.seed != -1 {
		return fmt.Errorf("the simulator fails on the code as it is: seed %d: %s %v", found.seed, found.message, err)
	}
	fmt.Printf("%s, %s. Each mistake is given %d seeds of 200 steps.\n\n", time.Now().Format(time.DateOnly), runtime.Version(), *seeds)
	fmt.Println("| mistake | found after seeds | by |")
	fmt.Println("|---|---|---|")
	var missed []string
	for _, m := range mutants {
		if !pattern.MatchString(m.name) {
			continue
		}
		select {
		case <-stop:
			return fmt.Errorf("interrupted")
		default:
		}
		found, err := simulate(dir, work, &m)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", m.name, err)
		case found.seed == unknown:
			fmt.Printf("| %s | ? | %s |\n", m.name, found.message)
		case found.seed < 0:
			missed = append(missed, m.name)
			fmt.Printf("| %s | **not found** | |\n", m.name)
		default:
			fmt.Printf("| %s | %d | %s |\n", m.name, found.seed+1, found.message)
		}
	}
	if missed != nil {
		return fmt.Errorf("not found: %s", strings.Join(missed, "; "))
	}
	return nil
}

// finding is where the simulator has failed.
type finding struct {
	seed    int // -1 if it has not
	message string
}

// unknown is the seed of a run that had to be stopped.
const unknown = -2

var (
	failure = regexp.MustCompile(`seed (\d+): (.*)`)
	number  = regexp.MustCompile(`\d+`)
)

// simulate runs the simulator with a mistake in the code, or without.
func simulate(dir, work string, m *mutant) (finding, error) {
	args := []string{"test", "-count=1", "-timeout=5m"}
	if m != nil {
		overlay, err := m.overlay(dir, work)
		if err != nil {
			return finding{}, err
		}
		args = append(args, "-overlay="+overlay)
	}
	args = append(args, "-run=^TestSimulator$", "./session", fmt.Sprintf("-seeds=%d", *seeds))
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return finding{seed: -1}, nil
	}
	if f := failure.FindSubmatch(out); f != nil {
		var seed int
		_, _ = fmt.Sscan(string(f[1]), &seed)
		message := strings.ReplaceAll(string(f[2]), "|", `\|`)
		if len(message) > 100 {
			message = message[:100] + "..."
		}
		return finding{seed, message}, nil
	}
	if strings.Contains(string(out), "panic: test timed out") {
		return finding{unknown, "the simulator never ends"}, nil
	}
	if strings.Contains(string(out), "seeds: {") { // the sums at its end: something never happened any more
		message := strings.TrimSpace(regexp.MustCompile(`simulator_test.go:\d+: ([a-z -]+: only .*)`).FindString(string(out)))
		return finding{*seeds - 1, number.ReplaceAllString(message, "n")}, nil
	}
	_, _ = os.Stderr.Write(out)
	return finding{}, fmt.Errorf("go test: %w", err)
}

// overlay writes the changed file, and what tells go to take it, and returns the path of that.
func (m *mutant) overlay(dir, work string) (string, error) {
	path := filepath.Join(dir, "session", m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.was); n != 1 {
		return "", fmt.Errorf("session/%s has the following %d times, want once; adapt tools/mutants/list.go:\n%s", m.file, n, m.was)
	}
	changed := filepath.Join(work, m.file)
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.was, m.becomes, 1)), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}
