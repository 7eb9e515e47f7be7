package echoserver

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// environOf returns the environment with which a process was started.
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

// A successor does not inherit what the service manager has addressed to its predecessor: the ID of the watched process, and the
// sockets. It inherits the watchdog's interval if that was for its predecessor.
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

// full returns a service manager that has as many messages as it can hold, and how many.
func full(t *testing.T) (e *ear, n int) {
	t.Helper()
	e = newEar(t)
	_, path, _ := strings.Cut(e.env, "=")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for ; err == nil; n++ {
		err = unix.Sendto(fd, []byte("full"), 0, &unix.SockaddrUnix{Name: path})
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	return e, n - 1
}

// A service manager that does not read blocks nothing.
func TestManagerThatDoesNotRead(t *testing.T) {
	reap(t)
	e, _ := full(t)
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

// So it is with more messages than are kept for it: those that come then are dropped, and the log says which. The others come when it reads.
func TestManagerThatDoesNotReadMany(t *testing.T) {
	e, before := full(t)
	name, value, _ := strings.Cut(e.env, "=")
	t.Setenv(name, value)
	log := newTranscript()
	m := newManager([]string{}, slog.New(slog.NewTextHandler(log, nil)))
	for n := range cap(m.messages) + 3 { // one of them is being sent
		m.tell(fmt.Sprintf("STATUS=%d", n))
	}
	if got := log.String(); !strings.Contains(got, "the service manager does not read; a message to it is dropped") ||
		strings.Contains(got, "state=STATUS=0") {
		t.Errorf("none was dropped, or the first:\n%s", got)
	}
	for range before {
		e.want("full")
	}
	e.want("STATUS=0")
	e.want("STATUS=1")
	e.conn.Close() // it has ended: no message waits for it
	m.close()
}

// Restarts leak no descriptor: each process has as many as the one before.
func TestRestartsLeakNoDescriptor(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m", "-observe", "127.0.0.1:0")
	count := func(pid int) (n int) {
		same := 0
		waitFor(t, func() bool { // what the start needed is closed before long
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if len(fds) != n || err != nil {
				same = 0
			}
			same++
			n = len(fds)
			time.Sleep(20 * time.Millisecond)
			return same > 10
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
	for tries := 0; ; tries++ { // a connection that ends is one of them for a while
		now := count(pid)
		if now == first {
			break
		}
		if tries == 3 {
			t.Errorf("%d descriptors after one restart, %d after four", first, now)
			break
		}
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}
