package session_test

import (
	"errors"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// Everything that a session does is counted once.
func TestCountersOfASession(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{PauseAbove: 4}, h)
	counters := &l.Shared.Counters
	want := func(what string, got *session.Counter, n uint64) {
		t.Helper()
		if got.Load() != n {
			t.Errorf("%s: %d, want %d", what, got.Load(), n)
		}
	}
	c.PeerWrite([]byte("hello"))
	l.Run()
	want("BytesIn", &counters.BytesIn, 5)
	want("MessagesIn", &counters.MessagesIn, 1)
	want("Pauses", &counters.Pauses, 0)

	h.PauseRecv()
	l.Run()
	want("Pauses by hand", &counters.Pauses, 1)
	h.ResumeRecv()
	l.Run()
	want("Pauses, resumed", &counters.Pauses, 1)

	c.Kernel = 3
	mustSend(t, h, "12345678")
	l.Run()
	want("BytesOut", &counters.BytesOut, 3)
	want("Writes", &counters.Writes, 1)
	want("WouldBlock", &counters.WouldBlock, 1)
	want("MessagesOut", &counters.MessagesOut, 1)
	want("Pauses by the queue", &counters.Pauses, 2)

	h.Abort()
	l.Run()
	want("BytesDropped", &counters.BytesDropped, 5)
	want("Ended", &counters.Ended[session.CauseAborted], 1)
	if !errors.Is(h.Err(), session.ErrAborted) {
		t.Errorf("Err: %v", h.Err())
	}
}

// Each reason is counted as its own cause.
func TestEachReasonHasItsCause(t *testing.T) {
	for cause, reason := range map[session.Cause]error{
		session.CausePanic: session.ErrPanic, session.CauseDrainTimeout: session.ErrDrainTimeout, session.CauseWriteStall: session.ErrWriteStall,
		session.CauseSendBudget: session.ErrSendBudget, session.CauseSendLimit: session.ErrSendLimit, session.CauseRecvRate: session.ErrRecvRate,
		session.CauseIdle: session.ErrIdle, session.CauseShutdown: session.ErrShutdown, session.CauseAborted: session.ErrAborted,
		session.CauseDisconnected: session.ErrDisconnected, session.CausePeerReset: session.ErrPeerReset,
		session.CausePeerClosed: session.ErrPeerClosed, session.CauseOther: errors.New("one of the application's own"),
	} {
		h := &testkit.Handler{}
		l, c := connect(t, session.Limits{}, h)
		c.Driver.Kill(reason)
		l.Run()
		for other := range session.Causes {
			want := uint64(0)
			if other == cause {
				want = 1
			}
			if n := l.Shared.Counters.Ended[other].Load(); n != want {
				t.Errorf("%v: cause %d is counted %d times, want %d", reason, other, n, want)
			}
		}
	}
}
