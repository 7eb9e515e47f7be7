//go:build linux

package trials

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// afterwards runs a shell command when the test is over or this process has ended, for whatever reason. A shell outside of the test's
// process group waits for that. It is for changes that outlive a process, such as settings of the system.
func afterwards(t *testing.T, command string) {
	t.Helper()
	guard := exec.Command("sh", "-c", "cat >/dev/null; "+command)
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := guard.StdinPipe()
	must(t, err)
	must(t, guard.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := guard.Wait(); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	})
}

// setting sets a value under /proc/sys for the time of the test. The function that it returns restores the old value earlier.
func setting(t *testing.T, trial, path, value string) (restore func()) {
	t.Helper()
	path = "/proc/sys/" + path
	before, err := os.ReadFile(path)
	must(t, err)
	old := strings.TrimSpace(string(before))
	afterwards(t, "echo '"+old+"' > "+path)
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		skip(t, trial, err.Error())
	}
	return func() {
		t.Helper()
		must(t, os.WriteFile(path, []byte(old), 0))
	}
}

// tcpMemory returns the kernel's memory for the TCP connections of all processes, in bytes.
func tcpMemory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/net/sockstat")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "TCP: ")
	_, rest, _ = strings.Cut(rest, " mem ")
	pages, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	return pages * os.Getpagesize()
}
