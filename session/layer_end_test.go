package session_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

var endLimits = session.Limits{Drain: 10 * time.Second, Linger: 10 * time.Second, Write: 10 * time.Second}

// wantOpen fails the test if the session has ended, or its FIN is out.
func wantOpen(t testing.TB, h *testkit.Handler, c *testkit.Conn) {
	t.Helper()
	if c.Closed || c.FINSent || h.Err() != nil {
		t.Fatalf("closed %t, FIN sent %t, Err %v: want an open session", c.Closed, c.FINSent, h.Err())
	}
}

// E1: Disconnect sends what is queued, the last word, FIN, and waits for the peer's FIN: its last word is not yet that.
func TestLayeredDisconnect(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, endLimits, h)
		p.c.Kernel = 500
		want := strings.Repeat("x", 5000)
		mustSend(t, h, want)
		l.Run()
		h.Disconnect()
		for range 100 {
			if l.Run(); p.c.FINSent {
				break
			}
			if p.read(); p.word != nil && h.Pending() > 0 {
				t.Fatal("the last word came before the queue was out")
			}
			p.c.PeerRead(100)
		}
		p.want(want, true)
		wantSent(t, h, 5000, 5000)
		if !p.c.FINSent || p.c.Closed {
			t.Fatalf("FIN sent %t, closed %t", p.c.FINSent, p.c.Closed)
		}
		p.c.PeerRead(500)
		p.send("discarded")
		p.finish(nil)
		l.Advance(time.Second)
		if p.c.Closed || !p.c.Reads || len(h.Received) > 0 {
			t.Errorf("closed %t, reads %t, OnRecv got %q", p.c.Closed, p.c.Reads, h.Received)
		}
		p.c.PeerFIN()
		l.Advance(time.Second)
		wantClosed(t, p.c, false)
		if !errors.Is(h.Err(), session.ErrDisconnected) || errors.Is(h.Err(), session.ErrPeerReset) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// The last word finds the kernel full, and FIN waits for it. It is written in part, too.
func TestLayeredLastWordWaitsForTheKernel(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, end := range []func(*session.Session){(*session.Session).Disconnect, (*session.Session).CloseWrite} {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			mustSend(t, h, "bye")
			l.Run()
			p.c.PeerRead(p.c.Held())
			p.c.Kernel = 5
			end(&h.Session)
			for steps := 0; !p.c.FINSent; steps++ {
				l.Run()
				if p.read(); p.c.FINSent != (p.word != nil) || steps > 100 {
					t.Fatalf("FIN sent %t, last word %v", p.c.FINSent, p.word)
				}
				p.c.PeerRead(5)
			}
			p.want("bye", true)
		}
	})
}

// E2: the peer's last word is its FIN. What is queued leaves first, then our last word and FIN.
func TestLayeredPeerFinishes(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Recv: func(h *testkit.Handler, p []byte) { mustSend(t, h, strings.Repeat("answer", 1000)) }}
		l, p := connectLayered(t, k, endLimits, h)
		p.c.Kernel = 1000
		p.send("question")
		p.finish(nil)
		p.c.PeerFIN()
		for range 20 {
			l.Run()
			p.c.PeerRead(1000)
		}
		l.Advance(time.Second)
		p.want(strings.Repeat("answer", 1000), true)
		wantClosed(t, p.c, false)
		if !errors.Is(h.Err(), session.ErrPeerClosed) || errors.Is(h.Err(), session.ErrTruncated) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// The peer's last word is not yet its FIN: without a linger, what it still sends would turn our close into a reset.
func TestLayeredLingersForTheFIN(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, fin := range []bool{true, false} {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.finish(nil)
			l.Advance(9 * time.Second)
			p.want("", true)
			if p.c.Closed || !p.c.FINSent || !p.c.Reads {
				t.Fatalf("closed %t, FIN sent %t, reads %t", p.c.Closed, p.c.FINSent, p.c.Reads)
			}
			if fin {
				p.c.PeerFIN()
				l.Run()
			} else {
				l.Advance(2 * time.Second)
			}
			wantClosed(t, p.c, false)
		}
	})
}

