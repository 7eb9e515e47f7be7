package engine

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// dog is a watchdog whose clock is the test's, on loops that do not run: the test shows the callbacks.
type dog struct {
	*loopWatch
	t   *testing.T
	log *logBook
	now time.Duration
}

const (
	looksEvery = 25 * time.Millisecond
	warnAfter  = 4 * looksEvery
)

func newDog(t *testing.T, loops int) *dog {
	t.Helper()
	d := &dog{t: t, log: &logBook{}, now: time.Second}
	e, err := New(Options{Loops: loops, StallWarning: warnAfter, Logger: slog.New(d.log)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range loops {
		l, err := newLoop(e, i, e.options.limits())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		e.loops = append(e.loops, l)
	}
	d.loopWatch = newLoopWatch(e, d.now)
	return d
}

func (d *dog) enter(loop int, c session.Callback) { d.engine.loops[loop].scratch.Enter(c, nil) }
func (d *dog) leave(loop int)                     { d.engine.loops[loop].scratch.Leave() }

// looks has it look that many times.
func (d *dog) looks(n int) {
	for range n {
		d.now += looksEvery
		d.tick(d.now)
	}
}

// want checks what a loop's statistics say, and how many lines there are.
func (d *dog) want(loop int, stalls uint64, stalled time.Duration, lines int) {
	d.t.Helper()
	logged(d.t, d.engine)
	s := d.engine.loops[loop].stats()
	if s.Stalls != stalls || s.Stalled != stalled {
		d.t.Errorf("at %v loop %d has %d stalls of %v, want %d of %v", d.now, loop, s.Stalls, s.Stalled, stalls, stalled)
	}
	if n := len(d.log.all()); n != lines {
		d.t.Errorf("at %v there are %d lines, want %d", d.now, n, lines)
	}
}

// The watchdog rests when no loop has run a callback for ten rounds, and the first loop that runs one stirs it. A loop that holds out, or
// has run something since, keeps it up.
func TestWatchdogMayRest(t *testing.T) {
	d := newDog(t, 2)
	rounds := func() int {
		for n := 1; n <= 100; n++ {
			d.looks(1)
			if d.mayRest() {
				return n
			}
		}
		return 0
	}
	stirred := func() bool {
		select {
		case <-d.engine.stirred:
			return true
		default:
			return false
		}
	}
	run := func(loop int) {
		d.enter(loop, session.CallRecv)
		d.leave(loop)
	}
	if n := rounds(); n != restRounds {
		t.Errorf("it rests after %d rounds, want %d", n, restRounds)
	}
	for loop := range 2 {
		run(loop)
		if !stirred() {
			t.Errorf("a callback of loop %d has not stirred it", loop)
		}
		if n := rounds(); n != restRounds+1 { // the first of them sees that it has run
			t.Errorf("it rests %d rounds after a callback of loop %d, want %d", n, loop, restRounds+1)
		}
	}
	run(0)
	run(1)
	if !stirred() || stirred() {
		t.Error("two loops do not stir it once")
	}
	for range 3 * restRounds {
		d.looks(1)
		run(1)
		if d.mayRest() {
			t.Fatal("it rests while a loop works")
		}
	}
	d.enter(0, session.CallRecv)
	if n := rounds(); n != 0 {
		t.Errorf("it rests %d rounds after a callback has begun that does not return", n)
	}
	d.leave(0)
}

// A callback that ends the watchdog's rest is a stall when it has lasted for as long as any other: what the watchdog did not look is not held against
// it, nor taken off.
func TestWatchdogAfterARest(t *testing.T) {
	d := newDog(t, 1)
	d.looks(restRounds)
	d.now += time.Hour
	d.enter(0, session.CallRecv)
	d.tick(d.now)
	d.looks(3)
	d.want(0, 0, 0, 0)
	d.looks(1)
	d.want(0, 1, 0, 1)
	d.leave(0)
	d.looks(1)
	d.want(0, 1, warnAfter+looksEvery, 1)
}

// A stall is found when it has been seen for StallWarning, not before, once, and timed when it is over.
func TestWatchdogFindsAStall(t *testing.T) {
	d := newDog(t, 1)
	d.enter(0, session.CallPost)
	d.looks(4) // the first has seen it begin
	d.want(0, 0, 0, 0)
	d.looks(1)
	d.want(0, 1, 0, 1)
	line := d.log.all()[0]
	if line["callback"].String() != "Post" || line["for"].String() != "100ms" || line["loop"].String() != "0" ||
		line["level"].Any() != slog.LevelWarn {
		t.Errorf("line %v", line)
	}
	d.looks(100)
	d.want(0, 1, 0, 1)
	d.leave(0)
	d.looks(1)
	const took = 105 * looksEvery
	d.want(0, 1, took, 1)
	times := &d.engine.loops[0].shared.Times
	if h := &times[session.CallPost]; h.Count() != 1 || h.Longest() != took {
		t.Errorf("%d stalls were timed, the longest %v, want one of %v", h.Count(), h.Longest(), took)
	}
	if n := times[session.CallRecv].Count(); n != 0 {
		t.Errorf("%d callbacks of another kind were timed", n)
	}
	d.looks(100)
	d.want(0, 1, took, 1)
}

// Callbacks that follow one another are none, however like each other they are; nor is a loop that waits.
func TestWatchdogSeesCallbacksApart(t *testing.T) {
	d := newDog(t, 1)
	d.looks(100)
	for range 100 {
		d.enter(0, session.CallRecv)
		d.looks(4)
		d.leave(0)
	}
	d.want(0, 0, 0, 0)
	d.enter(0, session.CallRecv)
	d.looks(5)
	d.want(0, 1, 0, 1)
	d.leave(0)
	d.enter(0, session.CallRecv) // at once: that is the end of the stall, and no other one
	d.looks(1)
	d.want(0, 1, 5*looksEvery, 1)
	d.looks(3)
	d.want(0, 1, 5*looksEvery, 1)
}

// A loop's stalls are logged once a second at most, and the next line tells how many were left out. All are counted.
func TestWatchdogLogsOnceASecond(t *testing.T) {
	d := newDog(t, 1)
	stall := func() {
		d.enter(0, session.CallRecv)
		d.looks(5)
		d.leave(0)
		d.looks(1)
	}
	for range 7 { // 150 ms each; the last is found 900 ms after the first
		stall()
	}
	d.want(0, 7, 7*5*looksEvery, 1)
	d.enter(0, session.CallRecv)
	d.looks(5)
	d.want(0, 8, 7*5*looksEvery, 2)
	all := d.log.all()
	if _, told := all[0]["left_out"]; told {
		t.Errorf("the first line tells of some left out: %v", all[0])
	}
	if got := all[1]["left_out"].String(); got != "6" {
		t.Errorf("the second line tells of %s left out, want 6", got)
	}
	d.leave(0)
	d.looks(40)
	stall()
	logged(t, d.engine)
	if _, told := d.log.all()[2]["left_out"]; told {
		t.Error("they are told of again")
	}
}

// Each loop has its own stalls and lines.
func TestWatchdogOfSeveralLoops(t *testing.T) {
	d := newDog(t, 3)
	d.enter(0, session.CallRecv)
	d.looks(2)
	d.enter(2, session.CallSend)
	d.looks(3)
	d.want(0, 1, 0, 1)
	d.looks(2)
	d.want(2, 1, 0, 2)
	d.want(1, 0, 0, 2)
	d.leave(0)
	d.looks(1)
	d.want(0, 1, 7*looksEvery, 2)
	d.want(2, 1, 0, 2)
	if line := d.log.all()[1]; line["loop"].String() != "2" || line["callback"].String() != "OnSend" {
		t.Errorf("line %v", line)
	}
}

// A factory and Admit have no session yet: whose connection it is, is told.
func TestWatchdogNamesTheConnection(t *testing.T) {
	for _, c := range []session.Callback{session.CallFactory, session.CallAdmit, session.CallRecv} {
		d := newDog(t, 1)
		d.engine.loops[0].making.Store(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7})
		d.engine.loops[0].opening.Store(3)
		d.enter(0, c)
		d.looks(5)
		logged(t, d.engine)
		line, want := d.log.all()[0], "192.0.2.1:7"
		if c == session.CallRecv {
			want = ""
		}
		if got := line["remote"].String(); got != want && !(want == "" && line["remote"].Any() == nil) {
			t.Errorf("%v: remote %q, want %q", c, got, want)
		}
		if line["waiting"].String() != "3" || line["sessions"].String() != "0" {
			t.Errorf("%v: %v of %v wait, want the 3 that are to be opened of 0", c, line["waiting"], line["sessions"])
		}
	}
}

// What waits in sockets is counted by descriptor, however many there are.
func TestUnread(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		defer unix.Close(fd)
	}
	if _, err := unix.Write(pair[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	var ask []unix.PollFd
	for range 1500 { // more than are asked for at once
		ask = append(ask, unix.PollFd{Fd: int32(pair[0]), Events: unix.POLLIN}, unix.PollFd{Fd: int32(pair[1]), Events: unix.POLLIN})
	}
	if n := unread(ask); n != 1500 {
		t.Errorf("bytes wait in %d sockets, want 1500", n)
	}
	if n := unread(nil); n != 0 {
		t.Errorf("bytes wait in %d of no sockets", n)
	}
}
