package echoserver

import (
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

// terminal is a pseudo terminal. The test types into the master and reads from it what the programs print.
type terminal struct {
	master, slave *os.File
	text          *transcript
	closed        chan struct{}
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{master, slave, newTranscript(), make(chan struct{})}
	t.Cleanup(func() {
		slave.Close()
		master.Close()
	})
	return p
}

// show collects what is printed, until the terminal is closed.
func (p *terminal) show() {
	go func() {
		defer close(p.closed)
		io.Copy(p.text, p.master)
		p.text.close()
	}()
}

// run starts the command in its own session with this terminal.
func (p *terminal) run(t *testing.T, cmd *exec.Cmd) <-chan int {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	exit := begin(t, cmd)
	p.slave.Close()
	return exit
}

// Ctrl-S stops the output, and nothing else.
func TestStoppedTerminal(t *testing.T) {
	cmd, a := withoutText(t, "-stats", "5ms", "-log-level", "debug")
	p := newTerminal(t)
	exit := p.run(t, cmd)
	p.show()
	p.text.wait(t, "sessions 0", 1)
	if _, err := p.master.Write([]byte{'S' - '@'}); err != nil {
		t.Fatal(err)
	}
	for shown := ""; ; time.Sleep(50 * time.Millisecond) { // some lines of status
		if now := p.text.String(); now == shown {
			break
		} else {
			shown = now
		}
	}
	for range 200 {
		if err := call(a); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	wantCode(t, exit, exitOK)
}

// If its terminal is closed, the program drains and exits.
func TestClosedTerminal(t *testing.T) {
	cmd, a := withoutText(t, "-stats", "5ms", "-log-level", "debug")
	p := newTerminal(t)
	exit := p.run(t, cmd)
	waitServed(t, a)
	p.master.Close()
	wantCode(t, exit, exitOK)
}

// The program serves in the background of a terminal that stops background processes that write (stty tostop).
func TestBackgroundOfTerminal(t *testing.T) {
	self, a := withoutText(t, "-log-level", "debug")
	cmd := exec.Command("/bin/sh", append([]string{"-c", `stty tostop; set -m; "$0" "$@" & echo "pid $!"; wait`}, self.Args...)...)
	cmd.Env = self.Env
	p := newTerminal(t)
	p.run(t, cmd)
	p.show()
	p.text.wait(t, "listening on ", 1)
	for range 3 {
		if err := call(a); err != nil {
			t.Fatal(err)
		}
	}
	p.text.wait(t, "msg=disconnected", 3)
	var pid int
	_, after, _ := strings.Cut(p.text.String(), "pid ")
	fmt.Sscan(after, &pid)
	kill(t, pid)
	p.text.wait(t, "msg=stopped", 1)
}

// The status line and the log share a terminal without mixing their lines.
func TestTerminalIsShared(t *testing.T) {
	cmd, a := withoutText(t, "-stats", "5ms", "-mode", "game")
	p := newTerminal(t)
	exit := p.run(t, cmd)
	p.show()
	p.text.wait(t, "sessions ", 20)
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.text.wait(t, "msg=disconnected", 1)
	cmd.Process.Signal(syscall.SIGTERM)
	wantCode(t, exit, exitOK)
	<-p.closed
	for line := range strings.SplitSeq(p.text.String(), "\n") {
		before, _, found := strings.Cut(line, "time=")
		if found && before != "" && !strings.HasSuffix(before, clearLine) {
			t.Errorf("a record begins behind something else: %q", line)
		}
	}
}
