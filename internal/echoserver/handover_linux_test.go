package echoserver

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/sigstop"
)

// gone reports whether no process has this process ID, not even a zombie.
func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// held is a process and its successor, which waits for its settings file.
type held struct {
	*process
	next     int // the successor
	settings *os.File
	ear      *ear
}

// holdSuccessor starts the program and restarts it, and returns when the successor waits for its settings file.
func holdSuccessor(t *testing.T, env ...string) *held {
	t.Helper()
	reap(t)
	e := newEar(t)
	self, _ := os.Executable()
	path := writeFile(t, "drain = '1m'\n")
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-config", path)
	cmd.Env = append(env, e.env)
	h := &held{process: launch(t, cmd), ear: e}
	e.want("READY=1\nSTATUS=listening on .*")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGUSR2)
	h.settings = openFifo(t, path)
	h.next = waitChild(t, cmd.Process.Pid)
	e.want("RELOADING=1\n(.|\n)*")
	return h
}

// stop stops the old process, every thread of it.
func (h *held) stop() {
	h.t.Helper()
	if err := sigstop.Stop(h.cmd.Process.Pid); err != nil {
		h.t.Fatal(err)
	}
}

// goOn lets the successor start.
func (h *held) goOn() {
	io.WriteString(h.settings, "drain = '1m'\n")
	h.settings.Close()
}

// wantHeir checks that the successor has become the main process and has told the service manager so.
func (h *held) wantHeir() {
	h.t.Helper()
	h.ear.want(fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=listening on .*", h.next))
	h.log.wait(h.t, "the predecessor has ended; this process serves in its place", 1)
	if err := call(h.addr()); err != nil {
		h.t.Error(err)
	}
	// It can be replaced too.
	if err := os.Remove(h.settings.Name()); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.settings.Name(), []byte("drain = '1m'\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := syscall.Kill(h.next, syscall.SIGUSR2); err != nil {
		h.t.Fatal(err)
	}
	h.ear.want("RELOADING=1\n(.|\n)*")
	pid := h.successor(1)
	h.ear.want(fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=listening on .*", pid))
	wantExitOf(h.t, h.next, exitOK)
	kill(h.t, pid)
	h.ear.want("STOPPING=1")
	wantExitOf(h.t, pid, exitOK)
}

// If the old process dies before the new one listens, the new one serves in its place.
func TestPredecessorDiesEarly(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGKILL)
	h.wantExit(-1)
	waiting, err := net.Dial("tcp", h.addr().String()) // the socket is still there
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	h.goOn()
	if err := echoed(waiting); err != nil {
		t.Error(err)
	}
	waiting.Close()
	h.wantHeir()
}

// If the old process dies after the new one listens and before it releases it, the new one serves in its place.
func TestPredecessorDiesInTheHandOver(t *testing.T) {
	h := holdSuccessor(t)
	h.stop() // it does not hear that the new one accepts
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil { // the new one serves, though it is not the main one
		t.Error(err)
	}
	h.signal(syscall.SIGKILL)
	h.wantExit(-1)
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantHeir()
}

// If the old process dies after the hand-over, the new one goes on.
func TestPredecessorDiesLate(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.signal(syscall.SIGKILL)
	p.wantExit(-1)
	c.Close()
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
	if strings.Contains(p.log.String(), "in its place") {
		t.Errorf("the successor was not released:\n%s", p.log)
	}
}

// If the new process dies after the hand-over, the old one logs it, and its own sessions go on.
func TestSuccessorDies(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
	c := p.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.log.wait(t, fmt.Sprintf("pid=%d how=\"signal: killed\"", pid), 1)
	if !gone(pid) {
		t.Error("the new process is not reaped")
	}
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	p.wantExit(exitOK)
}

// A signal to stop during a restart ends both processes. The old one drains its sessions.
func TestStopDuringARestart(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			h := holdSuccessor(t)
			c := h.dial()
			if err := echoed(c); err != nil {
				t.Fatal(err)
			}
			h.signal(sig)
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%d bytes, %v, want the end", n, err)
			}
			c.Close()
			h.wantExit(exitOK)
			if !gone(h.next) {
				t.Error("the new process is left")
			}
			h.ear.want("STOPPING=1")
			h.ear.wantSilence()
		})
	}
}

// wantSilence checks that no message has come.
func (e *ear) wantSilence() {
	e.t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	b := make([]byte, 4096)
	if n, err := e.conn.Read(b); err == nil {
		e.t.Errorf("heard %q, want nothing", b[:n])
	}
}

// A signal to stop that comes when the new process already accepts ends its sessions in order too.
func TestStopDuringTheHandOver(t *testing.T) {
	h := holdSuccessor(t)
	h.stop()
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGTERM)
	h.signal(syscall.SIGCONT)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
	c.Close()
	h.wantExit(exitOK)
	if !gone(h.next) {
		t.Error("the new process is left")
	}
	h.ear.want("STOPPING=1")
	h.ear.wantSilence()
}