// FIN without the last word is ErrTruncated. What came before was delivered, and what is queued leaves.
func TestLayeredTruncated(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Recv: answer}
		l, p := connectLayered(t, k, endLimits, h)
		p.send("whole")
		half := p.wire(nil, "half")
		p.c.PeerWrite(half[:len(half)-1])
		p.c.PeerFIN()
		l.Run()
		p.want("whole", true)
		l.Advance(time.Second)
		wantClosed(t, p.c, false)
		if err := h.Err(); !errors.Is(err, session.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, session.ErrPeerClosed) {
			t.Errorf("Err %v", err)
		}
	})
}

// Bytes after the last word are nobody's.
func TestLayeredBytesAfterTheLastWord(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.HalfOpen{}
		l, p := connectLayered(t, k, endLimits, h)
		h.Framed = k.messages()
		p.send("before")
		p.finish(nil)
		p.c.PeerWrite([]byte("after"))
		l.Run()
		p.c.PeerWrite([]byte("long after"))
		l.Run()
		if string(h.Received) != "before" || h.Half != 1 || h.Err() != nil {
			t.Errorf("OnRecv got %q, %d OnHalfClose, Err %v", h.Received, h.Half, h.Err())
		}
		p.c.PeerFIN()
		l.Run()
		if h.Half != 1 || h.Err() != nil {
			t.Errorf("%d OnHalfClose, Err %v", h.Half, h.Err())
		}
		h.CloseWrite()
		l.Advance(time.Second)
		wantClosed(t, p.c, false)
		if !errors.Is(h.Err(), session.ErrPeerClosed) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// Both sides finish one by one, in either order.
func TestLayeredHalfClose(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		t.Run("the peer first", func(t *testing.T) {
			h := &testkit.HalfOpen{}
			l, p := connectLayered(t, k, endLimits, h)
			h.Framed = k.messages()
			p.send("request")
			p.finish(nil)
			l.Advance(time.Minute)
			if h.Half != 1 {
				t.Errorf("%d OnHalfClose", h.Half)
			}
			wantOpen(t, &h.Handler, p.c)
			mustSend(t, &h.Handler, "answer")
			l.Run()
			p.want("answer", false)
			h.CloseWrite()
			l.Run()
			p.want("answer", true)
			if !p.c.FINSent {
				t.Error("no FIN")
			}
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
			if !errors.Is(h.Err(), session.ErrPeerClosed) {
				t.Errorf("Err %v", h.Err())
			}
		})
		t.Run("our side first", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			mustSend(t, h, "all")
			h.CloseWrite()
			l.Run()
			p.want("all", true)
			if !p.c.FINSent || p.c.Closed || h.Err() != nil {
				t.Errorf("FIN sent %t, closed %t, Err %v", p.c.FINSent, p.c.Closed, h.Err())
			}
			took := p.c.Took
			p.probe("after your last word")
			p.send("still", "heard")
			l.Advance(time.Minute)
			if string(h.Received) != "stillheard" || p.c.Took != took {
				t.Errorf("OnRecv got %q, %d bytes written after the last word", h.Received, p.c.Took-took)
			}
			p.finish(nil)
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
			if !errors.Is(h.Err(), session.ErrPeerClosed) || errors.Is(h.Err(), session.ErrTruncated) {
				t.Errorf("Err %v", h.Err())
			}
		})
		t.Run("our side first, and a FIN without a last word", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			h.CloseWrite()
			l.Run()
			p.want("", true)
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
			if !errors.Is(h.Err(), session.ErrTruncated) {
				t.Errorf("Err %v", h.Err())
			}
		})
	})
}

// A probe is answered while the session drains by our decision, also one that was kept by a pause; not after the last word.
func TestLayeredProbeWhileDraining(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, paused := range []bool{false, true} {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 100
			mustSend(t, h, strings.Repeat("x", 5000))
			l.Run()
			if paused {
				h.PauseRecv()
				l.Run()
			}
			h.Disconnect()
			if paused {
				p.send("not delivered")
				p.probe("?")
				l.Run()
			} else {
				l.Run()
				p.send("not delivered")
				p.probe("?")
				l.Run()
			}
			for range 10 {
				p.c.PeerRead(100)
				l.Run()
			}
			if p.c.FINSent {
				t.Fatal("FIN while there is more to send")
			}
			p.c.Kernel = 0
			p.c.Room()
			l.Run()
			p.want(strings.Repeat("x", 5000), true)
			p.wantAnswered(1)
			took := p.c.Took
			p.probe("after your last word")
			p.send("discarded")
			l.Run()
			if len(h.Received) > 0 || p.c.Took != took || !p.c.FINSent || p.c.Backlog() > 0 {
				t.Errorf("OnRecv got %q, %d bytes written after the last word, FIN sent %t, %d bytes not read",
					h.Received, p.c.Took-took, p.c.FINSent, p.c.Backlog())
			}
		}
	})
}

