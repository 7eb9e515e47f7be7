//go:build linux

package trials

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/sigstop"
)

// patience bounds every wait. Only a hang meets it.
const patience = 60 * time.Second

// process is a program in a place: a node or a NATS server.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers chan []byte
	exited  chan struct{}

	asking sync.Mutex
	mu     sync.Mutex
	log    strings.Builder
}

// start starts a program in a place, with another environment variable if it is not empty. It is killed when the test ends.
func (p *place) start(variable string, args ...string) *process {
	p.t.Helper()
	x := &process{t: p.t, cmd: exec.Command(args[0], args[1:]...), answers: make(chan []byte, 4), exited: make(chan struct{})}
	if variable != "" {
		x.cmd.Env = append(os.Environ(), variable)
	}
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of the place's thread, which lives as long as the test
	var err error
	x.stdin, err = x.cmd.StdinPipe()
	must(p.t, err)
	stdout, err := x.cmd.StdoutPipe()
	must(p.t, err)
	stderr, err := x.cmd.StderrPipe()
	must(p.t, err)
	must(p.t, p.in(x.cmd.Start))
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(x.answers)
		lines := bufio.NewReaderSize(stdout, 1<<20)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			x.answers <- line
		}
	})
	reading.Go(func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			x.mu.Lock()
			x.log.WriteString(lines.Text() + "\n")
			x.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, stderr)
	})
	go func() {
		reading.Wait()
		_ = x.cmd.Wait()
		close(x.exited)
	}()
	p.t.Cleanup(x.kill)
	return x
}

// kill kills the process, also if it is stopped, and waits until it has ended.
func (x *process) kill() {
	select {
	case <-x.exited:
		return
	default:
	}
	_ = x.cmd.Process.Kill()
	for range x.answers { // nobody wants them
	}
	<-x.exited
}

// signal sends the process a signal. With SIGSTOP it has stopped then.
func (x *process) signal(s syscall.Signal) {
	x.t.Helper()
	if s == syscall.SIGSTOP {
		must(x.t, sigstop.Stop(x.cmd.Process.Pid))
		return
	}
	must(x.t, x.cmd.Process.Signal(s))
}

// gone waits until the process has ended, and returns its exit code.
func (x *process) gone() int {
	x.t.Helper()
	select {
	case <-x.exited:
	case <-time.After(patience):
		x.t.Fatalf("the process is still there; it said:\n%s", x.said())
	}
	return x.cmd.ProcessState.ExitCode()
}

// said returns what the process has logged.
func (x *process) said() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.log.String()
}

// disaster is what no process may say.
var disaster = regexp.MustCompile(`(?m)^(panic:|fatal error:|SIGSEGV|unexpected fault)|DATA RACE`)

// next is the next line that the process prints.
func next[T any](x *process, what string) (v T) {
	x.t.Helper()
	select {
	case line, ok := <-x.answers:
		if !ok {
			x.t.Fatalf("%s: the process has gone; it said:\n%s", what, x.said())
		}
		if err := json.Unmarshal(line, &v); err != nil {
			x.t.Fatalf("%s: %v: %s", what, err, line)
		}
	case <-time.After(patience):
		x.t.Fatalf("%s: no answer; the process said:\n%s", what, x.said())
	}
	return v
}

// ask sends a command and waits for its answer.
func ask[T any](x *process, format string, args ...any) T {
	x.t.Helper()
	command := fmt.Sprintf(format, args...)
	x.asking.Lock()
	defer x.asking.Unlock()
	if _, err := io.WriteString(x.stdin, command+"\n"); err != nil {
		x.t.Fatalf("%s: %v; the process said:\n%s", command, err, x.said())
	}
	return next[T](x, command)
}

// resident returns the memory of the process in bytes.
func (x *process) resident() int {
	x.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.cmd.Process.Pid))
	must(x.t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			must(x.t, err)
			return kib << 10
		}
	}
	x.t.Fatal("no VmRSS")
	return 0
}

// until polls what announces itself on no channel, and returns how long it took. It fails the test when that is longer than patience.
func until(t testing.TB, what string, done func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !done() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}
