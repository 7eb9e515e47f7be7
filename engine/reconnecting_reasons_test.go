package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// For each reason the documentation of Reconnect says whether another session follows.
func TestReconnectReasons(t *testing.T) {
	kit.NoLeaks(t)
	for _, tt := range []struct {
		reason  error
		follows bool
	}{
		{session.ErrPeerClosed, true}, {session.ErrPeerReset, true}, {session.ErrSendLimit, true}, {session.ErrIdle, true},
		{session.ErrWriteStall, true}, {session.ErrRecvRate, true}, {session.ErrPanic, true}, {frame.ErrTooLarge, true},
		{frame.ErrMalformed, true}, {fmt.Errorf("wrapped: %w", session.ErrRecvRate), true},
		{session.ErrDisconnected, false}, {session.ErrAborted, false}, {session.ErrDrainTimeout, false}, {session.ErrShutdown, false},
		{errors.New("one of the application's own"), false},
	} {
		t.Run(tt.reason.Error(), func(t *testing.T) {
			t.Parallel()
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
			c := kit.Dialler(t, engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, kit.Hooks{})
			p := c.DialTo(s.Listener.Addr(), engine.Reconnect(soon))
			kit.Await(t, c.Arrivals, "OnConnected")
			p.DisconnectWith(tt.reason)
			kit.Await(t, p.Ended, "OnDisconnected")
			if tt.follows {
				kit.Await(t, c.Arrivals, "OnConnected of the session that follows")
				return
			}
			// A session that is replaced several times, with the same delays, is the clock.
			clock := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
			clock.DialTo(s.Listener.Addr(), engine.Reconnect(soon))
			for range 6 {
				kit.Await(t, clock.Arrivals, "OnConnected")
			}
			if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
				t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
			}
		})
	}
}

// MaxDelay bounds the delays, and Jitter randomizes them: off, two diallers keep step to the tick.
func TestReconnectMaxDelay(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
	began := time.Now()
	c.DialTo(s.Listener.Addr(), engine.Reconnect(engine.Policy{BaseDelay: time.Millisecond, Multiplier: 1000, MaxDelay: 5 * time.Millisecond, Timeout: kit.Patience}))
	for range 10 { // without the bound the third would come after a second, the fourth after a quarter of an hour
		kit.Await(t, c.Arrivals, "OnConnected")
	}
	if took := time.Since(began); took < 8*4*time.Millisecond {
		t.Errorf("10 sessions within %v, with delays of 4 ms or more", took)
	}
}

// Abort of a session whose peer has finished is the application's own end: nothing follows it.
func TestReconnectAbortAfterTheFIN(t *testing.T) {
	kit.NoLeaks(t)
	l := kit.Listen(t, "tcp")
	c := kit.Dialler(t, engine.Options{Loops: 1, SendBuffer: 16 << 10, SendLimit: 64 << 20, DrainTimeout: -1}, kit.Hooks{})
	p := c.DialTo(l.Addr(), engine.Reconnect(soon))
	remote := kit.Accept(t, l)
	kit.Must(t, p.Send(kit.Stream()[:16<<20])) // more than the kernel takes
	kit.CloseWrite(t, remote)
	kit.Eventually(t, "the FIN has been seen", func() bool { return errors.Is(p.Err(), session.ErrPeerClosed) })
	p.Abort()
	kit.Await(t, p.Ended, "OnDisconnected")
	clock := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
	other := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
	clock.DialTo(other.Listener.Addr(), engine.Reconnect(soon))
	for range 6 {
		kit.Await(t, clock.Arrivals, "OnConnected")
	}
	if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
		t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
	}
}
