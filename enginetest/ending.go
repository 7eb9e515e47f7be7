package enginetest

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// ending is chapter 5 of the contract.
var ending = []promise{
	{"E1", "Disconnect delivers what was accepted", 0, disconnectDelivers},
	{"E1", "the wait for the peer ends by LingerTimeout or DrainTimeout", 0, lingerAndDrainEnd},
	{"E2", "a half-close loses no byte of the answer", 0, halfCloseLosesNothing},
	{"E2", "streaming from OnSend goes on after the half-close", 0, streamingGoesOnAfterHalfClose},
	{"E2", "OnHalfClose tells of the peer's end, and the session goes on", 0, onHalfClose},
	{"E2", "CloseWrite ends our side, and the answer still comes", 0, closeWrite},
	{"E3", "Abort resets at once", resets, abortResets},
	{"E4", "Shutdown delivers what was accepted", 0, shutdownDrains},
	{"E4", "Shutdown aborts the rest when its context ends", 0, shutdownInTime},
	{"E4", "Close waits while sessions end", 0, closeWaitsWhileSessionsEnd},
	{"E4", "Close tells of a callback that does not return", engines, closeTellsOfACallback},
	{"E4", "Run and Shutdown panic without a context", engines, nilContext},
	{"E4", "the end may be asked for any number of times", engines, endingTwice},
	{"E4", "Run serves until its context ends, then drains", engines, run},
	{"E4", "Run ends in time, however steadily a peer reads", engines, runEndsInTime},
	{"E4", "Shutdown in a rush leaves nothing behind", accepting, shutdownInARush},
	{"E4", "a session that is being made when Shutdown begins is ended", accepting | engines, shutdownWhileASessionIsMade},
	{"E4", "Shutdown tells of bytes that are on their way", resets, shutdownTellsOfBytesOnTheirWay},
}

// E1: what was accepted before Disconnect arrives, although the client goes on sending what nobody reads.
func disconnectDelivers(t testing.TB, v *Variant) {
	reply := kit.Pattern(1 << 20)
	var once sync.Map
	s := v.serve(t, engine.Options{SendLimit: 2 << 20}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
		if _, again := once.LoadOrStore(p, true); again {
			t.Error("OnRecv after Disconnect")
		}
		if err := p.Send(reply); err != nil {
			t.Error(err)
		}
		p.Disconnect()
		p.Disconnect()
		if err := p.Send(reply); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send after Disconnect: %v", err)
		}
	}})
	for range 20 {
		c, p := s.connect()
		over := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			chunk := make([]byte, 10_000)
			for {
				select {
				case <-over:
					return
				default:
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}
		})
		err := kit.ReadAll(c, reply)
		close(over)
		if err != nil {
			t.Error(err)
		}
		kit.Must(t, c.Close())
		wg.Wait()
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrDisconnected)
		if n := p.Sent.Load(); n != int64(len(reply)) {
			t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
		}
	}
}

// E1: a peer that does not close is waited for no longer than LingerTimeout; one that does not read, no longer
// than DrainTimeout.
func lingerAndDrainEnd(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
	_, p := s.connect()
	p.Disconnect()
	kit.Await(t, p.Ended, "OnDisconnected of a session whose peer stays")
	if err := p.Err(); err != session.ErrDisconnected {
		t.Errorf("Err %v, want ErrDisconnected alone", err)
	}

	s = v.serve(t, engine.Options{DrainTimeout: 50 * time.Millisecond, SendLimit: 16 << 20}, kit.Hooks{})
	_, p = s.session(s.smallClient())
	kit.Must(t, p.Send(make([]byte, 8<<20)))
	p.Disconnect()
	kit.Await(t, p.Ended, "OnDisconnected of a session whose peer does not read")
	kit.WantError(t, "reason", p.Err(), session.ErrDisconnected, session.ErrDrainTimeout)
}

// E2: a client that sends a request, shuts down its writing side and reads slowly gets every byte.
func halfCloseLosesNothing(t testing.TB, v *Variant) {
	reply := kit.Pattern(16 << 20) // for each of the eight servers at once
	s := v.serve(t, engine.Options{SendLimit: len(reply) + 1024}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
		if err := p.Send(reply); err != nil {
			t.Error(err)
		}
	}})
	c, p := s.connect()
	kit.Write(t, c, []byte("please"))
	kit.CloseWrite(t, c)
	if v.Client == nil { // the last word of a layer waits in the kernel while the session is not read
		kit.Eventually(t, "the FIN is seen", func() bool { return p.Err() != nil })
		kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
	}
	select {
	case <-p.Ended:
		t.Error("OnDisconnected before the reply was out")
	default:
	}
	kit.Must(t, kit.ReadAll(c, reply))
	kit.Await(t, p.Ended, "OnDisconnected")
	if n := p.Sent.Load(); n != int64(len(reply)) {
		t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
	}
}

