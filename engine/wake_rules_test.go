package engine

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// byHand is a loop whose turns the test makes, and a way to bring it connections.
type byHand struct {
	*loop
	t *testing.T
}

func newByHand(t *testing.T) byHand {
	l := byHand{unstarted(t), t}
	t.Cleanup(func() { // what is left ends as it does with an engine
		l.engine.stop()
		go l.Run()
		l.Halt()
	})
	return l
}

// onItsWay reports whether a turn is on its way. If none is, it is now.
func (l byHand) onItsWay() bool { return !l.Wake() }

// bring has a connection wait to be opened. Any goroutine.
func (l byHand) bring(connected func(*plain)) {
	l.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = unix.SetNonblock(pair[0], true)
	l.t.Cleanup(func() { _ = unix.Close(pair[1]) })
	l.engine.sessions.Add(1)
	l.enqueue(pendingConn{fd: pair[0], origin: &origin{network: "unix", factory: func() session.Handler {
		s := &plain{connected: make(chan struct{})}
		connected(s)
		return s
	}}})
}

// Whatever comes in while a turn is made is served by that turn or by another one that is on its way: a loop that comes to
// rest with work waits for ever.
func TestNothingThatComesInDuringATurnWaits(t *testing.T) {
	l := newByHand(t)
	opened := 0
	var first *plain
	// In the midst of opening the first one, when the turn has no time left to look for another, ...
	l.bring(func(s *plain) {
		first = s
		time.Sleep(2 * reactor.TurnTime)
		l.bring(func(*plain) { opened++ })
	})
	l.Turn()
	if !l.onItsWay() && opened == 0 {
		t.Fatal("a connection came in during a turn; it was not opened, and no turn is on its way")
	}
	l.Turn()
	if opened != 1 {
		t.Fatalf("%d opened by the turn after it, want 1", opened)
	}

	// ... when a session of the mailbox runs, ...
	if err := first.Post(func() { l.bring(func(*plain) { opened++ }) }); err != nil {
		t.Fatal(err)
	}
	l.Turn()
	if !l.onItsWay() && opened == 1 {
		t.Fatal("a connection came in while the mailbox was served; it was not opened, and no turn is on its way")
	}
	l.Turn()
	if opened != 2 {
		t.Fatalf("%d opened by the turn after it, want 2", opened)
	}

	// ... and for a session that asks for a turn once the mailbox has been taken.
	ran := false
	if err := first.Post(func() {
		if err := first.Post(func() { ran = true }); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if l.Turn(); ran {
			break
		}
		if !l.onItsWay() {
			t.Fatal("a session asked for a turn during a turn; it had none, and no turn is on its way")
		}
	}
	if !ran {
		t.Error("a posted function did not run within three turns")
	}

	// A loop that has nothing to do comes to rest.
	for range 3 {
		l.Turn()
	}
	if l.onItsWay() {
		t.Error("a loop that has nothing to do wakes itself")
	}
}

// A turn that was not enough for everything is followed by another one.
func TestLongTurnIsFollowedByAnother(t *testing.T) {
	l := newByHand(t)
	opened := 0
	for range 5 {
		l.bring(func(*plain) {
			opened++
			time.Sleep(2 * reactor.TurnTime)
		})
	}
	turns := 0
	for opened < 5 && turns < 10 {
		turns++
		l.Turn()
		if opened < 5 && !l.onItsWay() {
			t.Fatalf("%d of 5 were opened, and no turn is on its way", opened)
		}
	}
	if opened != 5 || turns < 2 {
		t.Errorf("%d were opened in %d turns, want 5 in several", opened, turns)
	}
}
