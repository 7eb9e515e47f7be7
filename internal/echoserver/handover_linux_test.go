package echoserver

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gone reports whether no process has the number, be it one that nobody has waited for.
func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// copyOf puts this program at path.
func copyOf(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, path); err == nil {
		return
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
}

// The folder that the program was started in may go or get another name, and so may the one of its predecessor.
func TestRestartWithoutItsFolder(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"removed":  os.RemoveAll,
		"renamed":  func(dir string) error { return os.Rename(dir, dir+".old") },
		"replaced": func(dir string) error { _ = os.Rename(dir, dir+".old"); return os.WriteFile(dir, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			reap(t)
			self, _ := os.Executable()
			dir := filepath.Join(tempDir(t), "folder")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
			cmd.Dir = dir
			p := launch(t, cmd)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			restartTwice(t, p)
		})
	}
}

// restartTwice wants two restarts in a row, and ends the last process.
func restartTwice(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGUSR2)
	first := p.successor(1)
	p.wantExit(exitOK)
	if err := syscall.Kill(first, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	second := p.successor(2)
	wantExitOf(t, first, exitOK)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	kill(t, second)
	wantExitOf(t, second, exitOK)
}

// A successor starts in the folder of that name, which may be another one by now, as with a link to the version in use.
func TestRestartInTheFolderOfThatName(t *testing.T) {
	reap(t)
	dir := tempDir(t)
	link := filepath.Join(dir, "current")
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("v1", link); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Dir = link
	cmd.Env = []string{"PWD=" + link}
	p := launch(t, cmd)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("v2", link); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	if now, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || filepath.Base(now) != "v2" {
		t.Errorf("it runs in %s, %v", now, err)
	}
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart starts what is at the path of the program now. Without anything that runs there, it fails and says why, until
// there is something again.
func TestRestartOfAReplacedProgram(t *testing.T) {
	reap(t)
	dir := tempDir(t)
	path := filepath.Join(dir, "program")
	copyOf(t, path)
	p := launch(t, exec.Command(path, "-addr", "127.0.0.1:0", "-drain", "1m"))
	failed := 0
	fail := func(why string) {
		t.Helper()
		p.signal(syscall.SIGUSR2)
		failed++
		p.log.wait(t, "not restarted; this process goes on", failed)
		p.log.wait(t, why, 1)
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
		if c := childrenOf(t, p.cmd.Process.Pid); len(c) > 0 {
			t.Errorf("children %v are left", c)
		}
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	fail("no such file or directory")
	if err := os.WriteFile(path, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	fail("exec format error")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fail("permission denied")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	fail("ended before it accepted: exit status 7")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nkill -ABRT $$\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	fail("ended before it accepted: signal: aborted")

	// The new version is another file: it leaves a mark.
	script := fmt.Sprintf("#!/bin/sh\n: >%s/new\nexec %s.old \"$@\"\n", dir, path)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// The name that a program was started by need not be one that it is found by.
func TestRestartUnderAnotherName(t *testing.T) {
	reap(t)
	self, _ := os.Executable()
	for _, name := range []string{"nowhere", "sh", "./sub/gone", ""} {
		cmd := exec.Command(self)
		cmd.Args = []string{name, "-addr", "127.0.0.1:0", "-drain", "1m"}
		p := launch(t, cmd)
		restartTwice(t, p)
	}
}

// held is a process whose successor waits for its settings.
type held struct {
	*process
	next     int // the successor
	settings *os.File
	ear      *ear
}

// holdSuccessor starts the program and a restart, and returns when the successor waits.
func holdSuccessor(t *testing.T, env ...string) *held {
	t.Helper()
	reap(t)
	e := newEar(t)
	self, _ := os.Executable()
	path := writeFile(t, "drain = '1m'\n")
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-config", path)
	cmd.Env = append(env, e.env)
	h := &held{process: launch(t, cmd), ear: e}
	e.want("READY=1\nSTATUS=listening on .*")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGUSR2)
	h.settings = openFifo(t, path)
	h.next = waitChild(t, cmd.Process.Pid)
	e.want("RELOADING=1\n(.|\n)*")
	return h
}

// goOn lets the successor start.
func (h *held) goOn() {
	io.WriteString(h.settings, "drain = '1m'\n")
	h.settings.Close()
}

// wantHeir wants the successor to be the main process, as the manager is told by itself.
func (h *held) wantHeir() {
	h.t.Helper()
	h.ear.want(fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=listening on .*", h.next))
	h.log.wait(h.t, "the predecessor has ended; this process serves in its place", 1)
	if err := call(h.addr()); err != nil {
		h.t.Error(err)
	}
	// It can be replaced in its turn.
	if err := os.Remove(h.settings.Name()); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.settings.Name(), []byte("drain = '1m'\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := syscall.Kill(h.next, syscall.SIGUSR2); err != nil {
		h.t.Fatal(err)
	}
	h.ear.want("RELOADING=1\n(.|\n)*")
	pid := h.successor(1)
	h.ear.want(fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=listening on .*", pid))
	wantExitOf(h.t, h.next, exitOK)
	kill(h.t, pid)
	h.ear.want("STOPPING=1")
	wantExitOf(h.t, pid, exitOK)
}

// The old process dies before the new one listens.
func TestPredecessorDiesEarly(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGKILL)
	h.wantExit(-1)
	waiting, err := net.Dial("tcp", h.addr().String()) // the socket is still there
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	h.goOn()
	if err := echoed(waiting); err != nil {
		t.Error(err)
	}
	waiting.Close()
	h.wantHeir()
}

// The old process dies after the new one listens, and before it has let it go.
func TestPredecessorDiesInTheHandOver(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGSTOP) // it does not hear that the new one accepts
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil { // the new one serves, though it is not the main one
		t.Error(err)
	}
	h.signal(syscall.SIGKILL)
	h.wantExit(-1)
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantHeir()
}

// The old process dies after the hand-over.
func TestPredecessorDiesLate(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.signal(syscall.SIGKILL)
	p.wantExit(-1)
	c.Close()
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
	if strings.Contains(p.log.String(), "in its place") {
		t.Errorf("the successor did not hear that it was released:\n%s", p.log)
	}
}

// The new process dies after the hand-over: the old one says so, and its own sessions go on.
func TestSuccessorDies(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.log.wait(t, fmt.Sprintf("pid=%d how=\"signal: killed\"", pid), 1)
	if !gone(pid) {
		t.Error("it is not waited for")
	}
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	p.wantExit(exitOK)
}

// A stop in the middle of a restart ends both processes, the old one in good order.
func TestStopDuringARestart(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			h := holdSuccessor(t)
			c := h.dial()
			if err := echoed(c); err != nil {
				t.Fatal(err)
			}
			h.signal(sig)
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%d bytes, %v, want the end", n, err)
			}
			c.Close()
			h.wantExit(exitOK)
			if !gone(h.next) {
				t.Error("the new process is left")
			}
			h.ear.want("STOPPING=1")
			h.ear.wantSilence()
		})
	}
}

