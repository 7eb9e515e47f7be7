//go:build linux

package trials

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The trials need the machine for themselves, and some change its settings for a moment: they and the tests of other packages would
// disturb each other. So they run only with an explicit scale.
var scale = flag.Float64("scale", 0, "run the trials: 1 is what they are specified for, 0.1 takes four minutes")

// The main thread stays where it is: /proc/self/net is that of its namespace, and unlike others it does not end with a goroutine that has moved
// it to another one (newNamespace).
func init() {
	if os.Getenv(role) == "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	switch what := os.Getenv(role); {
	case strings.HasPrefix(what, "server "):
		os.Exit(serverMain(strings.TrimPrefix(what, "server ")))
	case what == "reference":
		os.Exit(referenceMain())
	case what == "streams":
		os.Exit(streamsMain())
	case what == "plain":
		os.Exit(plainMain())
	case what == "bystanders":
		os.Exit(bystandersMain())
	case what == "reader":
		os.Exit(readerMain())
	case what == "holder":
		os.Exit(holderMain())
	}
	if *scale <= 0 {
		fmt.Println("the trials were not run; they want the machine for themselves: go test ./trials -scale 0.1")
		os.Exit(0)
	}
	standBack()
	code := m.Run()
	if testing.Verbose() || code != 0 {
		printTable(os.Stdout)
	}
	os.Exit(code)
}

// The clients of a trial stand for other machines. With the scheduler's smallest share they take only the CPU time that the server, the
// bystanders and the reference server leave. Only root can start a process with a larger share than its own.
const (
	clientsNice = 19
	serversNice = 0
)

// standBack lowers the priority of all threads of this process.
func standBack() {
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if prio, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || prio == 20-clientsNice {
		return // the system call has 20 for nice 0
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, clientsNice)
	if err == nil {
		var self string
		if self, err = os.Executable(); err == nil {
			err = unix.Exec(self, os.Args, os.Environ()) // the niceness is a thread's, and what a thread executes inherits it
		}
	}
	fmt.Fprintln(os.Stderr, "the trials' clients cannot be nice:", err)
}

// unhampered runs f, which starts a process, with the priority of the servers.
func unhampered(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil && unix.Setpriority(unix.PRIO_PROCESS, 0, serversNice) == nil {
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, 20-before) }()
	}
	f()
}

// scaled returns n times the scale of this run, but not less than least.
func scaled(n, least int) int { return max(int(float64(n)**scale), least) }

// lasting returns d times the scale of this run, but not less than least.
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

// within returns the bound for a measured time. Only at full scale is the machine expected to run the trial alone. Below, it may run
// other tests too, and the race detector, so the bound is ten times as long.
func within(d time.Duration) time.Duration {
	if full() {
		return d
	}
	return 10 * d
}
