//go:build linux

package trials

import (
	"flag"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var scale = flag.Float64("scale", 0.1, "1 is what the trials are specified for")

func TestMain(m *testing.M) {
	flag.Parse()
	switch what := os.Getenv(role); {
	case strings.HasPrefix(what, "server "):
		os.Exit(serverMain(strings.TrimPrefix(what, "server ")))
	case what == "reference":
		os.Exit(referenceMain())
	case what == "bystanders":
		os.Exit(bystandersMain())
	case what == "reader":
		os.Exit(readerMain())
	}
	code := m.Run()
	if testing.Verbose() || code != 0 {
		printTable(os.Stdout)
	}
	os.Exit(code)
}

// scaled returns n at the scale of this run, and at least least.
func scaled(n, least int) int { return max(int(float64(n)**scale), least) }

// lasting returns d at the scale of this run, and at least least.
func lasting(d, least time.Duration) time.Duration {
	return max(time.Duration(float64(d)**scale), least)
}

// full reports whether this is a run at full scale.
func full() bool { return *scale >= 1 }

// racing reports whether this program was built with the race detector.
func racing() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// within is the bound that a time is judged by. Only at full scale is the machine expected to be there for the trial alone;
// below, it may be running other tests beside it, and the race detector, so that ten times as long is no failure.
func within(d time.Duration) time.Duration {
	if full() {
		return d
	}
	return 10 * d
}
