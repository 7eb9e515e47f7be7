package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// A rate is exact also if the session is looked at at times that are no multiple of anything.
func TestRecvRateFractions(t *testing.T) {
	const rate, seconds, step = 1000, 20, 7 * time.Millisecond
	received := 0
	h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
	l, c := connectRated(t, session.Limits{}, session.Rate{BytesPerSecond: rate, BurstBytes: 1}, nil, h)
	for until := l.Now() + seconds*time.Second; l.Now() < until; {
		c.PeerWrite(make([]byte, 100))
		l.Skip(step)
		l.Run()
	}
	if received < seconds*rate*99/100 || received > seconds*rate*101/100 {
		t.Errorf("%d bytes in %d s, want %d", received, seconds, seconds*rate)
	}
	c.Driver.Kill(session.ErrAborted)
	l.Run()
}

// Each bucket begins with its own burst.
func TestRecvRateFirstBurst(t *testing.T) {
	for _, tt := range []struct {
		rate session.Rate
		want int // bytes, each of which comes in a packet of its own
	}{
		{session.Rate{BytesPerSecond: 1000, BurstBytes: 1000, PacketsPerSecond: 1, BurstPackets: 3}, 3},
		{session.Rate{BytesPerSecond: 1, BurstBytes: 3, PacketsPerSecond: 1000, BurstPackets: 1000}, 3},
	} {
		received := 0
		h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
		l, c := connectRated(t, session.Limits{}, tt.rate, nil, h)
		c.Chunk = 1
		c.PeerWrite(make([]byte, 100))
		l.Run()
		if received != tt.want {
			t.Errorf("%+v: %d bytes at once, want %d", tt.rate, received, tt.want)
		}
		c.Driver.Kill(session.ErrAborted)
		l.Run()
	}
}

// What a session does is counted, each thing once.
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

// What runs is shown while it runs, as whose it is; the first of sixteen of each kind is timed.
func TestOneCallbackInSixteenIsTimed(t *testing.T) {
	w := session.NewScratch()
	first, second := new(session.Session), new(session.Session)
	timed := make(map[session.Callback]int)
	for i := range 33 {
		s := first
		if i%2 == 1 {
			s = second
		}
		for _, c := range []session.Callback{session.CallRecv, session.CallSend} {
			if w.Enter(c, s) {
				timed[c]++
			}
			r := w.Running()
			if r.Callback != c || r.Call == 0 || w.Whose(r) != s {
				t.Fatalf("call %d: %+v runs, of the right session %t, want %v", i, r, w.Whose(r) == s, c)
			}
			w.Leave()
			if r := w.Running(); r != (session.Running{}) {
				t.Fatalf("call %d: %+v runs when it is over", i, r)
			}
			if w.Whose(r) != nil {
				t.Fatalf("call %d: it has a session when it is over", i)
			}
		}
	}
	if timed[session.CallRecv] != 3 || timed[session.CallSend] != 3 {
		t.Errorf("%v of 33 each are timed, want 3", timed)
	}
	w.Watched(false)
	if w.Enter(session.CallRecv, first) || w.Running() != (session.Running{}) {
		t.Error("what nobody watches is shown or timed")
	}
}

// A silence, however long, fills the buckets up to their bursts and not above.
func TestRecvRateBurstAfterSilence(t *testing.T) {
	received := 0
	h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
	l, c := connectRated(t, session.Limits{}, session.Rate{BytesPerSecond: 100, BurstBytes: 50, PacketsPerSecond: 1 << 20, BurstPackets: 1 << 20}, nil, h)
	for _, silence := range []time.Duration{0, time.Second, time.Hour, 24 * time.Hour} {
		l.Skip(silence)
		received = 0
		c.PeerWrite(make([]byte, 10)) // less than there is: nobody waits
		l.Run()
		c.PeerWrite(make([]byte, 1000))
		l.Run()
		if received < 50 || received > 60 { // one that waited may have a tenth of a second more
			t.Errorf("%d bytes at once after %v, want 50 to 60", received, silence)
		}
		for received < 1010 {
			l.Skip(20 * time.Millisecond)
			l.Run()
		}
	}
	c.Driver.Kill(session.ErrAborted)
	l.Run()
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
