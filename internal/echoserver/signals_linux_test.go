package echoserver

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// harmless are the signals that change nothing after the start. The default action of most is to end the process.
var harmless = []syscall.Signal{
	syscall.SIGUSR1, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGTTOU, syscall.SIGURG, syscall.SIGXCPU,
	syscall.SIGXFSZ, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR, syscall.Signal(40), syscall.Signal(64),
}

// withoutText returns a command that runs the program on a unix socket, and the address, for tests that cannot read what the program
// prints.
func withoutText(t *testing.T, args ...string) (*exec.Cmd, net.Addr) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), "s")
	cmd := exec.Command(self, append(args, "-addr", "unix:"+path)...)
	cmd.Env = append(os.Environ(), asServer+"=1", hasty)
	return cmd, &net.UnixAddr{Net: "unix", Name: path}
}

// tempDir returns a temporary folder whose path is short enough for the address of a unix socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "echo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// begin starts a command and returns the channel of its exit code.
func begin(t *testing.T, cmd *exec.Cmd) <-chan int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exit, ended := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
		exit <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	return exit
}

func wantCode(t *testing.T, exit <-chan int, want int) {
	t.Helper()
	select {
	case got := <-exit:
		if got != want {
			t.Errorf("exit code %d, want %d", got, want)
		}
	case <-time.After(patience):
		t.Error("the program does not end")
	}
}

// waitServed waits until a server at the address echoes.
func waitServed(t *testing.T, a net.Addr) {
	t.Helper()
	waitFor(t, func() bool { return call(a) == nil })
}

func TestHarmlessSignals(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	c := p.dial()
	try := func(pid int) {
		t.Helper()
		for _, sig := range harmless {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Errorf("%v: %v", sig, err)
			}
			if err := call(p.addr()); err != nil {
				t.Errorf("after %v: %v", sig, err)
			}
		}
		if err := echoed(c); err != nil {
			t.Error(err)
		}
	}
	try(p.cmd.Process.Pid)
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	try(p.cmd.Process.Pid) // it drains
	try(pid)
	p.signal(syscall.SIGTERM)
	for _, sig := range append(harmless, syscall.SIGUSR2, syscall.SIGHUP) {
		p.cmd.Process.Signal(sig)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A terminal that is closed sends SIGHUP, and its shell sends another one. The second does not abort.
func TestHangupStops(t *testing.T) {
	p := spawn(t, "-addr", "127.0.0.1:0")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.log.wait(t, "draining; a second signal aborts\" signal=hangup", 1)
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM) // as a service manager sends both
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	p.wantExit(exitOK)
	if strings.Contains(p.log.String(), "aborting") {
		t.Errorf("the second SIGHUP aborts:\n%s", p.log)
	}
}

// Under nohup, SIGHUP stops neither the program nor its successors.
func TestHangupUnderNohup(t *testing.T) {
	reap(t)
	self, _ := os.Executable()
	p := launch(t, exec.Command("/bin/sh", "-c", `trap "" HUP; exec "$0" -addr 127.0.0.1:0 -drain 1m`, self))
	hangUp := func(pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
	}
	hangUp(p.cmd.Process.Pid)
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	hangUp(pid)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
	if strings.Contains(p.log.String(), "signal=hangup") {
		t.Errorf("SIGHUP stops it:\n%s", p.log)
	}
}

// SIGQUIT has Go's meaning: it prints all stacks and ends the program.
func TestQuitPrintsStacks(t *testing.T) {
	p := spawn(t, "-addr", "127.0.0.1:0")
	p.signal(syscall.SIGQUIT)
	p.log.wait(t, "SIGQUIT: quit", 1)
	p.wantExit(2)
}

// Ctrl-Z stops the process, and SIGCONT continues it.
func TestStoppedAndContinued(t *testing.T) {
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the system stops nobody whose shell is gone
	p := launch(t, cmd)
	for _, sig := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGSTOP} {
		p.signal(sig)
		waitFor(t, func() bool { return stateOf(t, cmd.Process.Pid) == "T" })
		p.signal(syscall.SIGCONT)
		if err := call(p.addr()); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// stateOf returns the letter for the state of a process, "" if the process does not exist.
func stateOf(t *testing.T, pid int) string {
	t.Helper()
	return statusOf(pid, "State")
}

// statusOf returns the first word of a line of /proc/PID/status, "" if the line does not exist.
func statusOf(pid int, key string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := regexp.MustCompile(`(?m)^` + key + `:\s+(\S+)`).FindSubmatch(text)
	if found == nil {
		return ""
	}
	return string(found[1])
}

// heldStart starts the program with a settings file that is a fifo, and returns the fifo when the program reads it.
func heldStart(t *testing.T) (cmd *exec.Cmd, a net.Addr, exit <-chan int, settings *os.File) {
	t.Helper()
	path := filepath.Join(tempDir(t), "settings")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, a = withoutText(t, "-config", path)
	exit = begin(t, cmd)
	return cmd, a, exit, openFifo(t, path)
}

// openFifo opens a fifo for writing when a process reads it.
func openFifo(t *testing.T, path string) (f *os.File) {
	t.Helper()
	waitFor(t, func() bool {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil && err != unix.ENXIO {
			t.Fatal(err)
		}
		f = os.NewFile(uintptr(fd), path)
		return err == nil
	})
	t.Cleanup(func() { f.Close() })
	return f
}

// A signal to stop ends a start that hangs.
func TestStopWhileItStarts(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd, _, exit, _ := heldStart(t)
		cmd.Process.Signal(sig)
		wantCode(t, exit, exitOK)
	}
}

// A SIGUSR2 that comes during the start restarts the server when it serves.
func TestRestartWhileItStarts(t *testing.T) {
	reap(t)
	cmd, a, exit, settings := heldStart(t)
	for _, sig := range append(harmless, syscall.SIGUSR2) {
		cmd.Process.Signal(sig)
	}
	io.WriteString(settings, "drain = '0s'\n")
	settings.Close()
	next := waitChild(t, cmd.Process.Pid)
	successorSettings := openFifo(t, settings.Name()) // they hold it too
	if err := call(a); err != nil {
		t.Error(err)
	}
	successorSettings.Close()
	wantCode(t, exit, exitOK)
	waitServed(t, a)
	kill(t, next)
	wantExitOf(t, next, exitOK)
}

// waitChild waits until a process has a child, and returns the child's process ID. A child must stay for some looks: package os makes one that
// ends at once, to find out whether the system knows pidfds.
func waitChild(t *testing.T, pid int) (child int) {
	t.Helper()
	var before []int
	looks := 0
	waitFor(t, func() bool {
		children := childrenOf(t, pid)
		if looks++; !slices.Equal(children, before) {
			before, looks = children, 0
		}
		return len(children) > 0 && looks == 5
	})
	if len(before) != 1 {
		t.Fatalf("%d has the children %v, want one", pid, before)
	}
	return before[0]
}

func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		if n, err := strconv.Atoi(entry.Name()); err == nil && statusOf(n, "PPid") == strconv.Itoa(pid) {
			children = append(children, n)
		}
	}
	return children
}
