package echoserver

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// children reaps the child processes of this process. The first process of a container is also the parent of every orphan, so children
// reaps all, known or not. There is one per process.
type children struct {
	ended   chan os.Signal // SIGCHLD
	mu      sync.Mutex
	stopped bool
	waiting map[int]chan syscall.WaitStatus // by process ID
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
	for !c.stopped {
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

// start starts the command and returns its process ID and the channel of its status. cmd.Wait must not be called.
func (c *children) start(cmd *exec.Cmd) (pid int, ended <-chan syscall.WaitStatus, err error) {
	c.mu.Lock() // the process cannot be reaped before it is in waiting
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	pid = cmd.Process.Pid
	_ = cmd.Process.Release()
	return pid, c.followLocked(pid), nil
}

// follow returns a channel for the status of a process that is, or becomes, a child of this one. If the process has another parent when
// it ends, the channel stays empty.
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

// kill sends a signal to a child that was not reaped yet. Until then its process ID cannot belong to another process.
func (c *children) kill(pid int, sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[pid] != nil {
		_ = syscall.Kill(pid, sig)
	}
}

// stop ends the reaping, for good. A child that ends later is reaped by the parent that the system gives it.
func (c *children) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// forget undoes follow.
func (c *children) forget(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, pid)
}

// exitCode returns the exit code that a shell shows for the status.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