// E2: a handler that streams from OnSend is not cut off by the client's half-close.
func streamingGoesOnAfterHalfClose(t testing.TB, v *Variant) {
	const chunks = 200
	chunk := kit.Pattern(50_000)
	var next atomic.Int64
	more := func(p *kit.Session) {
		if p.Pending() == 0 && next.Load() < chunks {
			next.Add(1)
			if err := p.Send(chunk); err != nil {
				t.Errorf("chunk %d: %v", next.Load(), err)
			}
		}
	}
	s := v.serve(t, engine.Options{}, kit.Hooks{
		Recv: func(p *kit.Session, _ []byte) { more(p) },
		Sent: func(p *kit.Session, _ int) { more(p) },
	})
	c, p := s.connect()
	kit.Write(t, c, []byte("please"))
	kit.CloseWrite(t, c)
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != chunks*int64(len(chunk)) {
		t.Errorf("got %d of %d bytes, %v", n, chunks*len(chunk), err)
	}
	kit.Await(t, p.Ended, "OnDisconnected")
}

// The peer's end is told, and the session goes on until the handler has finished too.
func onHalfClose(t testing.TB, v *Variant) {
	s, arrivals := v.serveHalfOpen(t, engine.Options{})
	c := s.client()
	p := kit.Await(t, arrivals, "a session")
	kit.Write(t, c, []byte("request"))
	kit.CloseWrite(t, c)
	kit.Await(t, p.told, "OnHalfClose")
	if n := p.Got.Load(); n != 7 {
		t.Errorf("%d bytes before it, want 7", n)
	}
	answer := kit.Stream()[:200_000]
	kit.Must(t, p.Send(answer[:1000]))
	kit.Must(t, p.Send(answer[1000:]))
	p.CloseWrite()
	got, err := io.ReadAll(c)
	kit.Must(t, err)
	if string(got) != string(answer) {
		t.Errorf("%d bytes of an answer of %d, or others", len(got), len(answer))
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "Err", p.Err(), session.ErrPeerClosed, io.EOF)

	if v.Network == "unix" {
		return // it has no resets
	}
	c = s.client()
	p = kit.Await(t, arrivals, "a session")
	kit.CloseWrite(t, c)
	kit.Await(t, p.told, "OnHalfClose")
	kit.Reset(t, c)
	kit.Await(t, p.Ended, "OnDisconnected after a reset")
	kit.WantError(t, "Err", p.Err(), session.ErrPeerReset)
}

// CloseWrite is a request that is complete: the answer still comes.
func closeWrite(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: time.Millisecond}, kit.Hooks{Connected: func(p *kit.Session) {
		kit.Must(t, p.Send([]byte("question")))
		p.CloseWrite()
	}})
	c, p := s.connect()
	got, err := io.ReadAll(c)
	kit.Must(t, err)
	if string(got) != "question" {
		t.Errorf("got %q", got)
	}
	kit.Write(t, c, kit.Stream())
	kit.CloseWrite(t, c)
	kit.Await(t, p.Ended, "OnDisconnected")
	if n := p.Got.Load(); n != int64(len(kit.Stream())) {
		t.Errorf("%d bytes of the answer, want %d", n, len(kit.Stream()))
	}
	kit.WantError(t, "Err", p.Err(), session.ErrPeerClosed)
}

// E3: Abort resets at once and drops what is queued.
func abortResets(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 16 << 20}, kit.Hooks{})
	c, p := s.session(s.smallClient())
	kit.Must(t, p.Send(make([]byte, 8<<20)))
	kit.Eventually(t, "the kernel is full", func() bool { return s.Stats().Total.WouldBlock > 0 })
	p.Abort()
	p.Abort()
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrAborted)
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) || n >= 8<<20 {
		t.Errorf("the client got %d bytes and %v, want a reset", n, err)
	}
	if d := s.Stats().Total.BytesDropped; int64(d) != 8<<20-p.Sent.Load() {
		t.Errorf("%d bytes were dropped, want %d", d, 8<<20-p.Sent.Load())
	}
}
