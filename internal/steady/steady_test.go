package steady

import (
	"strings"
	"testing"
	"time"
)

// What fails while the process runs is told at once; what fails while it does not is tried again, and told if it goes on.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name         string
		gap          time.Duration // of the process
		fails, tries int
		told         bool
	}{
		{"passes", 0, 0, 1, false},
		{"fails", 0, 1, 1, true},
		{"fails once, starved", 2 * long, 1, 2, false},
		{"fails always, starved", 2 * long, 99, attempts, true},
	} {
		tries := 0
		lines, told := run(func(t testing.TB) {
			if tries++; tries <= tt.fails {
				defer func() { t.Log("Cleanup and Goexit") }()
				t.Errorf("one")
				t.Fatal("two")
			}
		}, func() time.Duration { return tt.gap }, t.Logf, t)
		if tries != tt.tries || told != tt.told || told && (len(lines) != 2 || !strings.HasSuffix(lines[0], ": one") || !strings.HasPrefix(lines[1], "steady_test.go:")) {
			t.Errorf("%s: %d tries, want %d, told %v, want %v: %q", tt.name, tries, tt.tries, told, tt.told, lines)
		}
	}
	order := ""
	lines, told := run(func(t testing.TB) {
		t.Cleanup(func() { order += "first"; t.Error("found at the end") })
		t.Cleanup(func() { order += "last "; t.FailNow() })
	}, func() time.Duration { return 0 }, t.Logf, t)
	if !told || len(lines) != 2 || order != "last first" {
		t.Errorf("Cleanup: told %v, %q, in the order %q", told, lines, order)
	}
	passed := false
	Run(t, func(t testing.TB) { passed = !t.Failed() && t.Name() == "TestRun" })
	if !passed {
		t.Error("it was not run")
	}
}

// A process that is kept from running is noticed.
func TestWatch(t *testing.T) {
	late := watch()
	before := time.Now()
	for time.Since(before) < 20*time.Millisecond {
		time.Sleep(time.Millisecond)
	}
	if took, gap := time.Since(before), late(); gap > took {
		t.Errorf("%v of %v", gap, took)
	}
}
