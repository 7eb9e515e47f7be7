package engine

import (
	"testing"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"golang.org/x/sys/unix"

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
		l.ended = gerrors.ErrEngineShutdown
		l.sweep()
	})
	return l
}

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
	l.welcome(newcomer{fd: pair[0], origin: &origin{network: "unix", factory: func() session.Handler {
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
		time.Sleep(2 * turnTime)
		l.bring(func(*plain) { opened++ })
	})
	l.turn()
	if !l.woken.Load() && opened == 0 {
		t.Fatal("a connection came in during a turn; it was not opened, and no turn is on its way")
	}
	l.turn()
	if opened != 1 {
		t.Fatalf("%d opened by the turn after it, want 1", opened)
	}

	// ... when a session of the mailbox runs, ...
	if err := first.Post(func() { l.bring(func(*plain) { opened++ }) }); err != nil {
		t.Fatal(err)
	}
	l.turn()
	if !l.woken.Load() && opened == 1 {
		t.Fatal("a connection came in while the mailbox was served; it was not opened, and no turn is on its way")
	}
	l.turn()
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
		if l.turn(); ran {
			break
		}
		if !l.woken.Load() {
			t.Fatal("a session asked for a turn during a turn; it had none, and no turn is on its way")
		}
	}
	if !ran {
		t.Error("a posted function did not run within three turns")
	}

	// A loop that has nothing to do comes to rest.
	for range 3 {
		l.turn()
	}
	if l.woken.Load() {
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
			time.Sleep(2 * turnTime)
		})
	}
	turns := 0
	for opened < 5 && turns < 10 {
		turns++
		l.turn()
		if opened < 5 && !l.woken.Load() {
			t.Fatalf("%d of 5 were opened, and no turn is on its way", opened)
		}
	}
	if opened != 5 || turns < 2 {
		t.Errorf("%d were opened in %d turns, want 5 in several", opened, turns)
	}
}

// A deadline that is brought forward moves the loop's timer, and one that is put off does not lose it.
func TestTimerOfTheLoop(t *testing.T) {
	l := newByHand(t)
	now := l.engine.now()
	l.setTimer(now + time.Hour)
	l.setTimer(now + time.Minute)
	if l.timerAt != now+time.Minute {
		t.Errorf("the timer fires after %v, want a minute", l.timerAt-now)
	}
	l.setTimer(now + 2*time.Hour)
	if l.timerAt != now+time.Minute {
		t.Errorf("the timer fires after %v, want a minute still", l.timerAt-now)
	}
	l.timer.Stop()
}

// A loop that was woken, and has not turned yet, is not woken again: one signal, however many ask.
func TestWakeOnce(t *testing.T) {
	l := newByHand(t)
	for range 2 {
		if !l.wake() {
			t.Error("a loop at rest was not woken")
		}
		if l.wake() {
			t.Error("a loop that was woken is woken again")
		}
		l.turn()
	}
}

// A connection that is closed leaves the wheel, whatever its deadline was, and events of its descriptor, which may be another's by
// then, are not its own any more.
func TestClosedConnectionIsForgotten(t *testing.T) {
	for name, opts := range map[string][]Option{"on the loop": nil, "on a worker": {Offload(1)}} {
		client, c := connect(t, Options{IdleTimeout: time.Hour}, opts...)
		exchange(t, client, 1)
		l := c.on()
		_ = client.Close()
		for deadline := time.Now().Add(5 * time.Second); l.engine.Stats().Sessions > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the session does not end")
			}
		}
		_ = l.engine.Close() // nobody is at the wheel any more
		if n := l.wheel.Len(); n != 0 {
			t.Errorf("%s: %d connections are in the wheel of a loop that has none", name, n)
		}
		if l.watched[c.fd] != nil {
			t.Errorf("%s: events of descriptor %d go to a connection that is closed", name, c.fd)
		}
	}
}
