package echoserver

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// When the first process of a container ends, the kernel kills all its other processes. So the first process stays after a restart. When
// its own sessions have ended, it only passes signals on. It exits with the code of the last process that served. A successor may be
// replaced too, which the first process learns through a pipe.

// chained is the variable with the number of the descriptor of the pipe to the first process of a container.
const chained = "ECHOSERVER_CHAIN"

// chain is the pipe to the first process. Every later process has its writing end while it lives, so the pipe ends when all of them
// have ended. A line is "main PID" for a process that serves from now on, or "ended PID CODE" for a process that another one than the
// first has reaped.
type chain struct {
	first bool     // this is the first process of a container
	up    *os.File // writing end of the pipe; nil in the first process and outside of a container
}

func newChain(environ []string) *chain {
	c := &chain{first: os.Getpid() == 1}
	if fd, err := strconv.Atoi(lookup(environ, chained)); err == nil && fd >= firstInherited && !c.first {
		c.up = inherited(fd, "pipe to the first process")
	}
	return c
}

// report sends a line to the first process.
func (c *chain) report(format string, args ...any) {
	if c.up != nil {
		_, _ = fmt.Fprintf(c.up, format+"\n", args...)
	}
}

// next returns the writing end of the pipe for a successor, nil outside of a container. The caller must close it.
func (c *chain) next(n *successor) (up *os.File, err error) {
	switch {
	case c.first:
		n.chain, up, err = os.Pipe()
	case c.up != nil:
		var fd int
		if fd, err = syscall.Dup(int(c.up.Fd())); err == nil { // the caller closes it
			up = inherited(fd, c.up.Name())
		}
	}
	return up, err
}

// orphanTime is how long the supervisor waits, after a process has ended, for a line that names the next one, or for its status.
const orphanTime = time.Second

// supervisor is the first process of a container after its restart.
type supervisor struct {
	children   *children
	own        chan os.Signal // signals for its own sessions
	alive      map[int]bool   // later processes that have not ended, by process ID
	main       int            // process ID of the main process, 0 if there is none
	code       int            // exit code of the last main process
	stopSignal syscall.Signal // the last signal to stop, 0 if there was none
	ended      chan ending
}

// ending is the end of a process.
type ending struct{ pid, code int }

// supervise drains the sessions of this process, waits until all later processes have ended, and returns the exit code.
func (s *service) supervise(next *successor) int {
	s.log.Info("this is the first process of a container and stays until its successors have ended")
	v := &supervisor{children: s.children, own: make(chan os.Signal, 8), alive: make(map[int]bool), code: exitFault, ended: make(chan ending)}
	v.adopt(next.pid, next.ended)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for text := bufio.NewScanner(next.chain); text.Scan(); {
			lines <- text.Text()
		}
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(context.Background(), next.pid, nil, v.own, nil)
	}()
	draining := drained
	var noMain, noneLeft <-chan time.Time // deadlines
	for draining != nil || lines != nil || v.main != 0 {
		select {
		case sig := <-s.stops:
			v.stopSignal = sig.(syscall.Signal)
			v.pass(v.stopSignal)
		case <-s.restarts:
			if v.main == 0 {
				s.log.Warn("not restarted: no process is serving")
				continue
			}
			_ = syscall.Kill(v.main, syscall.SIGUSR2)
		case line, more := <-lines:
			if !more {
				lines, noneLeft = nil, time.After(orphanTime)
			} else if v.handle(line) {
				noMain = nil
			}
		case e := <-v.ended:
			if v.remove(e) {
				noMain = time.After(orphanTime)
			}
		case <-noMain:
			v.pass(syscall.SIGTERM)
		case <-noneLeft:
			v.main = 0
		case <-draining:
			draining = nil
		}
	}
	s.log.Info("the successors have ended; this process exits", "code", v.code)
	return v.code
}

// pass sends a signal to the sessions of this process and to all later processes.
func (v *supervisor) pass(sig syscall.Signal) {
	select {
	case v.own <- sig:
	default:
	}
	for pid := range v.alive {
		_ = syscall.Kill(pid, sig)
	}
}

// handle handles a line of the chain. It reports whether the line named a new main process.
func (v *supervisor) handle(line string) bool {
	var e ending
	if n, _ := fmt.Sscanf(line, "ended %d %d", &e.pid, &e.code); n == 2 {
		v.children.forget(e.pid)
		go func() { v.ended <- e }()
		return false
	}
	if n, _ := fmt.Sscanf(line, "main %d", &e.pid); n == 1 {
		v.adopt(e.pid, v.children.follow(e.pid))
		return true
	}
	return false
}

// adopt makes a process the main one. status gets its status if it is, or becomes, a child of this process.
func (v *supervisor) adopt(pid int, status <-chan syscall.WaitStatus) {
	v.main, v.alive[pid] = pid, true
	if v.stopSignal != 0 { // the signal came before this process was known
		_ = syscall.Kill(pid, v.stopSignal)
	}
	go func() { v.ended <- ending{pid, exitCode(<-status)} }()
}

// remove records the end of a process. It reports whether that was the main process.
func (v *supervisor) remove(e ending) bool {
	delete(v.alive, e.pid)
	if e.pid != v.main {
		return false
	}
	v.main, v.code = 0, e.code
	return true
}
