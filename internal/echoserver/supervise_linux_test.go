package echoserver

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// container starts the program as the first process of its own namespace, as a container does.
func container(t *testing.T, path string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(path, append([]string{"-addr", "127.0.0.1:0", "-drain", "1m"}, args...)...)
	cmd.SysProcAttr = inNamespace(syscall.CLONE_NEWPID)
	return launch(t, cmd)
}

// inNamespace makes the command run in new namespaces, with a user namespace if the test has no privileges.
func inNamespace(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// outside returns the process ID outside of the container for one inside.
func (p *process) outside(pid int) (found int) {
	p.t.Helper()
	waitFor(p.t, func() bool {
		all, err := os.ReadDir("/proc")
		if err != nil {
			p.t.Fatal(err)
		}
		for _, entry := range all {
			n, err := strconv.Atoi(entry.Name())
			if err != nil || statusOf(n, "NStgid") == "" {
				continue
			}
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", n))
			if strings.Contains(string(text), fmt.Sprintf("NStgid:\t%d\t%d\n", n, pid)) && sameNamespace(n, p.cmd.Process.Pid) {
				found = n
			}
		}
		return found != 0
	})
	return found
}

func sameNamespace(a, b int) bool {
	x, errX := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", a))
	y, errY := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b))
	return errX == nil && errY == nil && x == y
}

func (p *process) wantRunning() {
	p.t.Helper()
	select {
	case code := <-p.exit:
		p.t.Fatalf("it has ended with code %d, log:\n%s", code, p.log)
	default:
	}
}

// The first process of a container stays after each restart, passes signals on, and ends last.
func TestFirstProcessStays(t *testing.T) {
	self, _ := os.Executable()
	p := container(t, self)
	var old []stream
	for n := 1; n <= 3; n++ {
		c := p.dial()
		if err := echoed(c); err != nil {
			t.Fatal(err)
		}
		old = append(old, c)
		p.signal(syscall.SIGUSR2) // the first process passes it on to the one that serves
		p.successor(n)
	}
	for i, c := range old {
		if err := echoed(c); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
	old[0].Close() // the last session of the first process
	old[1].Close() // and of one in the middle, which ends
	p.log.wait(t, "msg=stopped", 2)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.wantRunning()
	for _, sig := range harmless {
		p.signal(sig)
	}
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	last := p.dial()
	if err := echoed(last); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	for _, c := range []stream{old[2], last} { // one that drains and one that serves
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v, want the end", n, err)
		}
		c.Close()
	}
	p.log.wait(t, "msg=stopped", 4)
	p.wantExit(exitOK)
}

// In a container a process that was replaced passes SIGUSR2 on: the first process may not have heard yet which one serves now.
func TestReplacedProcessPassesRestartsOn(t *testing.T) {
	self, _ := os.Executable()
	p := container(t, self)
	p.signal(syscall.SIGUSR2)
	middle := p.outside(p.successor(1))
	c := p.dial() // keeps it
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	p.successor(2)
	if err := syscall.Kill(middle, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.successor(3)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// The first process ends with the exit code of the main process, whether that is its child or not.
func TestFirstProcessEndsWithTheLast(t *testing.T) {
	self, _ := os.Executable()
	for name, tt := range map[string]struct {
		restarts int
		keep     bool // a session of the process in the middle, so that it is the parent of the last
		sig      syscall.Signal
		code     int
	}{
		"killed":                      {1, false, syscall.SIGKILL, 137},
		"stopped":                     {1, false, syscall.SIGTERM, exitOK},
		"fault":                       {1, false, syscall.SIGQUIT, 2},
		"killed, an orphan":           {2, false, syscall.SIGKILL, 137},
		"killed, a child of another":  {2, true, syscall.SIGKILL, 137},
		"stopped, a child of another": {2, true, syscall.SIGTERM, exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			p := container(t, self)
			var c stream
			for n := 1; n <= tt.restarts; n++ {
				p.signal(syscall.SIGUSR2)
				p.successor(n)
				if tt.keep && c == nil {
					c = p.dial()
					if err := echoed(c); err != nil {
						t.Fatal(err)
					}
				}
			}
			pid := p.outside(p.successor(tt.restarts))
			if !tt.keep {
				p.log.wait(t, "msg=stopped", tt.restarts) // those before have ended
			}
			if err := syscall.Kill(pid, tt.sig); err != nil {
				t.Fatal(err)
			}
			if c != nil { // who drains is told to stop, for nobody serves
				if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("%d bytes, %v, want the end", n, err)
				}
				c.Close()
			}
			p.wantExit(tt.code)
		})
	}
}