// A probe that was kept by a pause is answered when the session ends.
func TestLayeredKeptProbeIsAnsweredAtTheEnd(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { h.PauseRecv() }}
		l, p := connectLayered(t, k, endLimits, h)
		p.send("one")
		p.probe("?")
		p.send("two")
		l.Run()
		h.Disconnect()
		l.Run()
		p.want("", true)
		if k.messages() { // without, the probe is opened with the first bytes
			p.wantAnswered(1)
		}
	})
}

// The peer's close code is in Err, and ours reaches the peer.
func TestLayeredCloseError(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, endLimits, h)
		p.finish(&session.CloseError{Code: 4001, Reason: "enough"})
		p.c.PeerFIN()
		l.Advance(time.Second)
		wantClosed(t, p.c, false)
		var c *session.CloseError
		err := h.Err()
		if !errors.As(err, &c) || c.Code != 4001 || c.Reason != "enough" || !errors.Is(err, session.ErrPeerClosed) || !errors.Is(err, io.EOF) {
			t.Errorf("Err %v", err)
		}
		h = &testkit.Handler{}
		l, p = connectLayered(t, k, endLimits, h)
		h.DisconnectWith(&session.CloseError{Code: 4002, Reason: "no more"})
		l.Run()
		p.want("", true)
		if c = nil; !errors.As(p.word, &c) || c.Code != 4002 || c.Reason != "no more" {
			t.Errorf("the peer got %v", p.word)
		}
		if c = nil; !errors.As(h.Err(), &c) || c.Code != 4002 {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// A peer that closes its socket behind its last word answers ours with a reset. That is an end in good order, unless bytes are at stake.
func TestLayeredResetAfterBothLastWords(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, atStake := range []bool{false, true} {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 1 << 20
			if atStake {
				mustSend(t, h, "not acknowledged")
			}
			p.finish(nil)
			l.Run()
			p.read()
			p.want(string(p.got), true)
			p.c.PeerReset(errors.New("reset by peer"))
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
			if !errors.Is(h.Err(), session.ErrPeerClosed) || errors.Is(h.Err(), session.ErrPeerReset) != atStake {
				t.Errorf("at stake %t: Err %v", atStake, h.Err())
			}
		}
	})
}

// Abort, a panic and a stall say no last word.
func TestLayeredNoLastWord(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, tt := range []struct {
			name string
			end  func(h *testkit.Handler, l *testkit.Loop, p *layeredPeer)
			is   error
		}{
			{"Abort", func(h *testkit.Handler, l *testkit.Loop, p *layeredPeer) { h.Abort() }, session.ErrAborted},
			{"panic", func(h *testkit.Handler, l *testkit.Loop, p *layeredPeer) { _ = h.Post(func() { panic("x") }) }, session.ErrPanic},
			{"stall", func(h *testkit.Handler, l *testkit.Loop, p *layeredPeer) {
				p.c.Kernel = p.c.Held() + 1
				mustSend(t, h, "stalls")
			}, session.ErrWriteStall},
			{"Abort after Disconnect", func(h *testkit.Handler, l *testkit.Loop, p *layeredPeer) {
				p.c.Kernel = p.c.Held() + 1
				mustSend(t, h, "stalls")
				l.Run()
				h.Disconnect()
				l.Run()
				p.c.Kernel = 0
				h.Abort()
			}, session.ErrAborted},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h := &testkit.Handler{}
				l, p := connectLayered(t, k, endLimits, h)
				mustSend(t, h, "hello")
				l.Run()
				tt.end(h, l, p)
				l.Run()
				l.Advance(11 * time.Second)
				wantClosed(t, p.c, true)
				p.want("hello", false)
				if !errors.Is(h.Err(), tt.is) || p.c.FINSent {
					t.Errorf("Err %v, FIN sent %t", h.Err(), p.c.FINSent)
				}
			})
		}
	})
}

