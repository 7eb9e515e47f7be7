package servercore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// For each reason the documentation of Reconnect says whether another session follows.
func TestReconnectReasons(t *testing.T) {
	noLeaks(t)
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
			s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{})
			c := dialler(t, engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, hooks{})
			p := c.to(s.listener.Addr(), engine.Reconnect(soon))
			await(t, c.arrivals, "OnConnected")
			p.DisconnectWith(tt.reason)
			await(t, p.ended, "OnDisconnected")
			if tt.follows {
				await(t, c.arrivals, "OnConnected of the session that follows")
				return
			}
			// A session that is replaced several times, with the same delays, is the clock.
			clock := dialler(t, engine.Options{Loops: 1}, hooks{connected: func(p *peer) { p.DisconnectWith(session.ErrIdle) }})
			clock.to(s.listener.Addr(), engine.Reconnect(soon))
			for range 6 {
				await(t, clock.arrivals, "OnConnected")
			}
			if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
				t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
			}
		})
	}
}

// MaxDelay bounds the delays, and Jitter randomizes them: off, two diallers keep step to the tick.
func TestReconnectMaxDelay(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{})
	c := dialler(t, engine.Options{Loops: 1}, hooks{connected: func(p *peer) { p.DisconnectWith(session.ErrIdle) }})
	began := time.Now()
	c.to(s.listener.Addr(), engine.Reconnect(engine.Policy{BaseDelay: time.Millisecond, Multiplier: 1000, MaxDelay: 5 * time.Millisecond, Timeout: patience}))
	for range 10 { // without the bound the third would come after a second, the fourth after a quarter of an hour
		await(t, c.arrivals, "OnConnected")
	}
	if took := time.Since(began); took < 8*4*time.Millisecond {
		t.Errorf("10 sessions within %v, with delays of 4 ms or more", took)
	}
}

// Abort of a session whose peer has finished is the application's own end: nothing follows it.
func TestReconnectAbortAfterTheFIN(t *testing.T) {
	noLeaks(t)
	l := listen(t, "tcp")
	c := dialler(t, engine.Options{Loops: 1, SendBuffer: 16 << 10, SendLimit: 64 << 20, DrainTimeout: -1}, hooks{})
	p := c.to(l.Addr(), engine.Reconnect(soon))
	remote := accept(t, l)
	must(t, p.Send(stream()[:16<<20])) // more than the kernel takes
	closeWrite(t, remote)
	eventually(t, "the FIN has been seen", func() bool { return errors.Is(p.Err(), session.ErrPeerClosed) })
	p.Abort()
	await(t, p.ended, "OnDisconnected")
	clock := dialler(t, engine.Options{Loops: 1}, hooks{connected: func(p *peer) { p.DisconnectWith(session.ErrIdle) }})
	other := serve(t, "tcp", engine.Options{Loops: 1}, hooks{})
	clock.to(other.listener.Addr(), engine.Reconnect(soon))
	for range 6 {
		await(t, clock.arrivals, "OnConnected")
	}
	if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
		t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
	}
}
