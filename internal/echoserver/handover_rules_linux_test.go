package echoserver

import (
	"syscall"
	"testing"
)

// A new process that is refused when it already accepts is not killed: it drains its sessions and logs why.
func TestRefusedSuccessorDrains(t *testing.T) {
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
	h.log.wait(t, errRefused.Error(), 1)
	c.Close()
	h.wantExit(exitOK)
	if !gone(h.next) {
		t.Error("the new process is left")
	}
}
