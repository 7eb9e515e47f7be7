package echoserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Without a reader of its streams, the program loses its text and nothing else, also in a restart.
func TestReadersThatAreGone(t *testing.T) {
	for _, streams := range []string{"stdout", "stderr", "stdout and stderr"} {
		t.Run(streams, func(t *testing.T) {
			reap(t)
			cmd, a := withoutText(t, "-stats", "10ms", "-log-level", "debug", "-drain", "0s")
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			if strings.Contains(streams, "stdout") {
				cmd.Stdout = w
			}
			if strings.Contains(streams, "stderr") {
				cmd.Stderr = w
			}
			serveAndRestart(t, cmd, a, w)
		})
	}
}

// A reader that does not read blocks neither the start, nor sessions, nor a restart, nor the stop.
func TestReadersThatDoNotRead(t *testing.T) {
	for _, streams := range []string{"stdout", "stderr", "stdout and stderr"} {
		t.Run(streams, func(t *testing.T) {
			reap(t)
			cmd, a := withoutText(t, "-stats", "10ms", "-log-level", "debug", "-drain", "0s")
			r, w := fullPipe(t)
			defer r.Close()
			if strings.Contains(streams, "stdout") {
				cmd.Stdout = w
			}
			if strings.Contains(streams, "stderr") {
				cmd.Stderr = w
			}
			serveAndRestart(t, cmd, a, w)
		})
	}
}

// fullPipe returns a pipe whose buffer is full.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 4096)
	for {
		if _, err := unix.Write(p[1], chunk); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	unix.SetNonblock(p[1], false)
	return os.NewFile(uintptr(p[0]), "reader"), os.NewFile(uintptr(p[1]), "writer")
}

// serveAndRestart checks that a process serves, is replaced and stops, although nobody reads its text.
func serveAndRestart(t *testing.T, cmd *exec.Cmd, a net.Addr, w *os.File) {
	t.Helper()
	exit := begin(t, cmd)
	w.Close()
	waitServed(t, a)
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	serve := func() {
		t.Helper()
		for range 200 {
			if err := call(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	serve()
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	cmd.Process.Signal(syscall.SIGUSR2)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF { // -drain is 0
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	next := waitChild(t, cmd.Process.Pid)
	c.Close()
	wantCode(t, exit, exitOK)
	serve()
	kill(t, next)
	wantExitOf(t, next, exitOK)
}

// If the program is started with closed standard streams, no socket gets their descriptors: a line of the log must not reach a client.
func TestClosedStreams(t *testing.T) {
	reap(t)
	self, a := withoutText(t, "-stats", "1ms", "-log-level", "debug", "-drain", "1m", "-mode", "discard")
	cmd := exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@" <&- >&- 2>&-`}, self.Args...)...)
	cmd.Env = self.Env
	exit := begin(t, cmd)
	check := func(pid int) (c net.Conn) {
		t.Helper()
		waitFor(t, func() (ok bool) {
			conn, err := net.Dial(a.Network(), a.String())
			c = conn
			return err == nil
		})
		for fd := range 3 {
			if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); to != os.DevNull {
				t.Errorf("descriptor %d leads to %q, %v", fd, to, err)
			}
		}
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v, want none", n, err)
		}
		return c
	}
	c := check(cmd.Process.Pid)
	cmd.Process.Signal(syscall.SIGUSR2)
	next := waitChild(t, cmd.Process.Pid)
	c.Close()
	wantCode(t, exit, exitOK)
	check(next).Close()
	kill(t, next)
	wantExitOf(t, next, exitOK)
}
