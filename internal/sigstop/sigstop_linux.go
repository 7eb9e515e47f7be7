// Package sigstop stops processes in tests.
package sigstop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a process may take to stop. Only a machine that gives it no time at all makes it take that long.
const patience = 20 * time.Second

// Stop stops a process (SIGSTOP), and returns when all its threads have stopped. kill(2) returns before: the system gives the signal to one thread, and
// until that one has run, the others go on. On a busy machine they have accepted a connection meanwhile.
//
// The error says that there is no such process, that it has ended meanwhile, or that it goes on.
func Stop(pid int) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return os.NewSyscallError("kill", err)
	}
	for began, stopped := time.Now(), 0; ; time.Sleep(time.Millisecond) {
		// Twice: between the list of threads and the look at the last one, that one may have made another.
		switch all, err := allStopped(pid); {
		case err != nil:
			return err
		case !all:
			stopped = 0
		case stopped > 0:
			return nil
		default:
			stopped++
		}
		if time.Since(began) > patience {
			return fmt.Errorf("sigstop: process %d goes on %v after SIGSTOP", pid, patience)
		}
	}
}

// stateOf finds the letter for the state of a thread.
var stateOf = regexp.MustCompile(`(?m)^State:\s+(\S)`)

// allStopped reports whether no thread of a process runs.
func allStopped(pid int) (bool, error) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	stopped := 0
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		switch state := stateOf.FindSubmatch(text); state[1][0] {
		case 'T', 't': // t: strace holds it
			stopped++
		case 'X', 'Z':
		default:
			return false, nil
		}
	}
	if stopped == 0 {
		return false, fmt.Errorf("sigstop: process %d has ended", pid)
	}
	return true, nil
}