// wantSilence wants no message to have come.
func (e *ear) wantSilence() {
	e.t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	b := make([]byte, 4096)
	if n, err := e.conn.Read(b); err == nil {
		e.t.Errorf("heard %q, want nothing", b[:n])
	}
}

// A stop that comes when the new process accepts already: its sessions end in good order as well.
func TestStopDuringTheHandOver(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGSTOP)
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGTERM)
	h.signal(syscall.SIGCONT)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	h.wantExit(exitOK)
	if !gone(h.next) {
		t.Error("the new process is left")
	}
	h.ear.want("STOPPING=1")
	h.ear.wantSilence()
}

// A second SIGUSR2 while a restart is under way starts nothing.
func TestRestartDuringARestart(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGUSR2)
	h.log.wait(t, "a restart is under way already", 1)
	h.log.wait(t, "msg=restarting\n", 1)
	if next := waitChild(t, h.cmd.Process.Pid); next != h.next {
		t.Errorf("another process %d is started beside %d", next, h.next)
	}
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	h.goOn()
	if pid := h.successor(1); pid != h.next {
		t.Errorf("the successor is %d, not %d", pid, h.next)
	}
	h.ear.want(fmt.Sprintf("MAINPID=%d\n(.|\n)*", h.next))
	h.signal(syscall.SIGUSR2) // too late, for this one
	h.log.wait(t, fmt.Sprintf("this process was replaced already\" by=%d", h.next), 1)
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantExit(exitOK)
	kill(t, h.next)
	wantExitOf(t, h.next, exitOK)
}