// If a process dies while it is replaced, the first process goes on with the successor.
func TestFirstProcessHearsOfAnHeir(t *testing.T) {
	self, _ := os.Executable()
	settings := writeFile(t, "log-level = 'info'\n")
	p := container(t, self, "-config", settings)
	p.signal(syscall.SIGUSR2)
	middle := p.outside(p.successor(1))
	p.log.wait(t, "msg=stopped", 1)
	if err := os.Remove(settings); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(settings, 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	f := openFifo(t, settings)
	if err := syscall.Kill(middle, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p.log.wait(t, "the predecessor has ended; this process serves in its place", 1)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.wantRunning()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// A process that takes over after the first process has got a signal to stop is stopped as well.
func TestFirstProcessStopsALateHeir(t *testing.T) {
	self, _ := os.Executable()
	settings := writeFile(t, "log-level = 'info'\n")
	p := container(t, self, "-config", settings)
	c := p.dial() // a session of the first process
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	middle := p.outside(p.successor(1))
	if err := os.Remove(settings); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(settings, 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	f := openFifo(t, settings)
	if err := syscall.Kill(middle, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF { // the first process has passed the signal on
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	f.Close() // the heir goes on with its start
	p.log.wait(t, "the predecessor has ended; this process serves in its place", 1)
	p.wantExit(exitOK)
}

// A second signal to stop aborts all processes.
func TestFirstProcessAborts(t *testing.T) {
	self, _ := os.Executable()
	p := container(t, self)
	before := p.dial()
	if err := echoed(before); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	p.successor(1)
	after := p.dial()
	if err := echoed(after); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "draining; ", 2) // both linger, for neither client closes
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "aborting", 2)
	p.wantExit(exitFault)
}

// The first process reaps orphans.
func TestFirstProcessReaps(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "program")
	self, _ := os.Executable()
	script := fmt.Sprintf("#!/bin/sh\nif [ $$ != 1 ]; then (true & true & true &); fi\nexec %s \"$@\"\n", self)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy")
	copyOf(t, copied)
	p := container(t, copied)
	if err := os.Rename(path, copied); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	next := p.outside(p.successor(1))
	waitFor(t, func() bool {
		all := childrenOf(t, p.cmd.Process.Pid)
		return len(all) == 1 && all[0] == next
	})
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// The service manager outside of the container knows only the first process, and gets no other process ID.
func TestFirstProcessNamesNoOther(t *testing.T) {
	e := newEar(t)
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Env = []string{e.env, "WATCHDOG_USEC=40000"}
	cmd.SysProcAttr = inNamespace(syscall.CLONE_NEWPID)
	p := launch(t, cmd)
	e.want("READY=1\nSTATUS=listening on .*")
	p.signal(syscall.SIGUSR2)
	e.want("RELOADING=1\n(.|\n)*")
	e.want("READY=1\nSTATUS=listening on .*")
	if got := e.next(); got != "WATCHDOG=1" { // the first process is silent by now
		t.Errorf("heard %q, want a sign of life of the successor", got)
	}
	p.signal(syscall.SIGTERM)
	e.want("STOPPING=1")
	p.wantExit(exitOK)
}
