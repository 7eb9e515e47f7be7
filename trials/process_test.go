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

// role is the environment variable that makes this program one of the processes of a trial.
const role = "TRIALS_ROLE"

// patience bounds every wait for a process. Only a hang reaches it.
const patience = 20 * time.Second

// process is this program started once more as a server, as the bystanders or as a client. It reads commands, one per line, from stdin
// and answers with lines of JSON.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	pid     int // of the program itself, which may be behind a wrapper
	stdin   io.WriteCloser
	answers chan []byte
	exited  chan struct{} // closed when code is there
	code    int

	mu   sync.Mutex
	log  []string
	when []time.Time
}

// start starts the program in a role, with a wrapper such as strace or ip netns exec if one is given.
func start(t testing.TB, what string, wrapper ...string) *process {
	t.Helper()
	return startIn(nil, t, what, wrapper...)
}

// startIn is start in a network namespace.
func startIn(n *namespace, t testing.TB, what string, wrapper ...string) *process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	args := append(wrapper, self, fmt.Sprintf("-scale=%v", *scale))
	p := &process{t: t, cmd: exec.Command(args[0], args[1:]...), answers: make(chan []byte, 16), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), role+"="+what)
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	stderr, err := p.cmd.StderrPipe()
	must(t, err)
	n.do(func() { unhampered(func() { err = p.cmd.Start() }) })
	must(t, err)
	p.pid = p.cmd.Process.Pid
	var read sync.WaitGroup
	read.Go(func() {
		for lines := bufio.NewReaderSize(stdout, 1<<20); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				close(p.answers)
				return
			}
			p.answers <- line
		}
	})
	read.Go(func() {
		for lines := bufio.NewReader(stderr); ; {
			line, err := lines.ReadString('\n')
			if line != "" {
				p.mu.Lock()
				p.log, p.when = append(p.log, line), append(p.when, time.Now())
				p.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	})
	go func() {
		read.Wait()
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill kills the process if it has not ended, also if it is stopped, and waits until it has ended.
func (p *process) kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	_ = p.stdin.Close()
	_ = syscall.Kill(p.pid, syscall.SIGCONT)
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	for range p.answers { // no more answers are wanted
	}
	<-p.exited
}

// ask sends a command and waits for its answer.
func ask[T any](p *process, command string) (v T) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, command+"\n"); err != nil {
		p.t.Fatalf("%s: %v; the process said: %s", command, err, p.said())
	}
	return heard[T](p, command)
}

// heard waits for the next line from a process.
func heard[T any](p *process, what string) (v T) {
	p.t.Helper()
	select {
	case line, ok := <-p.answers:
		if !ok {
			p.t.Fatalf("%s: the process has gone; it said: %s", what, p.said())
		}
		if err := json.Unmarshal(line, &v); err != nil {
			p.t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(2*patience + time.Minute):
		p.t.Fatalf("%s: no answer; the process said: %s", what, p.said())
	}
	return v
}

// signal sends the process a signal. With SIGSTOP it has stopped then.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if s == syscall.SIGSTOP {
		must(p.t, sigstop.Stop(p.pid))
		return
	}
	must(p.t, syscall.Kill(p.pid, s))
}

// gone waits until the process has ended and returns its exit code.
func (p *process) gone() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the process is still there; it said: %s", p.said())
	}
	return p.code
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "")
}

// noise returns how many lines were logged, and the most in any second (O8).
func (p *process) noise() (lines, worst int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := 0
	for i, at := range p.when {
		for at.Sub(p.when[first]) >= time.Second {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return len(p.log), worst
}

// disaster matches what no process may print (O1). A recovered panic is logged as an attribute, inside a line, and does not match.
var disaster = regexp.MustCompile(`(?m)^(panic:|fatal error:|unexpected fault|SIGSEGV|runtime:)|DATA RACE`)

// descriptors returns how many descriptors the process has.
func (p *process) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	must(p.t, err)
	return len(entries)
}

// memory returns a figure of /proc/PID/status in bytes: VmRSS, or its peak, VmHWM.
func (p *process) memory(name string) int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	must(p.t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			must(p.t, err)
			return kib << 10
		}
	}
	p.t.Fatalf("no %s in /proc/%d/status", name, p.pid)
	return 0
}

// processor returns the CPU time of the process, from the scheduler's exact count.
func (p *process) processor() time.Duration {
	p.t.Helper()
	var sum time.Duration
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	must(p.t, err)
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", p.pid, task.Name()))
		if err != nil {
			continue // ended
		}
		ns, _ := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		sum += time.Duration(ns)
	}
	return sum
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition for which there is no channel, and returns how long it took, or false.
func eventually(within time.Duration, done func() bool) (time.Duration, bool) {
	began := time.Now()
	for {
		if done() {
			return time.Since(began), true
		}
		if time.Since(began) > within {
			return time.Since(began), false
		}
		time.Sleep(5 * time.Millisecond)
	}
}
