package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/internal/echoserver"
)

// childCommand is the subcommand by which netbench starts itself as the reference server. It is not in the help, because cmd/echoserver
// is the same server for users.
const childCommand = "echoserver"

// serveChild is the reference server. Its standard input is a pipe from the netbench that has started it. When that process ends, in
// whatever way, the server ends too.
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

// Time limits of a child.
const (
	childStart = 10 * time.Second // until it listens
	childDrain = 5 * time.Second  // from SIGTERM to its end, without connections
)

// A child is the reference server in its own process, so that its CPU time and memory can be measured.
type child struct {
	cmd   *exec.Cmd
	addr  string
	pin   string    // SHA-256 of its certificate; "" without TLS
	stdin io.Closer // open until the child may end
	log   tail
	ended chan struct{} // closed when the process has ended; err is set before
	err   error
}

// selfSigned is the server's flag for TLS.
const selfSigned = "-tls-self-signed"

// startChild starts the server with the given flags on a free loopback port, and returns when it listens. The caller must call stop.
func startChild(ctx context.Context, flags ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	secure, level := slices.Contains(flags, selfSigned), "warn"
	if secure {
		level = "info" // which has the certificate's SHA-256
	}
	args := append([]string{childCommand, "-addr", "127.0.0.1:0", "-log-level", level}, flags...)
	c := &child{cmd: exec.Command(self, args...), ended: make(chan struct{}), log: tail{more: make(chan struct{}, 1)}}
	// A process group of its own, so that Ctrl-C reaches only netbench, which ends its run before it ends the server.
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
	for err == nil {
		if c.addr != "" && (!secure || c.pin != "") {
			return c, nil
		}
		select {
		case line := <-first.text:
			addr, ok := strings.CutPrefix(line, "listening on ")
			if c.addr = addr; !ok {
				err = fmt.Errorf("the server said %q", line)
			}
		case <-c.log.more:
			if found := certificate.FindStringSubmatch(c.log.String()); found != nil {
				c.pin = found[1]
			}
		case <-c.ended:
			err = fmt.Errorf("the server did not start: %v %s", c.err, c.log.String())
		case <-late.C:
			err = fmt.Errorf("the server did not listen within %v %s", childStart, c.log.String())
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	c.stop()
	return nil, err
}

// certificate is how the server logs the SHA-256 of its certificate.
var certificate = regexp.MustCompile(`\bsha256=([0-9a-f]{64})\b`)

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the server and waits until it has ended. If the server does not end in order, the error has the end of its log.
func (c *child) stop() error {
	defer c.stdin.Close()
	c.cmd.Process.Signal(syscall.SIGTERM) // fails only if the process has ended
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

// firstLine is a writer that sends the first line to text and drops the rest.
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

// tailSize is how many bytes of the server's log are kept for an error.
const tailSize = 2000

// A tail keeps the end of what is written to it.
type tail struct {
	more chan struct{} // of capacity 1: something was written
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
	select {
	case t.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
