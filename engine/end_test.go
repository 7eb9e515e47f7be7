package engine

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// unstarted is a loop that no goroutine runs, for tests of how one ends.
func unstarted(t *testing.T) *loop {
	t.Helper()
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(e, 0, e.options.limits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// bring has a connection wait for the loop.
func bring(t *testing.T, l *loop, null *os.File) {
	t.Helper()
	fd, err := unix.Dup(int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	l.engine.sessions.Add(1)
	l.enqueue(pendingConn{fd: fd, origin: &origin{network: "tcp", factory: func() session.Handler {
		t.Error("a session was made")
		return nil
	}}})
}

// T5: a loop that ends refuses all pending connections, however many; a turn has not the time for more than some hundreds.
func TestSweepRefusesAllNewcomers(t *testing.T) {
	l := unstarted(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for range 3000 {
		bring(t, l, null)
	}
	l.engine.stop()
	go l.Run()
	l.Halt()
	if waiting, counted := l.opening.Load(), l.engine.sessions.Load(); waiting != 0 || counted != 0 {
		t.Errorf("%d connections wait still, %d are counted", waiting, counted)
	}
}

// T5: a loop whose poller has failed makes no session any more, though the engine does not know it yet; and it refuses what
// is brought to it until it is told to end.
func TestFaultRefusesNewcomers(t *testing.T) {
	l := unstarted(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	bring(t, l, null)
	fault := errors.New("the poller has failed")
	for range 2 { // as the reactor does until Halt
		l.OnShutdown(fault)
		l.Turn()
		if waiting, counted := l.opening.Load(), l.engine.sessions.Load(); waiting != 0 || counted != 0 {
			t.Errorf("%d connections wait still, %d are counted", waiting, counted)
		}
		bring(t, l, null)
	}
	l.Turn()
	if n := l.engine.refused[refusedClosing].Load(); n != 3 {
		t.Errorf("%d were refused because of the end, want 3", n)
	}
	receive(t, l.engine.done)
	if err := l.engine.Err(); !errors.Is(err, fault) {
		t.Errorf("the engine ends with %v", err)
	}
}
