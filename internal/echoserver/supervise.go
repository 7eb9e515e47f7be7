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

// When the first process of a container ends, the kernel kills every other process of it. After a restart that process
// therefore stays: once its own sessions have ended it does nothing but pass signals on, and it exits with the code of the last
// process that served. A successor may be replaced in its turn; a pipe tells the first process so.

// chained is the variable with the number of the descriptor that leads to the first process of a container.
const chained = "ECHOSERVER_CHAIN"

// chain is the pipe to the first process. Each process that replaces it, or one of those, holds the pipe as long as it
// lives, so the pipe ends when all of them have ended. Each line is "main PID", a process that serves from now on, or "ended
// PID CODE", a process that was waited for by another than the first one.
type chain struct {
	first bool     // this is the first process
	up    *os.File // leads to it; nil in it, and outside of a container
}

func newChain(environ []string) *chain {
	c := &chain{first: os.Getpid() == 1}
	if fd, err := strconv.Atoi(lookup(environ, chained)); err == nil && fd >= firstInherited && !c.first {
		c.up = inherited(fd, "pipe to the first process")
	}
	return c
}

func (c *chain) tell(format string, args ...any) {
	if c.up != nil {
		_, _ = fmt.Fprintf(c.up, format+"\n", args...)
	}
}

// next returns what a successor must be handed, nil for nothing. It is the caller's to close.
func (c *chain) next(n *successor) (up *os.File, err error) {
	switch {
	case c.first:
		n.chain, up, err = os.Pipe()
	case c.up != nil:
		var fd int
		if fd, err = syscall.Dup(int(c.up.Fd())); err == nil { // it is closed in the parent before long
			up = inherited(fd, c.up.Name())
		}
	}
	return up, err
}

// orphanTime is how long it may take to hear which process serves in place of one that has ended, or how one has ended.
const orphanTime = time.Second

// supervisor is the first process of a container after its restart.
type supervisor struct {
	family *children
	own    chan os.Signal // to stop its own sessions
	alive  map[int]bool   // the processes that have served and have not ended
	main   int            // the one that serves, 0 for none
	code   int            // of the last one that has ended as the main one
	told   syscall.Signal // to stop, 0 for not
	ended  chan ending
}

type ending struct{ pid, code int }

// supervise drains the sessions of this process and returns the exit code when it may end: those that follow it have.
func (s *service) supervise(next *successor) int {
	s.log.Info("this is the first process of a container and stays until its successors have ended")
	v := &supervisor{family: s.family, own: make(chan os.Signal, 8), alive: make(map[int]bool), code: exitFault, ended: make(chan ending)}
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
	var nothingServes, nobodyLeft <-chan time.Time
	for draining != nil || lines != nil || v.main != 0 {
		select {
		case sig := <-s.stops:
			v.told = sig.(syscall.Signal)
			v.pass(v.told)
		case <-s.restarts:
			if v.main == 0 {
				s.log.Warn("not restarted: no process serves now")
				continue
			}
			_ = syscall.Kill(v.main, syscall.SIGUSR2)
		case line, more := <-lines:
			if !more {
				lines, nobodyLeft = nil, time.After(orphanTime)
			} else if v.hear(line) {
				nothingServes = nil
			}
		case e := <-v.ended:
			if v.remove(e) {
				nothingServes = time.After(orphanTime)
			}
		case <-nothingServes:
			v.pass(syscall.SIGTERM)
		case <-nobodyLeft:
			v.main = 0
		case <-draining:
			draining = nil
		}
	}
	s.log.Info("the successors have ended", "code", v.code)
	return v.code
}

// pass hands a signal to this process and to all that follow it.
func (v *supervisor) pass(sig syscall.Signal) {
	select {
	case v.own <- sig:
	default:
	}
	for pid := range v.alive {
		_ = syscall.Kill(pid, sig)
	}
}

// hear takes a line of the chain and reports whether it named a process that serves.
func (v *supervisor) hear(line string) bool {
	var e ending
	if n, _ := fmt.Sscanf(line, "ended %d %d", &e.pid, &e.code); n == 2 {
		v.family.forget(e.pid)
		go func() { v.ended <- e }()
		return false
	}
	if n, _ := fmt.Sscanf(line, "main %d", &e.pid); n == 1 {
		v.adopt(e.pid, v.family.follow(e.pid))
		return true
	}
	return false
}

// adopt makes a process the one that serves. Its status comes if it is, or becomes, a child of this one.
func (v *supervisor) adopt(pid int, status <-chan syscall.WaitStatus) {
	v.main, v.alive[pid] = pid, true
	if v.told != 0 { // no process was there to be told
		_ = syscall.Kill(pid, v.told)
	}
	go func() { v.ended <- ending{pid, exitCode(<-status)} }()
}

// remove takes the end of a process and reports whether it was the one that serves.
func (v *supervisor) remove(e ending) bool {
	delete(v.alive, e.pid)
	if e.pid != v.main {
		return false
	}
	v.main, v.code = 0, e.code
	return true
}
