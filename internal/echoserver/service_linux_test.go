package echoserver

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openSockets opens sockets in blocking mode, as a service manager does.
func openSockets(t *testing.T) (files []*os.File, addrs []net.Addr) {
	t.Helper()
	for _, ask := range everyAddr(t) {
		network, address, err := parseAddr("addr", ask)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		ln.Close()
		t.Cleanup(func() { f.Close() })
		files, addrs = append(files, f), append(addrs, ln.Addr())
	}
	return files, addrs
}

// activate returns a command that runs the program with sockets of a service manager. The environment has the process ID of the
// program, as it must.
func activate(t *testing.T, files []*os.File, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, self}, args...)...)
	cmd.ExtraFiles = files
	cmd.Env = []string{"LISTEN_FDS=" + strconv.Itoa(len(files)), "LISTEN_FDNAMES=" + strings.Repeat("echo:", len(files)-1) + "echo"}
	return cmd
}

// call connects, checks the echo of 64 bytes, and closes.
func call(a net.Addr) error {
	c, err := net.DialTimeout(a.Network(), a.String(), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	return echoed(c)
}

// The program serves the sockets of a service manager, also connections that came before it started, and between two processes.
func TestActivation(t *testing.T) {
	files, addrs := openSockets(t)
	// This connection waits in the queue before a process accepts.
	early, err := net.Dial(addrs[0].Network(), addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	p := launch(t, activate(t, files, "-addr", "127.0.0.1:1"))
	p.out.wait(t, "listening on ", len(addrs))
	for _, a := range addrs {
		if !strings.Contains(p.out.String(), "listening on "+formatAddr(a)+"\n") {
			t.Errorf("it does not say that it listens on %v:\n%s", a, p.out)
		}
		if err := call(a); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	if err := echoed(early); err != nil {
		t.Errorf("a connection from before the start: %v", err)
	}
	early.Close()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)

	// The sockets belong to the manager: a connection between two processes waits for the next one.
	between, err := net.Dial(addrs[0].Network(), addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer between.Close()
	p = launch(t, activate(t, files))
	if err := echoed(between); err != nil {
		t.Errorf("a connection from between two processes: %v", err)
	}
	between.Close()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// A descriptor that is not a listening socket is an error.
func TestActivationWithWhatIsNoListener(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := activate(t, []*os.File{f})
	cmd.Env = append(os.Environ(), append(cmd.Env, asServer+"=1")...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitFault || !strings.Contains(string(out), "cannot listen on echo, which was passed to this process") {
		t.Errorf("%v, %s", err, out)
	}
}

// An ear is a service manager that receives the messages of the program.
type ear struct {
	t    *testing.T
	env  string
	conn *net.UnixConn
}

func newEar(t *testing.T) *ear {
	t.Helper()
	dir, err := os.MkdirTemp("", "echo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &ear{t, "NOTIFY_SOCKET=" + path, conn}
}

// hear returns the next message that is not a sign of life.
func (e *ear) hear() string {
	e.t.Helper()
	for {
		if m := e.next(); m != "WATCHDOG=1" {
			return m
		}
	}
}

func (e *ear) next() string {
	e.t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	n, err := e.conn.Read(b)
	if err != nil {
		e.t.Fatal(err)
	}
	return string(b[:n])
}

func (e *ear) want(pattern string) []string {
	e.t.Helper()
	m := e.hear()
	found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(m)
	if found == nil {
		e.t.Fatalf("heard %q, want %s", m, pattern)
	}
	return found
}

// The service manager gets the messages of a start, a restart and a stop, and signs of life.
func TestManagerIsTold(t *testing.T) {
	reap(t)
	e := newEar(t)
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Env = []string{e.env, "WATCHDOG_USEC=40000"}
	p := launch(t, cmd)
	e.want("READY=1\nSTATUS=listening on 127.0.0.1:\\d+")
	for signs := 0; signs < 3; {
		if m := e.next(); m == "WATCHDOG=1" {
			signs++
		} else {
			t.Fatalf("heard %q, want signs of life", m)
		}
	}
	before := monotonic(t)
	p.signal(syscall.SIGUSR2)
	at, _ := strconv.ParseInt(e.want("RELOADING=1\nMONOTONIC_USEC=(\\d+)\nSTATUS=restarting")[1], 10, 64)
	if at < before || at > monotonic(t) {
		t.Errorf("MONOTONIC_USEC %d is not between %d and %d", at, before, monotonic(t))
	}
	pid, _ := strconv.Atoi(e.want("MAINPID=(\\d+)\nREADY=1\nSTATUS=listening on 127.0.0.1:\\d+")[1])
	if pid != p.successor(1) {
		t.Errorf("MAINPID is %d, the successor %d", pid, p.successor(1))
	}
	p.wantExit(exitOK)             // silent: no STOPPING of the old process
	for e.next() != "WATCHDOG=1" { // of the new one
		t.Fatal("heard something else than signs of life")
	}
	kill(t, pid)
	e.want("STOPPING=1")
	wantExitOf(t, pid, exitOK)
}

// The watchdog gets no sign of life while an event loop does not answer.
func TestNoSignOfLife(t *testing.T) {
	e := newEar(t)
	name, value, _ := strings.Cut(e.env, "=")
	t.Setenv(name, value)
	t.Setenv("WATCHDOG_USEC", "20000")
	log := newTranscript()
	m := newManager([]string{}, slog.New(slog.NewTextHandler(log, nil)))
	var asked atomic.Int32
	m.watch(func(ctx context.Context) error {
		if asked.Add(1) < 4 {
			<-ctx.Done() // as when a callback does not return
			return ctx.Err()
		}
		return nil
	})
	if got, n := e.next(), asked.Load(); got != "WATCHDOG=1" || n < 4 {
		t.Errorf("%q after %d questions", got, n)
	}
	m.close()
	log.wait(t, "no sign of life", 3)
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano() / 1000
}