// A second SIGUSR2 during a restart starts no other process.
func TestRestartDuringARestart(t *testing.T) {
	h := holdSuccessor(t)
	h.signal(syscall.SIGUSR2)
	h.log.wait(t, "not restarted: a restart is already in progress", 1)
	h.log.wait(t, "msg=\"restarting: starting a new process\"\n", 1)
	if next := waitChild(t, h.cmd.Process.Pid); next != h.next {
		t.Errorf("another process %d is started beside %d", next, h.next)
	}
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	h.goOn()
	if pid := h.successor(1); pid != h.next {
		t.Errorf("the successor is %d, not %d", pid, h.next)
	}
	h.ear.want(fmt.Sprintf("MAINPID=%d\n(.|\n)*", h.next))
	h.signal(syscall.SIGUSR2) // too late, for this one
	h.log.wait(t, fmt.Sprintf("not restarted: this process has already been replaced\" by=%d", h.next), 1)
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantExit(exitOK)
	kill(t, h.next)
	wantExitOf(t, h.next, exitOK)
}

// A new process that does not accept in time is ended, and the next restart may succeed.
func TestSuccessorIsTooSlow(t *testing.T) {
	h := holdSuccessor(t, shortTimes+"=4s") // in which a busy machine gets as far as that
	h.ear.want("READY=1\nSTATUS=restart failed: the new process does not accept after 4s")
	if !gone(h.next) {
		t.Error("it is left")
	}
	if err := call(h.addr()); err != nil {
		t.Error(err)
	}
	h.settings.Close()
	if err := os.Remove(h.settings.Name()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.settings.Name(), []byte("drain = '1m'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGUSR2)
	h.ear.want("RELOADING=1\n(.|\n)*")
	h.ear.want("MAINPID=.*\n(.|\n)*")
	pid := h.successor(1)
	h.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart succeeds also if the old process is stopped (SIGSTOP) while the new one begins to accept.
func TestStoppedDuringTheHandOver(t *testing.T) {
	h := holdSuccessor(t, shortTimes+"=3s")
	h.stop()
	late := time.After(3 * time.Second) // more than it has for its start
	h.goOn()
	h.out.wait(t, "listening on ", 2)
	c := h.dial()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	<-late
	h.signal(syscall.SIGCONT)
	if pid := h.successor(1); pid != h.next {
		t.Errorf("the successor is %d, not %d", pid, h.next)
	}
	if err := echoed(c); err != nil {
		t.Error(err)
	}
	c.Close()
	h.wantExit(exitOK)
	kill(t, h.next)
	wantExitOf(t, h.next, exitOK)
}

// deaf starts a server whose successor is another program, which sends no message.
func deaf(t *testing.T, env ...string) (p *process, next int) {
	t.Helper()
	return scripted(t, "exec sleep 1000", env...)
}

// scripted starts a server whose successor is a shell script.
func scripted(t *testing.T, script string, env ...string) (p *process, next int) {
	t.Helper()
	reap(t)
	path := filepath.Join(tempDir(t), "program")
	copyOf(t, path)
	cmd := exec.Command(path, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Env = env
	p = launch(t, cmd)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	next = waitChild(t, cmd.Process.Pid)
	return p, next
}

// A new process that is another program is killed, and the old one goes on.
func TestSuccessorIsAnotherProgram(t *testing.T) {
	p, next := deaf(t, shortTimes+"=500ms")
	p.log.wait(t, "the restart has failed; this process goes on\" err=\"the new process does not accept after 500ms\"", 1)
	if !gone(next) {
		t.Error("it is left")
	}
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// A new process that closes the channel and lives on is killed too.
func TestSuccessorClosesTheChannel(t *testing.T) {
	gate := filepath.Join(tempDir(t), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	p, next := scripted(t, "read x <"+gate+"; exec sleep 1000 3>&-")
	openFifo(t, gate).Close() // the script goes on
	p.log.wait(t, "the restart has failed; this process goes on\" err=\"the new process ended before it accepted: signal: killed\"", 1)
	if !gone(next) {
		t.Error("it is left")
	}
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// After a second signal to stop, the program does not wait for a new process that does not listen.
func TestAbortDuringARestart(t *testing.T) {
	p, next := deaf(t)
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "draining; ", 1)
	began := time.Now()
	p.signal(syscall.SIGTERM)
	p.wantExit(exitFault)
	if took := time.Since(began); took > endTimeout/2 {
		t.Errorf("it took %v", took)
	}
	if !gone(next) {
		t.Error("the new process is left")
	}
}

// After the hand-over, signals stop and abort the old process as any other. They do not affect the new one.
func TestSignalsAfterTheHandOver(t *testing.T) {
	for _, abort := range []bool{false, true} {
		reap(t)
		p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m")
		c := p.dial()
		if err := echoed(c); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGUSR2)
		pid := p.successor(1)
		p.signal(syscall.SIGTERM)
		want := exitOK
		if abort {
			p.log.wait(t, "draining; ", 1)
			p.signal(syscall.SIGTERM) // c is open: it lingers
			want = exitFault
		} else if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v, want the end", n, err)
		} else {
			c.Close()
		}
		p.wantExit(want)
		c.Close()
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
		kill(t, pid)
		wantExitOf(t, pid, exitOK)
	}
}
