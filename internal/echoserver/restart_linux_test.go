package echoserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reap makes this process the parent of orphaned descendants, and kills those that a failed test leaves.
func reap(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range childrenOf(t, os.Getpid()) {
			syscall.Kill(pid, syscall.SIGKILL)
			unix.Wait4(pid, nil, 0, nil)
		}
	})
}

// successor waits for the nth later process and returns its process ID.
func (p *process) successor(n int) int {
	p.t.Helper()
	p.log.wait(p.t, "msg=\"replaced by a new process; ", n)
	p.log.wait(p.t, "at_most=1m", n) // the same line, whole
	found := regexp.MustCompile(`replaced by a new process; .* by=(\d+)`).FindAllStringSubmatch(p.log.String(), -1)
	pid, err := strconv.Atoi(found[n-1][1])
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// wantExitOf waits until a process ends whose predecessors have ended, and checks its exit code.
func wantExitOf(t *testing.T, pid, code int) {
	t.Helper()
	ended := make(chan error, 1)
	var status unix.WaitStatus
	go func() {
		_, err := unix.Wait4(pid, &status, 0, nil)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil || status.ExitStatus() != code {
			t.Errorf("process %d: status %#x, %v, want exit code %d", pid, status, err, code)
		}
	case <-time.After(patience):
		syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("process %d does not end", pid)
	}
}

// callLoad calls a server 500 times per second until stop, or the end of a test that fails.
type callLoad struct {
	batch chan struct{} // gets a value after every 300 calls, if there is room
	quit  chan struct{}
	stop  func() int // ends the load and returns the number of calls
}

func startCalls(t *testing.T, address net.Addr) *callLoad {
	t.Helper()
	l := &callLoad{batch: make(chan struct{}, 1), quit: make(chan struct{})}
	ended := make(chan int)
	l.stop = sync.OnceValue(func() int {
		close(l.quit)
		return <-ended
	})
	t.Cleanup(func() { l.stop() })
	var failed atomic.Int32
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var calls sync.WaitGroup
		n := 0
		for {
			select {
			case <-tick.C:
				if n++; n%300 == 0 {
					select {
					case l.batch <- struct{}{}:
					default:
					}
				}
				calls.Go(func() {
					if err := call(address); err != nil && failed.Add(1) < 10 {
						t.Errorf("a call: %v", err)
					}
				})
			case <-l.quit:
				calls.Wait()
				ended <- n
				return
			}
		}
	}()
	return l
}

// Two restarts under load refuse and reset no connection, and sessions from before go on.
func TestRestartRefusesNobody(t *testing.T) {
	reap(t)
	for _, addr := range everyAddr(t) {
		t.Run(addr, func(t *testing.T) {
			p := spawn(t, "-addr", addr, "-drain", "1m")
			load := startCalls(t, p.addr())
			var old []stream
			pids := []int{p.cmd.Process.Pid}
			for n := 1; n <= 2; n++ {
				<-load.batch
				c := p.dial() // a session of the process that is replaced next
				if err := echoed(c); err != nil {
					t.Fatal(err)
				}
				old = append(old, c)
				if err := syscall.Kill(pids[n-1], syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
				pids = append(pids, p.successor(n))
				for _, c := range old {
					if err := echoed(c); err != nil {
						t.Errorf("an old session after restart %d: %v", n, err)
					}
				}
			}
			<-load.batch
			t.Logf("%d calls", load.stop())
			for i, c := range old { // each is the last session of its process
				if err := echoed(c); err != nil {
					t.Errorf("session %d at the end: %v", i, err)
				}
				if i == 0 {
					c.Close()
					p.wantExit(exitOK)
					continue
				}
				kill(t, pids[i]) // a signal ends a process that drains, too
				if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("the end of session %d: %d bytes, %v", i, n, err)
				}
				c.Close()
				wantExitOf(t, pids[i], exitOK)
			}
			kill(t, pids[2])
			wantExitOf(t, pids[2], exitOK)
		})
	}
}

// After -drain, a process that was replaced disconnects its remaining sessions.
func TestDrainEnds(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1ms")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	pid := p.successor(1)
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// If the new process does not start, the old one logs why and goes on, and the next restart may succeed. A new process reads the
// settings again.
func TestRestartThatFails(t *testing.T) {
	reap(t)
	e := newEar(t)
	settings := writeFile(t, "max-sessions = 2\ndrain = '1m'\n")
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-config", settings)
	cmd.Env = []string{e.env}
	p := launch(t, cmd)
	e.want("READY=1\nSTATUS=listening on .*")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("max-sessions = 2\nmisspelt = 1\n")
	p.signal(syscall.SIGUSR2)
	e.want("RELOADING=1\n(.|\n)*")
	e.want("READY=1\nSTATUS=restart failed: .*exit status 2")
	for _, text := range []string{`line 2: unknown key "misspelt"`, "the restart has failed; this process goes on", "exit status 2"} {
		p.log.wait(t, text, 1)
	}
	if err := call(p.addr()); err != nil {
		t.Errorf("after a restart that failed: %v", err)
	}
	set("max-sessions = 1\ndrain = '1m'\n")
	p.signal(syscall.SIGUSR2)
	e.want("RELOADING=1\n(.|\n)*")
	e.want("MAINPID=.*\n(.|\n)*")
	pid := p.successor(1)
	p.wantExit(exitOK)
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	wantEnd(t, p.dial()) // the new setting holds
	c.Close()
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// The sockets of a service manager pass from process to process, whatever -addr is.
func TestRestartOfAnActivatedServer(t *testing.T) {
	reap(t)
	files, addrs := openSockets(t)
	p := launch(t, activate(t, files, "-drain", "1m"))
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	for _, a := range addrs {
		if err := call(a); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	if n := strings.Count(p.out.String(), "listening on "); n != 2*len(addrs) {
		t.Errorf("%d lines say where it listens, want %d:\n%s", n, 2*len(addrs), p.out)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// With another -addr, the new process opens a socket of its own.
func TestRestartAtAnotherAddress(t *testing.T) {
	reap(t)
	settings := writeFile(t, "addr = '127.0.0.1:0'\ndrain = '1m'\n")
	p := spawn(t, "-config", settings)
	if err := os.WriteFile(settings, []byte("addr = 'localhost:0'\ndrain = '1m'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	lines := bufio.NewScanner(strings.NewReader(p.out.String()))
	said := make(map[string]bool)
	for lines.Scan() {
		said[lines.Text()] = true
	}
	if len(said) != 2 {
		t.Errorf("it listened on %v, want two addresses", said)
	}
	if err := call(p.addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a call at the old address: %v", err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A malformed variable of a predecessor is an error that names it.
func TestBadInheritance(t *testing.T) {
	self, _ := os.Executable()
	for _, value := range []string{"1", "x :1", "0 :1", "-1 :1"} {
		cmd := exec.Command(self, "-addr", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), asServer+"=1", inheritance+"="+value)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != exitFault || !strings.Contains(string(out), fmt.Sprintf("%q, want a number of sockets", value)) {
			t.Errorf("%q: %v, %s", value, err, out)
		}
	}
}
