package echoserver

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// After a restart, clients resume the sessions that they had with earlier processes, and a self-signed certificate is the same. The secrets
// are in no argument, no variable and no file.
func TestTLSRestart(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m", "-tls-self-signed")
	config := pinning(t, p.logged())
	if tlsCall(t, p.addr(), config).DidResume {
		t.Error("the first session was resumed")
	}
	pid := p.cmd.Process.Pid
	for n := 1; n <= 3; n++ {
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		before := pid
		pid = p.successor(n)
		if n == 1 {
			p.wantExit(exitOK)
		} else {
			wantExitOf(t, before, exitOK)
		}
		if !tlsCall(t, p.addr(), config).DidResume {
			t.Errorf("restart %d: the session was not resumed", n)
		}
		if tlsCall(t, p.addr(), pinning(t, p.logged())).DidResume {
			t.Errorf("restart %d: a client without a session has resumed one", n)
		}
		env := environOf(t, pid)
		if env[secretsFD] == "" || len(env[secretsFD]) > 3 {
			t.Errorf("restart %d: %s=%q", n, secretsFD, env[secretsFD])
		}
		if to, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + env[secretsFD]); err == nil && strings.HasPrefix(to, "pipe:") {
			t.Errorf("restart %d: the pipe is still open", n)
		}
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart whose certificate has become bad leaves the old process in place. With files, too, sessions are resumed.
func TestTLSRestartWithFiles(t *testing.T) {
	reap(t)
	dir := t.TempDir()
	first := newPair(t, dir, 0)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m", "-tls-cert", first.cert, "-tls-key", first.key)
	config := pinning(t, fingerprint(first.leaf))
	tlsCall(t, p.addr(), config)

	key, err := os.ReadFile(first.key)
	if err != nil {
		t.Fatal(err)
	}
	first.write(t, first.key, []byte("nothing"), 1)
	p.signal(syscall.SIGUSR2)
	p.log.wait(t, "the restart has failed; this process goes on", 1)
	p.log.wait(t, "exit status 2", 1)
	if !tlsCall(t, p.addr(), config).DidResume {
		t.Error("not resumed after a restart that failed")
	}
	first.write(t, first.key, key, 2)
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if !tlsCall(t, p.addr(), config).DidResume {
		t.Error("not resumed after the restart")
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}