// A new process that does not come up in time is ended, and the next attempt may succeed.
func TestSuccessorIsTooSlow(t *testing.T) {
	h := holdSuccessor(t, shortTimes+"=500ms")
	h.ear.want("READY=1\nSTATUS=not restarted: the new process does not accept after 500ms")
	if !gone(h.next) {
		t.Error("it is left")
	}
	if err := call(h.addr()); err != nil {
		t.Error(err)
	}
	h.settings.Close()
	if err := os.Remove(h.settings.Name()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.settings.Name(), []byte("drain = '1m'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGUSR2)
	h.ear.want("RELOADING=1\n(.|\n)*")
	h.ear.want("MAINPID=.*\n(.|\n)*")
	pid := h.successor(1)
	h.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A process that was stopped while the successor began to accept does not hold that against it.
func TestStoppedDuringTheHandOver(t *testing.T) {
	h := holdSuccessor(t, shortTimes+"=3s")
	h.signal(syscall.SIGSTOP)
	late := time.After(3 * time.Second) // more than it has for its start
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	<-late
	h.signal(syscall.SIGCONT)
	if pid := h.successor(1); pid != h.next {
		t.Errorf("the successor is %d, not %d", pid, h.next)
	}
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantExit(exitOK)
	kill(t, h.next)
	wantExitOf(t, h.next, exitOK)
}

// deaf starts a server whose successor is a program that never says anything.
func deaf(t *testing.T, env ...string) (p *process, next int) {
	t.Helper()
	reap(t)
	path := filepath.Join(tempDir(t), "program")
	copyOf(t, path)
	cmd := exec.Command(path, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Env = env
	p = launch(t, cmd)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	next = waitChild(t, cmd.Process.Pid)
	return p, next
}

func TestSuccessorIsAnotherProgram(t *testing.T) {
	p, next := deaf(t, shortTimes+"=500ms")
	p.log.wait(t, "not restarted; this process goes on\" err=\"the new process does not accept after 500ms\"", 1)
	if !gone(next) {
		t.Error("it is left")
	}
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// The second signal to stop does not wait for a new process that does not listen.
func TestAbortDuringARestart(t *testing.T) {
	p, next := deaf(t)
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "draining; ", 1)
	began := time.Now()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitFault)
	if took := time.Since(began); took > endTimeout/2 {
		t.Errorf("it took %v", took)
	}
	if !gone(next) {
		t.Error("the new process is left")
	}
}

// The old process is stopped and aborted as any other, and the new one is not concerned.
func TestSignalsAfterTheHandOver(t *testing.T) {
	for _, abort := range []bool{false, true} {
		reap(t)
		p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
		c := p.dial()
		if err := echoed(c); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGUSR2)
		pid := p.successor(1)
		p.signal(syscall.SIGTERM)
		want := exitOK
		if abort {
			p.log.wait(t, "draining; ", 1)
			p.signal(syscall.SIGTERM) // c is open: it lingers
			want = exitFault
		} else if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v, want the end", n, err)
		} else {
			c.Close()
		}
		p.wantExit(want)
		c.Close()
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
		kill(t, pid)
		wantExitOf(t, pid, exitOK)
	}
}

// environOf returns what a process was started with.
func environOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	env := make(map[string]string)
	for v := range strings.SplitSeq(string(text), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// What the service manager said to one process is not said to the next: the number of the process that is watched, and the
// sockets. The watchdog itself goes on, if it was about this process.
func TestWatchdogOfTheSuccessor(t *testing.T) {
	for who, watched := range map[string]bool{"$$": true, "1": false} {
		t.Run(who, func(t *testing.T) {
			reap(t)
			e := newEar(t)
			self, _ := os.Executable()
			cmd := exec.Command("/bin/sh", "-c", "WATCHDOG_PID="+who+` exec "$0" -addr 127.0.0.1:0 -drain 1m`, self)
			cmd.Env = []string{e.env, "WATCHDOG_USEC=40000", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=x", "LISTEN_PIDFDID=1"}
			p := launch(t, cmd)
			e.want("READY=1\nSTATUS=listening on .*")
			sign := func() {
				t.Helper()
				if watched {
					if got := e.next(); got != "WATCHDOG=1" {
						t.Errorf("heard %q, want a sign of life", got)
					}
				} else {
					e.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
					if n, err := e.conn.Read(make([]byte, 100)); err == nil {
						t.Errorf("%d bytes were sent by a process that is not watched", n)
					}
				}
			}
			sign()
			p.signal(syscall.SIGUSR2)
			pid := p.successor(1)
			p.wantExit(exitOK)
			e.want("RELOADING=1\n(.|\n)*")
			e.want("MAINPID=.*\n(.|\n)*")
			sign()
			env := environOf(t, pid)
			for _, name := range []string{"WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
				if value, there := env[name]; there {
					t.Errorf("the successor has %s=%s", name, value)
				}
			}
			if _, there := env["WATCHDOG_USEC"]; there != watched {
				t.Errorf("the successor has WATCHDOG_USEC: %v", there)
			}
			if "NOTIFY_SOCKET="+env["NOTIFY_SOCKET"] != e.env {
				t.Errorf("the successor has NOTIFY_SOCKET=%s", env["NOTIFY_SOCKET"])
			}
			kill(t, pid)
			e.want("STOPPING=1")
			wantExitOf(t, pid, exitOK)
		})
	}
}

// A service manager that does not read holds up nothing.
func TestManagerThatDoesNotRead(t *testing.T) {
	reap(t)
	e := newEar(t)
	_, path, _ := strings.Cut(e.env, "=")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for err == nil {
		err = unix.Sendto(fd, []byte("full"), 0, &unix.SockaddrUnix{Name: path})
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Env = []string{e.env, "WATCHDOG_USEC=40000000"}
	p := launch(t, cmd)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// Restarts leave nothing behind: each process has the descriptors of the one before.
func TestRestartsLeakNoDescriptor(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	count := func(pid int) (n int) {
		waitFor(t, func() bool { // what the start needed is closed before long
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			same := len(fds) == n && err == nil
			n = len(fds)
			time.Sleep(20 * time.Millisecond)
			return same
		})
		return n
	}
	if err := call(p.addr()); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	call(p.addr())
	first := count(pid)
	for n := 2; n <= 4; n++ {
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		next := p.successor(n)
		wantExitOf(t, pid, exitOK)
		pid = next
	}
	call(p.addr())
	if now := count(pid); now != first {
		t.Errorf("%d descriptors after one restart, %d after four", first, now)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}
