package engine

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
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
	t.Cleanup(l.release)
	return l
}

// bring has a newcomer wait for the loop.
func bring(t *testing.T, l *loop, null *os.File) {
	t.Helper()
	fd, err := unix.Dup(int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	l.engine.sessions.Add(1)
	l.welcome(newcomer{fd: fd, origin: &origin{network: "tcp", factory: func() session.Handler {
		t.Error("a session was made")
		return nil
	}}})
}

// T5: a loop that ends refuses all newcomers, however many; a turn has not the time for more than some hundreds.
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
	l.ended = gerrors.ErrEngineShutdown
	l.sweep()
	if waiting, counted := l.opening.Load(), l.engine.sessions.Load(); waiting != 0 || counted != 0 {
		t.Errorf("%d newcomers wait still, %d are counted", waiting, counted)
	}
}

// T5: a loop whose poller has failed makes no session any more, though the engine does not know it yet; and it refuses whoever
// is brought to it until it is told to end.
func TestFaultRefusesNewcomers(t *testing.T) {
	l := unstarted(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	bring(t, l, null)
	l.ended = errors.New("the poller has failed")
	go l.run(false)
	emptied := func() { // and nobody has said that it should end
		t.Helper()
		for range 5000 {
			if l.engine.sessions.Load() == 0 {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatal("the newcomer was not refused within 5 s")
	}
	emptied()
	bring(t, l, null)
	emptied()
	close(l.quit)
	receive(t, l.gone)
}

// L4: a loop that was told to end while content took its goroutine down ends: the notice may be lost with the goroutine.
func TestGoexitLosesNoEnd(t *testing.T) {
	l := unstarted(t)
	l.woken.Store(true) // nobody wakes it any more
	close(l.quit)
	go l.run(true)
	receive(t, l.gone)
}