// E2c: a session whose connection takes nothing more delivers what was received, and does not write what its layer has to answer.
func TestLayeredSevered(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, finishes := range []bool{false, true} {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 100
			mustSend(t, h, strings.Repeat("x", 1000))
			l.Run()
			h.PauseRecv()
			p.send("received ", "before ")
			p.probe("not answered")
			p.send("the end")
			if finishes {
				p.finish(nil)
			}
			l.Run()
			p.c.PeerReset(errors.New("reset by peer"))
			l.Run()
			writes := len(p.c.Writes)
			h.ResumeRecv()
			l.Run()
			wantClosed(t, p.c, false)
			if string(h.Received) != "received before the end" || !errors.Is(h.Err(), session.ErrPeerReset) || len(p.c.Writes) > writes {
				t.Errorf("OnRecv got %q, Err %v, %d writes too many", h.Received, h.Err(), len(p.c.Writes)-writes)
			}
		}
	})
}

// The layer's deadlines: it probes when the peer is silent, and an answer that does not come ends the session.
func TestLayeredDeadlines(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayeredWith(t, k, endLimits, h, checksum.Options{ProbeEvery: 5 * time.Second, AnswerWithin: 2 * time.Second})
		for i := range 4 {
			l.Advance(5 * time.Second)
			if n := p.ours.Counts().ProbesOut; n != i+1 {
				t.Fatalf("%d probes after %d s", n, 5*i+5)
			}
			p.read()
			p.sendOwn()
			l.Run()
		}
		wantOpen(t, h, p.c)
		l.Advance(5*time.Second + 1900*time.Millisecond)
		wantOpen(t, h, p.c)
		l.Advance(200 * time.Millisecond)
		p.want("", true)
		if !errors.Is(h.Err(), session.ErrIdle) || !p.c.FINSent {
			t.Errorf("Err %v, FIN sent %t", h.Err(), p.c.FINSent)
		}
	})
}

// No deadline of the layer counts after its last word, nor when the connection is broken.
func TestLayeredDeadlinesEnd(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayeredWith(t, k, endLimits, h, checksum.Options{ProbeEvery: 5 * time.Second, AnswerWithin: 2 * time.Second})
		l.Advance(5 * time.Second)
		h.CloseWrite()
		l.Advance(time.Hour)
		p.want("", true)
		if h.Err() != nil || p.c.Closed {
			t.Errorf("Err %v, closed %t", h.Err(), p.c.Closed)
		}
	})
}

