package echoserver

import (
	"syscall"
	"testing"
)

// After a restart the new process speaks WebSocket on the socket that it has taken over, and a session of the old one goes on.
func TestWebSocketRestart(t *testing.T) {
	reap(t)
	p := spawn(t, "-addr", "127.0.0.1:0", "-drain", "1m", "-ws", "/ws")
	held := mustWebSocket(t, p.server)
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	if err := echoed(mustWebSocket(t, p.server)); err != nil {
		t.Error(err)
	}
	if err := echoed(held); err != nil {
		t.Errorf("a session from before the restart: %v", err)
	}
	held.Close()
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}
