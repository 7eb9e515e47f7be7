package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/internal/echoserver"
)

// childCommand is the sub-command by which netbench starts itself as the reference server. It is not in the help:
// cmd/echoserver is the same server for people.
const childCommand = "echoserver"

// serveChild is the reference server. Its standard input is a pipe from the netbench that started it: when that is gone,
// by whatever way it ended, so is the server.
func serveChild(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	echoserver.LimitHeap()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	return echoserver.Main(ctx, args, nil, stdout, stderr)
}

// How long a child may take.
const (
	childStart = 10 * time.Second // until it listens
	childDrain = 5 * time.Second  // from SIGTERM to its end; nobody is connected any more
)

// A child is the reference server in a process of its own, so that its CPU time and memory can be told from netbench's.
type child struct {
	cmd   *exec.Cmd
	addr  string
	stdin io.Closer // held open as long as the child is wanted
	log   tail
	ended chan struct{} // closed when the process is gone; err is set then
	err   error
}

// startChild starts the server in that mode on a free loopback port, and returns when it listens. The caller must call
// stop.
func startChild(ctx context.Context, mode string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	c := &child{cmd: exec.Command(self, childCommand, "-addr", "127.0.0.1:0", "-mode", mode, "-log-level", "warn"), ended: make(chan struct{})}
	// A group of its own: Ctrl-C is for netbench, which ends its run before it ends the server.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Stderr = &c.log
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	c.stdin = stdin
	first := &firstLine{text: make(chan string, 1)}
	c.cmd.Stdout = first
	if err := c.cmd.Start(); err != nil {
		stdin.Close()
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	late := time.NewTimer(childStart)
	defer late.Stop()
	select {
	case line := <-first.text:
		addr, ok := strings.CutPrefix(line, "listening on ")
		if c.addr = addr; ok {
			return c, nil
		}
		err = fmt.Errorf("the server said %q", line)
	case <-c.ended:
		err = fmt.Errorf("the server did not start: %v %s", c.err, c.log.String())
	case <-late.C:
		err = fmt.Errorf("the server did not listen within %v %s", childStart, c.log.String())
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.stop()
	return nil, err
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the server and waits until it is gone. It says what the server had to complain about, if it did not end in
// order.
func (c *child) stop() error {
	defer c.stdin.Close()
	c.cmd.Process.Signal(syscall.SIGTERM) // fails only if the process is gone
	late := time.NewTimer(childDrain)
	defer late.Stop()
	select {
	case <-c.ended:
	case <-late.C:
		c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("the server did not end within %v and was killed %s", childDrain, c.log.String())
	}
	if c.err != nil {
		return fmt.Errorf("the server failed: %w %s", c.err, c.log.String())
	}
	return nil
}

// firstLine is a writer that hands on the first line and forgets the rest.
type firstLine struct {
	text   chan string
	buffer bytes.Buffer
	done   bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if !f.done {
		f.buffer.Write(p)
		if line, _, whole := strings.Cut(f.buffer.String(), "\n"); whole {
			f.done = true
			f.text <- line
		}
	}
	return len(p), nil
}

// tailSize is how much of the server's log is kept for an error.
const tailSize = 2000

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text); n > tailSize {
		t.text = append(t.text[:0], t.text[n-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
