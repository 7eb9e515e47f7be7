package echoserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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

// reap makes this process the parent of those whose parent has ended, and kills what a test that failed has left.
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

// successor waits for the nth process that follows and returns its number.
func (p *process) successor(n int) int {
	p.t.Helper()
	p.log.wait(p.t, "msg=\"replaced; ", n)
	p.log.wait(p.t, "at_most=1m", n) // the same line, whole
	found := regexp.MustCompile(`replaced; .* by=(\d+)`).FindAllStringSubmatch(p.log.String(), -1)
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

// wantExitOf waits for a process whose predecessors have ended.
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

// Two restarts under load: nobody is refused or reset, and who was there before goes on.
func TestRestartRefusesNobody(t *testing.T) {
	reap(t)
	for _, addr := range everyAddr(t) {
		t.Run(addr, func(t *testing.T) {
			p := spawn(t, "-addr", addr, "-drain", "1m")
			a := p.addr()
			var failed atomic.Int32
			stop, stopped, batch := make(chan struct{}), make(chan int), make(chan struct{}, 100)
			go func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				var calls sync.WaitGroup
				n := 0
				for {
					select {
					case <-tick.C:
						if n++; n%300 == 0 {
							batch <- struct{}{}
						}
						calls.Go(func() {
							if err := call(a); err != nil && failed.Add(1) < 10 {
								t.Errorf("a call: %v", err)
							}
						})
					case <-stop:
						calls.Wait()
						stopped <- n
						return
					}
				}
			}()

			var old []stream
			pids := []int{p.cmd.Process.Pid}
			for n := 1; n <= 2; n++ {
				<-batch
				c := p.dial() // the session of the process that is about to be replaced
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
			<-batch
			close(stop)
			t.Logf("%d calls", <-stopped)
			for i, c := range old { // each was what kept its process
				if err := echoed(c); err != nil {
					t.Errorf("session %d at the end: %v", i, err)
				}
				if i == 0 {
					c.Close()
					p.wantExit(exitOK)
					continue
				}
				kill(t, pids[i]) // the other way to end one that drains
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

// A server that was replaced disconnects what is left after -drain.
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

// A new process that does not come up: the old one says why and goes on, and the next attempt may succeed. It reads its
// settings anew.
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
	e.want("READY=1\nSTATUS=not restarted: .*exit status 2")
	for _, text := range []string{`line 2: unknown key "misspelt"`, "not restarted; this process goes on", "exit status 2"} {
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

// Sockets of a service manager pass from process to process, whatever -addr says.
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

// With another -addr the new process opens a socket of its own.
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

func TestBadInheritance(t *testing.T) {
	self, _ := os.Executable()
	for _, value := range []string{"1", "x :1", "0 :1", "-1 :1"} {
		cmd := exec.Command(self, "-addr", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), asServer+"=1", inheritance+"="+value)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != exitFault || !strings.Contains(string(out), fmt.Sprintf("%q is not what", value)) {
			t.Errorf("%q: %v, %s", value, err, out)
		}
	}
}
