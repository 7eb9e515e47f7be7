package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// verdict is the result of the tests for a mistake.
type verdict struct {
	noticed bool
	by      string // the test's message
	took    time.Duration
}

// try makes one mistake and runs its tests.
func (m *mutant) try(ctx context.Context, root, work string) (verdict, error) {
	overlay, err := m.overlay(root, work)
	if err != nil {
		return verdict{}, err
	}
	pkg, run := m.testPackage()
	began := time.Now()
	out, err := goTest(ctx, root, pkg, run, *limit, "-overlay="+overlay)
	v, err := judge(out, err)
	v.took = time.Since(began)
	return v, err
}

// goTest runs tests of one package, without go vet, until the first one fails.
func goTest(ctx context.Context, root, pkg, run string, limit time.Duration, flags ...string) (string, error) {
	args := append([]string{"test", "-vet=off", "-count=1", "-failfast", fmt.Sprintf("-timeout=%v", limit)}, flags...)
	args = append(args, "-run="+run, pkg)
	if pkg+" "+strings.Trim(run, "^()$") == simulator {
		args = append(args, fmt.Sprintf("-seeds=%d", *seeds))
	}
	if pkg == "./trials" {
		args = append(args, "-scale=0.1") // without it no trial runs
	}
	if usesRapid(root, pkg) {
		args = append(args, "-rapid.nofailfile") // it would keep what has failed in the repository
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	// The tests are children of go test and must end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // a server that a test has left behind may hold the pipe
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return string(out), err
}

// usesRapid reports whether tests of a package import pgregory.net/rapid.
func usesRapid(root, pkg string) bool {
	files, _ := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	return slices.ContainsFunc(files, func(file string) bool {
		source, err := os.ReadFile(file)
		return err == nil && rapidImport.Match(source)
	})
}

var rapidImport = regexp.MustCompile(`(?m)^\s+"pgregory\.net/rapid"$`)

var (
	seedFailed  = regexp.MustCompile(`seed (\d+): (.*)`)
	testFailed  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	testMessage = regexp.MustCompile(`(?m)^\s+(\w+_test\.go):\d+: (.*)`)
	panicked    = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.*)`)
	rare        = regexp.MustCompile(`\d+: ([a-z -]+: only) .*`)
)

// judge derives the verdict from the output and the exit of go test.
func judge(out string, err error) (verdict, error) {
	switch exit := new(exec.ExitError); {
	case errors.Is(err, context.Canceled):
		return verdict{}, err
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return verdict{}, fmt.Errorf("the mistake does not compile; adapt tools/mutants:\n%s", out)
	case strings.Contains(out, "no tests to run"):
		return verdict{}, errors.New("there is no such test; adapt tools/mutants")
	case err == nil:
		return verdict{}, nil
	case !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay):
		return verdict{}, err
	}
	return verdict{noticed: true, by: reason(out)}, nil
}

// reason returns in a few words why a test has failed.
func reason(out string) string {
	if strings.Contains(out, "panic: test timed out") {
		return "it never ends"
	}
	if f := seedFailed.FindStringSubmatch(out); f != nil {
		return "TestSimulator, seed " + f[1] + ": " + short(f[2])
	}
	name := ""
	if all := testFailed.FindAllStringSubmatch(out, -1); all != nil {
		name, _, _ = strings.Cut(all[len(all)-1][1], "/")
		name += ": "
	}
	if f := panicked.FindStringSubmatch(out); f != nil {
		return name + "panic: " + short(f[1])
	}
	if f := rare.FindStringSubmatch(out); f != nil {
		return name + f[1] + " a few times"
	}
	if f := testMessage.FindStringSubmatch(out); f != nil {
		return name + short(f[2])
	}
	return strings.TrimSuffix(name, ": ")
}

// short cuts a message for a table.
func short(s string) string {
	const most = 90
	s = strings.NewReplacer("|", `\|`, "\t", " ", "<", "&lt;").Replace(strings.TrimSpace(s))
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