// A deadline of the layer that has ended the session does not come again while that drains: the loop would do nothing else.
func TestLayeredDeadlineWhileDraining(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		limits := endLimits
		limits.Write = 0
		l, p := connectLayeredWith(t, k, limits, h, checksum.Options{ProbeEvery: 5 * time.Second, AnswerWithin: 2 * time.Second})
		l.Advance(6 * time.Second)
		p.c.Kernel = p.c.Held() + 10
		mustSend(t, h, strings.Repeat("x", 1000))
		l.Advance(2 * time.Second)
		if !errors.Is(h.Err(), session.ErrIdle) || p.c.Closed || p.c.Armed <= l.Now() {
			t.Errorf("Err %v, closed %t, armed at %v, now %v", h.Err(), p.c.Closed, p.c.Armed, l.Now())
		}
		l.Advance(time.Minute)
		wantClosed(t, p.c, true)
		if !errors.Is(h.Err(), session.ErrDrainTimeout) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// S6: a peer that asks and never reads the answers is ended like one that does not read what the application sends. Until then it costs one
// answer.
func TestLayeredPeerThatOnlyAsks(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, endLimits, h)
		p.c.Kernel = 2000
		for range 1000 {
			p.probe(strings.Repeat("?", 1000))
			l.Run()
		}
		if n := memory(t, h); n > 8<<10 || h.Pending() != 0 || h.Err() != nil {
			t.Errorf("%d bytes are held, %d wait, Err %v", n, h.Pending(), h.Err())
		}
		l.Advance(11 * time.Second)
		wantClosed(t, p.c, true)
		if !errors.Is(h.Err(), session.ErrWriteStall) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// What Open finds wrong ends the session in good order, whatever it is about just then.
func TestLayeredGarbage(t *testing.T) {
	garbage := strings.Repeat("\xff", 100)
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		t.Run("open", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 100
			mustSend(t, h, strings.Repeat("queued", 100))
			p.send("good")
			p.c.PeerWrite([]byte(garbage))
			p.c.PeerWrite([]byte("more"))
			l.Run()
			if string(h.Received) != "good" || h.Err() == nil || !strings.Contains(h.Err().Error(), "checksum") || h.Send(nil) == nil {
				t.Errorf("OnRecv got %q, Err %v", h.Received, h.Err())
			}
			p.c.Kernel = 0
			p.c.PeerRead(100)
			l.Run()
			p.want(strings.Repeat("queued", 100), true)
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
		})
		t.Run("paused", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			h.PauseRecv()
			p.send("good")
			p.c.PeerWrite([]byte(garbage))
			p.c.PeerFIN()
			l.Run()
			wantOpen(t, h, p.c)
			h.ResumeRecv()
			l.Run()
			p.want("", true)
			if string(h.Received) != "good" || h.Err() == nil || !strings.Contains(h.Err().Error(), "checksum") {
				t.Errorf("OnRecv got %q, Err %v", h.Received, h.Err())
			}
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
		})
		t.Run("draining", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 100
			mustSend(t, h, strings.Repeat("queued", 100))
			h.Disconnect()
			l.Run()
			p.c.PeerWrite([]byte(garbage))
			l.Run()
			p.c.PeerWrite([]byte("more"))
			l.Run()
			p.c.Kernel = 0
			p.c.PeerRead(100)
			l.Run()
			p.want(strings.Repeat("queued", 100), true)
			if !errors.Is(h.Err(), session.ErrDisconnected) {
				t.Errorf("Err %v", h.Err())
			}
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
		})
		t.Run("half-closed", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			h.CloseWrite()
			l.Run()
			p.send("good")
			p.c.PeerWrite([]byte(garbage))
			l.Run()
			p.want("", true)
			if string(h.Received) != "good" || h.Err() == nil || !strings.Contains(h.Err().Error(), "checksum") {
				t.Errorf("OnRecv got %q, Err %v", h.Received, h.Err())
			}
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
		})
		t.Run("severed", func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			h.PauseRecv()
			p.send("good")
			p.c.PeerWrite([]byte(garbage))
			l.Run()
			p.c.PeerReset(errors.New("reset by peer"))
			l.Run()
			h.ResumeRecv()
			l.Run()
			wantClosed(t, p.c, false)
			if string(h.Received) != "good" || !errors.Is(h.Err(), session.ErrPeerReset) {
				t.Errorf("OnRecv got %q, Err %v", h.Received, h.Err())
			}
		})
	})
}

// A layer that cannot seal ends the session: what is queued is lost and counted; what was sealed before, the last word and FIN leave.
func TestLayeredSealFails(t *testing.T) {
	for _, k := range []*layeredKind{sealing, sealingFramed} {
		t.Run(k.name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, p := connectLayered(t, k, endLimits, h)
			p.c.Kernel = 50
			mustSend(t, h, strings.Repeat("s", 100))
			l.Run()
			p.sealer.Fault = errTest
			mustSend(t, h, "lost")
			l.Run()
			p.c.Kernel = 0
			p.c.PeerRead(50)
			l.Run()
			p.want(strings.Repeat("s", 100), true)
			wantSent(t, h, 100, 100)
			if n := l.Shared.Counters.BytesDropped.Load(); n != 4 || !errors.Is(h.Err(), errTest) || h.Send(nil) == nil {
				t.Errorf("%d bytes dropped, Err %v", n, h.Err())
			}
			p.c.PeerFIN()
			l.Advance(time.Second)
			wantClosed(t, p.c, false)
		})
	}
}

// L5: what kept the session from ending in good order is in Err besides.
func TestLayeredReasons(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, endLimits, h)
		p.c.Kernel = 10
		mustSend(t, h, strings.Repeat("x", 1000))
		l.Run()
		h.Disconnect()
		l.Advance(time.Minute)
		wantClosed(t, p.c, true)
		if err := h.Err(); !errors.Is(err, session.ErrDisconnected) || !errors.Is(err, session.ErrDrainTimeout) && !errors.Is(err, session.ErrWriteStall) {
			t.Errorf("Err %v", err)
		}
		if n := int(l.Shared.Counters.BytesDropped.Load()); n+h.SentSum != 1000 || h.Pending() != 0 {
			t.Errorf("%d bytes dropped, %d sent of 1,000", n, h.SentSum)
		}
	})
}
