package echoserver

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// children waits for the processes that this one has started. The first process of a container is also the parent of every
// process that has lost its own, so all are waited for, whether they are known or not. One per process.
type children struct {
	ended   chan os.Signal // SIGCHLD
	mu      sync.Mutex
	left    bool
	waiting map[int]chan syscall.WaitStatus // by process number
}

func newChildren() *children {
	c := &children{ended: make(chan os.Signal, 1), waiting: make(map[int]chan syscall.WaitStatus)}
	signal.Notify(c.ended, syscall.SIGCHLD)
	go func() {
		for range c.ended {
			c.reap()
		}
	}()
	return c
}

func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.left {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || pid <= 0:
			return
		case c.waiting[pid] != nil:
			c.waiting[pid] <- status
			delete(c.waiting, pid)
		}
	}
}

// start starts the command and follows it. Its Wait must not be called.
func (c *children) start(cmd *exec.Cmd) (pid int, ended <-chan syscall.WaitStatus, err error) {
	c.mu.Lock() // it is followed before it can be reaped
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	pid = cmd.Process.Pid
	_ = cmd.Process.Release()
	return pid, c.followLocked(pid), nil
}

// follow returns where the status of a process comes that is, or becomes, a child of this one. Nothing comes if another
// process is its parent at its end.
func (c *children) follow(pid int) <-chan syscall.WaitStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.followLocked(pid)
}

func (c *children) followLocked(pid int) <-chan syscall.WaitStatus {
	ended := make(chan syscall.WaitStatus, 1)
	c.waiting[pid] = ended
	return ended
}

// kill sends a signal to a child that has not ended. Its number cannot belong to another process before it is reaped.
func (c *children) kill(pid int, sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[pid] != nil {
		_ = syscall.Kill(pid, sig)
	}
}

// leave ends the waiting, for good: a child that has not been waited for by then is the next parent's.
func (c *children) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
}

// forget ends follow.
func (c *children) forget(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, pid)
}

// exitCode is the status as a shell tells it.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
