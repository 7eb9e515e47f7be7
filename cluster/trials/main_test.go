//go:build linux

package trials

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The trials want the machine for themselves, and root. So they run only with an explicit scale.
var scale = flag.Float64("scale", 0, "run the trials: 1 is what they are specified for, 0.1 takes a minute")

// Environment variables that tell this program what it is.
const (
	nodeVariable = "CLUSTER_TRIALS_NODE" // a node; the value is its settings
	hubVariable  = "CLUSTER_TRIALS_HUB"  // the tests, in a network namespace of their own; what is wrong with it, if anything
)

func TestMain(m *testing.M) {
	flag.Parse()
	if settings := os.Getenv(nodeVariable); settings != "" {
		os.Exit(nodeMain(settings))
	}
	if *scale <= 0 {
		fmt.Println("the trials of the cluster were not run; they want the machine for themselves: go test ./cluster/trials -scale 0.1")
		os.Exit(0)
	}
	if _, inside := os.LookupEnv(hubVariable); !inside {
		enterHub()
	}
	if !full() { // most of them wait for most of their time
		_ = flag.Set("test.parallel", strconv.Itoa(len(kinds)*4))
	}
	code := m.Run()
	if testing.Verbose() || code != 0 {
		printTable(os.Stdout)
	}
	os.Exit(code)
}

// enterHub starts this program again in a network namespace of its own, in the same process. Bridges and addresses of the trials disturb
// nothing else then, and are gone with it.
func enterHub() {
	runtime.LockOSThread()
	problem := ""
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		problem = fmt.Sprintf("no network namespace: %v (root is wanted)", err)
	}
	self, err := os.Executable()
	if err == nil {
		err = unix.Exec(self, os.Args, append(os.Environ(), hubVariable+"="+problem))
	}
	fmt.Fprintln(os.Stderr, "the program cannot be started again:", err)
	os.Exit(1)
}

// scaled returns n times the scale of this run, but not less than least.
func scaled(n, least int) int { return max(int(float64(n)**scale), least) }

// lasting returns d times the scale of this run, but not less than least.
func lasting(d, least time.Duration) time.Duration {
	return max(time.Duration(float64(d)**scale), least)
}

// full reports whether this is a run at full scale. Then the trials run one after another; below, those that mostly wait run at once.
func full() bool { return *scale >= 1 }

// beside has a trial run beside others that say so.
func beside(t *testing.T) {
	if !full() {
		t.Parallel()
	}
}
