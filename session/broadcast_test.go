package session_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

func wantReached(t testing.TB, g *session.Group, want int, p string, except ...session.Handler) {
	t.Helper()
	if got := g.Broadcast([]byte(p), except...); got != want {
		t.Errorf("Broadcast(%.20q) reached %d, want %d", p, got, want)
	}
}

// R1: a Broadcast is queued for every member but those excepted when it returns, so what its goroutine sends next comes next.
func TestBroadcastReachesAllButThoseExcepted(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	wantReached(t, &g, 0, "nobody hears this")
	h, c := roomOf(l, &g, 8)
	wantReached(t, &g, 8, "all ")
	mustSend(t, h[0], "zero ")
	wantReached(t, &g, 7, "not zero ", h[0])
	wantReached(t, &g, 2, "few ", h[0], h[1], h[2], h[3], h[4], h[5], h[5], nil)
	wantReached(t, &g, 8, "", nil)
	for _, x := range h {
		if x.Pending() == 0 {
			t.Error("Broadcast returned and nothing waits")
		}
	}
	l.Run()
	wantWire(t, c[0], "all zero ")
	wantWire(t, c[5], "all not zero ")
	wantWire(t, c[7], "all not zero few ")
	wantSent(t, h[7], 17, 17)
}

// R1: what a callback broadcasts leaves when it returns, for the session itself too, which is not woken for it.
func TestBroadcastInCallback(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	h, c := roomOf(l, &g, 3)
	h[0].Recv = func(x *testkit.Handler, p []byte) { wantReached(t, &g, 3, string(p)) }
	c[0].PeerWrite([]byte("hello"))
	c[0].Serve(testkit.Input)
	wantWire(t, c[0], "hello")
	if len(c[0].Writes) != 1 || c[0].Wakes() != 0 {
		t.Errorf("%d writes and %d wakes for the one that speaks", len(c[0].Writes), c[0].Wakes())
	}
	l.Run()
	wantWire(t, c[1], "hello")
	wantWire(t, c[2], "hello")
}

// R2: each loop is woken once at most for a Broadcast, and a loop with nothing to do not at all.
func TestBroadcastWakesEachLoopOnce(t *testing.T) {
	var g session.Group
	var loops []*testkit.Loop
	var conns []*testkit.Conn
	for range 5 {
		l := newLoop(t, session.Limits{})
		loops = append(loops, l)
		_, c := roomOf(l, &g, 20)
		conns = append(conns, c...)
	}
	idle := newLoop(t, session.Limits{})
	idle.Connect(&testkit.Handler{})
	for range 3 { // the loops do not look meanwhile
		wantReached(t, &g, 100, "x")
	}
	for _, l := range loops {
		if l.Wakeups() != 1 {
			t.Errorf("%d wake-ups", l.Wakeups())
		}
		l.Run()
	}
	for _, c := range conns {
		wantWire(t, c, "xxx")
		if c.Wakes() != 1 || len(c.Writes) != 1 {
			t.Errorf("%d turns asked for, %d writes", c.Wakes(), len(c.Writes))
		}
	}
	if idle.Wakeups() != 0 {
		t.Error("a loop without members was woken")
	}
}

// R2: one copy of a long message, whatever the number of members, and none of the caller's memory is kept.
func TestBroadcastCopiesOnce(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	_, c := roomOf(l, &g, 50)
	var want bytes.Buffer
	for i, size := range []int{10, 511, 512, 513, 5_000, 70_000} {
		before := pool.Live()
		p := bytes.Repeat([]byte{byte('a' + i)}, size)
		want.Write(p)
		if n := g.Broadcast(p); n != 50 {
			t.Fatalf("reached %d", n)
		}
		clear(p)
		switch made := pool.Live() - before; {
		case (i == 0 || size >= 512) && made != 1:
			t.Errorf("%d bytes to 50 members take %d buffers", size, made)
		case made > 50: // behind others, in pages of the queues' own
			t.Errorf("%d bytes to 50 members take %d buffers", size, made)
		}
	}
	for _, x := range c {
		x.MaxWrite = 1000
	}
	l.Run()
	for _, x := range c {
		wantWire(t, x, want.String())
	}
}

// R1: all members get the Broadcasts of a group in one order, whichever goroutine makes them.
func TestBroadcastsHaveOneOrder(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	_, c := roomOf(l, &g, 30)
	speak(4, func(speaker int) {
		for range 200 {
			g.Broadcast([]byte{byte('a' + speaker)})
		}
	})
	l.Run()
	if len(c[0].Wire) != 800 {
		t.Fatalf("%d bytes", len(c[0].Wire))
	}
	for _, x := range c[1:] {
		wantWire(t, x, string(c[0].Wire))
	}
}

// speak runs f on n goroutines and waits for them.
func speak(n int, f func(speaker int)) {
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			f(i)
		}()
	}
	for range n {
		<-done
	}
}

// R4: one that is ending is a member until its end, and is not reached.
func TestEndingMembersAreNotReached(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	h, c := roomOf(l, &g, 2)
	wantReached(t, &g, 2, "last words")
	h[0].Disconnect()
	wantReached(t, &g, 1, ", and more")
	l.Run()
	wantMembers(t, &g, h[0], h[1])
	wantWire(t, c[0], "last words")
	c[0].PeerFIN()
	l.Run()
	wantMembers(t, &g, h[1])
	if g.Skipped() != 0 {
		t.Errorf("%d skipped", g.Skipped())
	}
}

