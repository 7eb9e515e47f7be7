//go:build linux

package trials

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// The trials want the machine for themselves, and some of them change it for a moment: beside the tests of other packages they
// are in each other's way. So they run only where somebody says at which scale.
var scale = flag.Float64("scale", 0, "run the trials: 1 is what they are specified for, 0.1 takes four minutes")

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
	if *scale <= 0 {
		fmt.Println("the trials were not run; they want the machine for themselves: go test ./trials -scale 0.1")
		os.Exit(0)
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
