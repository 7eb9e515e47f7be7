//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/freeport"
)

// A starter starts processes that are pinned to processors from their first instruction. A child inherits the affinity of the thread that
// starts it, so a starter has a thread for that alone. The thread lives as long as this program, so that the kernel can kill the children
// when the program dies.
type starter struct {
	jobs chan func()
	all  unix.CPUSet // what this program may use
}

func newStarter() (*starter, error) {
	s := &starter{jobs: make(chan func())}
	if err := unix.SchedGetaffinity(0, &s.all); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	go func() {
		runtime.LockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s, nil
}

// start starts cmd on the given processors, or on all if there are none. The process has its own process group, so Ctrl-C does not reach
// it. env is added to its environment.
func (s *starter) start(cmd *exec.Cmd, cpus []int, env ...string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	set := s.all
	if len(cpus) > 0 {
		set.Zero()
		for _, c := range cpus {
			set.Set(c)
		}
	}
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(set.Count())), env...) // the last of a name counts
	done := make(chan error, 1)
	s.jobs <- func() {
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- fmt.Errorf("cannot pin to processors %v: %w; there are %d on this machine", cpus, err, runtime.NumCPU())
			return
		}
		done <- cmd.Start()
	}
	return <-done
}

// count returns how many processors a process of start has.
func (s *starter) count(cpus []int) int {
	if len(cpus) > 0 {
		return len(cpus)
	}
	return s.all.Count()
}

// running is a server that has been started.
type running struct {
	cmd    *exec.Cmd
	addr   string
	speaks []string // what netbench must be told about its protocol
	said   *transcript
	ended  chan struct{} // closed when the process is gone
}

const startPatience = 5 * time.Second

// launch starts a server and returns when it listens.
func (r *runner) launch(ctx context.Context, s server, w workload) (*running, error) {
	loops := r.starter.count(r.cfg.serverCPU)
	switch {
	case s.single:
		loops = 1
	case w.loops > 0:
		loops = w.loops
	}
	addr, err := freeport.Addr("127.0.0.1")
	if err != nil {
		return nil, err
	}
	args := append([]string{"-addr", addr, "-mode", w.serverMode(), "-loops", strconv.Itoa(loops)}, s.args...)
	program, more := s.command(w, r.dir)
	p := &running{cmd: exec.Command(filepath.Join(r.dir, program), append(args, more...)...), speaks: w.speaks(s, r.dir),
		said: newTranscript(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := r.starter.start(p.cmd, r.cfg.serverCPU, w.env...); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	select {
	case p.addr = <-p.said.listening:
		return p, nil
	case <-p.ended:
		err = fmt.Errorf("it ended before it listened (%v): %s", p.cmd.ProcessState, p.said.tail())
	case <-time.After(startPatience):
		err = fmt.Errorf("it did not say that it listens within %v: %s", startPatience, p.said.tail())
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return nil, err
}

// kill kills the process. It returns an error if the process had ended before, with the reason.
func (p *running) kill() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the server ended during the run (%v): %s", p.cmd.ProcessState, p.said.tail())
	default:
	}
	p.cmd.Process.Kill()
	<-p.ended
	return nil
}

// A transcript is the output of a process. It finds the line "listening on ADDRESS".
type transcript struct {
	listening chan string
	mu        sync.Mutex
	text      []byte
	told      bool
}

func newTranscript() *transcript { return &transcript{listening: make(chan string, 1)} }

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const keep = 64 << 10 // a server that complains for ever must not fill the memory
	if len(t.text) < keep || t.told {
		t.text = append(t.text, b...)
	}
	if !t.told {
		for line := range bytes.Lines(t.text) {
			if rest, ok := bytes.CutPrefix(line, []byte("listening on ")); ok && bytes.HasSuffix(rest, []byte("\n")) {
				t.told = true
				t.listening <- strings.TrimSpace(string(rest))
				break
			}
		}
	}
	if len(t.text) > 2*keep {
		t.text = append(t.text[:0], t.text[len(t.text)-keep:]...)
	}
	return len(b), nil
}

// tail returns the last lines, for an error message.
func (t *transcript) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text[max(0, len(t.text)-400):]))
	if text == "" {
		return "it wrote nothing"
	}
	return text
}