// R3: a member whose queue is full misses what does not fit, or is ended, and is counted. The others do not notice.
func TestMemberWithAFullQueueMissesOrEnds(t *testing.T) {
	for _, tt := range []struct {
		name               string
		limitEnds, endSlow bool
	}{{name: "skipped"}, {name: "ended by the group", endSlow: true}, {name: "ended by SlowPeer", limitEnds: true}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t, session.Limits{SendLimit: 10, EndSlow: tt.limitEnds})
			g := session.Group{EndSlow: tt.endSlow}
			h, c := roomOf(l, &g, 3)
			c[1].Kernel = 1
			wantReached(t, &g, 3, "123456")
			l.Run()
			wantReached(t, &g, 3, "7890a") // 5 and 5 wait
			l.Run()
			wakes := l.Wakeups()
			wantReached(t, &g, 2, "bcd")
			if g.Skipped() != 1 {
				t.Errorf("%d skipped, want 1", g.Skipped())
			}
			if n := l.Wakeups() - wakes; n != 1 {
				t.Errorf("%d wake-ups", n)
			}
			l.Run()
			wantWire(t, c[0], "1234567890abcd")
			wantWire(t, c[2], "1234567890abcd")
			if tt.limitEnds || tt.endSlow {
				wantClosed(t, c[1], true)
				if !errors.Is(h[1].Err(), session.ErrSendLimit) {
					t.Errorf("Err: %v", h[1].Err())
				}
				wantMembers(t, &g, h[0], h[2])
				return
			}
			wantMembers(t, &g, h[0], h[1], h[2])
			c[1].Kernel = 0
			c[1].PeerRead(1)
			l.Run()
			wantReached(t, &g, 3, "e")
			l.Run()
			wantWire(t, c[1], "1234567890ae")
			if g.Skipped() != 1 || h[1].Err() != nil {
				t.Errorf("%d skipped, Err %v", g.Skipped(), h[1].Err())
			}
		})
	}
}

// A member that waits for the kernel costs no wake-up.
func TestBroadcastToBlockedMembersDoesNotWake(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	h, c := roomOf(l, &g, 3)
	for _, x := range c {
		x.Kernel = 1
	}
	wantReached(t, &g, 3, "ab")
	l.Run()
	wakes := l.Wakeups()
	wantReached(t, &g, 3, "c")
	if l.Wakeups() != wakes || h[0].Pending() != 2 {
		t.Errorf("%d wake-ups, %d bytes wait", l.Wakeups()-wakes, h[0].Pending())
	}
}

// counting is a framer of the application's that counts its work and runs a hook in it.
type counting struct {
	frame.ServerCore
	n  *int
	do func()
}

func (f counting) Append(dst, payload []byte) ([]byte, error) {
	*f.n++
	if f.do != nil {
		f.do()
	}
	return f.ServerCore.Append(dst, payload)
}

// framedRoom connects n sessions with a framing and has them join g.
func framedRoom(t *testing.T, l *testkit.Loop, g *session.Group, f frame.Framer, n int) (handlers []*testkit.Handler, conns []*testkit.Conn) {
	t.Helper()
	framing := session.NewFraming(f)
	for range n {
		h := &testkit.Handler{Framed: true}
		c, err := l.Bind(h, framing)
		if err != nil {
			t.Fatal(err)
		}
		c.Connected()
		g.Join(h)
		handlers, conns = append(handlers, h), append(conns, c)
	}
	return handlers, conns
}

// R2: sessions with and without framers in one room each get what their framers make of a payload, made once for all that
// share one. Those whose framer refuses it are not reached.
func TestBroadcastIsFramedOncePerFraming(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	n := 0
	_, plain := roomOf(l, &g, 2)
	packets, pc := framedRoom(t, l, &g, counting{n: &n, ServerCore: frame.ServerCore{Max: 100}}, 10)
	_, lc := framedRoom(t, l, &g, frame.Line{}, 3)
	wantReached(t, &g, 15, "hello")
	if n != 1 {
		t.Errorf("a payload was framed %d times", n)
	}
	if packets[0].Pending() != 5 {
		t.Errorf("%d bytes of payload wait, want 5", packets[0].Pending())
	}
	wantReached(t, &g, 12, "no\nline")
	wantReached(t, &g, 5, strings.Repeat("x", 200))
	wantReached(t, &g, 14, "", packets[0])
	if g.Skipped() != 0 {
		t.Errorf("%d skipped", g.Skipped())
	}
	l.Run()
	long := strings.Repeat("x", 200)
	wantWire(t, plain[1], "hellono\nline"+long)
	wantWire(t, pc[0], "\x07\x00hello\x09\x00no\nline")
	wantWire(t, pc[9], "\x07\x00hello\x09\x00no\nline\x02\x00")
	wantWire(t, lc[2], "hello\n"+long+"\n\n")
	wantSent(t, packets[0], 12, 12)
	for _, h := range packets {
		g.Leave(h)
	}
	before := n
	wantReached(t, &g, 5, "nobody needs packets")
	if n != before {
		t.Error("framed for nobody")
	}
}

// I3: a framer may be the application's. It is called with nothing locked, and its panic reaches the caller of Broadcast.
func TestBroadcastCallsFramersUnlocked(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	n := 0
	fail := false
	late := &testkit.Handler{}
	l.Connect(late)
	h, c := framedRoom(t, l, &g, counting{n: &n, do: func() {
		g.Join(late) // plain: another form is needed by now
		if fail {
			panic("simulated")
		}
	}}, 2)
	wantReached(t, &g, 3, "hello")
	fail = true
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		g.Broadcast([]byte("fails"))
	}()
	fail = false
	wantMembers(t, &g, h[0], h[1], late)
	wantReached(t, &g, 3, "again")
	l.Run()
	wantWire(t, c[1], "\x07\x00hello\x07\x00again")
}
