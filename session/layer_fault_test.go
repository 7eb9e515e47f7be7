package session_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// faulty is a layer that fails in one call of one method.
type faulty struct {
	session.Layer
	method string
	left   int    // calls of it until the one that fails
	fail   func() // panics, or ends the goroutine; nil if the method returns err
	err    error
	failed bool
	drops  int
}

func (f *faulty) call(method string) error {
	if method != f.method || f.failed {
		return nil
	}
	if f.left--; f.left > 0 {
		return nil
	}
	f.failed = true
	if f.fail != nil {
		f.fail()
	}
	return f.err
}

func (f *faulty) Open(dst, in []byte) ([]byte, int, bool, error) {
	data, used, more, err := f.Layer.Open(dst, in)
	if fault := f.call("Open"); fault != nil {
		return data, used, more, fault
	}
	return data, used, more, err
}

func (f *faulty) Discard() { f.Layer.Discard(); _ = f.call("Discard") }

func (f *faulty) Own(dst []byte, between bool) []byte {
	_ = f.call("Own")
	return f.Layer.Own(dst, between)
}

func (f *faulty) Finish(reason error) { _ = f.call("Finish"); f.Layer.Finish(reason) }

func (f *faulty) Ended() error { _ = f.call("Ended"); return f.Layer.Ended() }

func (f *faulty) Expire(now time.Duration) error {
	if err := f.call("Expire"); err != nil {
		return err
	}
	return f.Layer.Expire(now)
}

func (f *faulty) Drop() { f.drops++; f.Layer.Drop(); _ = f.call("Drop") }

// faultySealer is the same for a layer that seals.
type faultySealer struct {
	*faulty
	sealer session.Sealer
}

func (f *faultySealer) Seal(dst, plain []byte) ([]byte, error) {
	if err := f.call("Seal"); err != nil {
		return nil, err
	}
	return f.sealer.Seal(dst, plain)
}

// newFaulty returns a layer for the session of p that fails, and what it does.
func newFaulty(p *layeredPeer, method string, at int) (session.Layer, *faulty) {
	f := &faulty{Layer: p.ofSession(), method: method, left: at}
	if p.sealer != nil {
		return &faultySealer{f, p.sealer}, f
	}
	return f, f
}

// L2, L4: a layer that fails ends its session alone, by a reset, and OnDisconnected is called once.
func TestLayeredFailures(t *testing.T) {
	methods := []string{"Open", "Discard", "Own", "Finish", "Ended", "Expire", "Drop", "Seal"}
	tripped := make(map[string]bool)
	for _, goexit := range []bool{false, true} {
		for _, k := range layeredKinds {
			for _, method := range methods {
				for at := 1; at <= 6; at++ {
					name := fmt.Sprintf("%s/%s, call %d, goexit %t", k.name, method, at, goexit)
					if t.Run(name, func(t *testing.T) { failOnce(t, k, method, at, goexit, tripped) }); t.Failed() {
						return
					}
				}
			}
		}
	}
	for _, method := range methods {
		if !tripped[method] {
			t.Errorf("%s has never failed", method)
		}
	}
}

func failOnce(t *testing.T, k *layeredKind, method string, at int, goexit bool, tripped map[string]bool) {
	l := newLoop(t, endLimits)
	l.Isolate = goexit
	h := &testkit.Handler{Framed: k.messages(), Recv: answer}
	p := newLayers(t, k, checksum.Options{ProbeEvery: 5 * time.Second})
	layer, f := newFaulty(p, method, at)
	f.fail = func() {
		if goexit {
			runtime.Goexit()
		}
		panic("simulated")
	}
	p.bind(l, h, layer)
	p.c.Connected()
	p.c.Kernel = 3000
	accepted := 0
	for range 3 {
		p.send("one", strings.Repeat("two", 1000))
		p.probe("?")
		l.Run()
		p.c.PeerRead(2000)
		l.Run()
	}
	l.Advance(5 * time.Second)
	h.Disconnect()
	l.Run()
	p.send("discarded")
	l.Run()
	p.c.PeerFIN()
	l.Run()
	for !p.c.Closed && p.c.Held() > 0 {
		p.c.PeerRead(p.c.Held())
		l.Run()
	}
	l.Advance(time.Minute)
	l.Run()
	if !p.c.Ended || f.drops != 1 || h.Over != h.Begun || h.Pending() != 0 {
		t.Fatalf("done %t, %d Drops, %d OnConnected, %d OnDisconnected, %d wait; %s", p.c.Ended, f.drops, h.Begun, h.Over, h.Pending(), l.Faults())
	}
	if f.failed != errors.Is(h.Err(), session.ErrPanic) || f.failed != (len(p.c.Failures) == 1) {
		t.Errorf("failed %t, Err %v, failures %q", f.failed, h.Err(), p.c.Failures)
	}
	if f.failed && method != "Drop" && !p.c.WasReset {
		t.Error("closed in good order")
	}
	accepted = len(h.Received)
	if n := int(l.Shared.Counters.BytesDropped.Load()); h.SentSum+n != accepted {
		t.Errorf("accepted %d, sent %d, dropped %d", accepted, h.SentSum, n)
	}
	p.read()
	if p.err != nil {
		t.Errorf("the peer found: %v", p.err)
	}
	tripped[method] = tripped[method] || f.failed
}

// Data may come with an error of Open. It is delivered first, also by a session whose connection is broken, and also the part of it that
// waits for the application.
func TestLayeredDataWithAnError(t *testing.T) {
	for _, severed := range []bool{false, true} {
		l := newLoop(t, endLimits)
		h := &testkit.Handler{Framed: true, Recv: func(h *testkit.Handler, _ []byte) { h.PauseRecv() }}
		p := newLayers(t, sealingFramed, checksum.Options{})
		layer, f := newFaulty(p, "Open", 2) // after that for the first message
		f.err = errTest
		p.bind(l, h, layer).Connected()
		p.send("first")
		l.Run()
		if severed {
			p.send("second", "third")
			l.Run()
			p.c.PeerReset(errors.New("reset by peer"))
			l.Run()
		} else {
			p.send("second", "third")
		}
		for range 5 {
			h.ResumeRecv()
			l.Run()
		}
		if !f.failed {
			t.Fatal("no error was returned")
		}
		if got := string(h.Received); severed && got != "firstsecondthird" || !severed && got != "firstsecond" {
			t.Errorf("severed %t: OnRecv got %q", severed, got)
		}
		if severed != errors.Is(h.Err(), session.ErrPeerReset) || severed == errors.Is(h.Err(), errTest) {
			t.Errorf("severed %t: Err %v", severed, h.Err())
		}
	}
}

// A Seal that fails in the midst of a write: what was sealed for the same write leaves, and is counted.
func TestLayeredSealFailsInTheMidst(t *testing.T) {
	for _, k := range []*layeredKind{sealing, sealingFramed} {
		l := newLoop(t, endLimits)
		h := &testkit.Handler{Framed: k.messages()}
		p := newLayers(t, k, checksum.Options{})
		layer, f := newFaulty(p, "Seal", 3)
		f.err = errTest
		p.bind(l, h, layer).Connected()
		for range 10 {
			mustSend(t, h, strings.Repeat("x", 10_000))
		}
		p.probe("?")
		l.Run()
		p.read()
		sealed := 2 * checksum.MaxSeal
		if k.messages() {
			sealed = 30_000
		}
		wantSent(t, h, sealed, sealed)
		n := int(l.Shared.Counters.BytesDropped.Load())
		if p.err != nil || p.word == nil || n != 100_000-h.SentSum || h.Pending() != 0 || !errors.Is(h.Err(), errTest) {
			t.Errorf("the peer found %v, last word %v; %d sent, %d dropped, %d wait, Err %v", p.err, p.word, h.SentSum, n, h.Pending(), h.Err())
		}
		p.wantAnswered(1)
	}
}

// I6: what comes after the end is nothing to the layer.
func TestLayeredReceiveAfterTheEnd(t *testing.T) {
	h := &testkit.Handler{}
	l, p := connectLayered(t, sealing, endLimits, h)
	h.Abort()
	l.Run()
	wantClosed(t, p.c, true)
	l.Inside(func() { p.c.Driver.Receive(p.wire(nil, "late")) })
	if len(p.c.Failures) > 0 || len(h.Received) > 0 {
		t.Errorf("failures %q, OnRecv got %q", p.c.Failures, h.Received)
	}
}

// E3: Abort is heeded that comes while the loop seals. What was sealed is dropped and counted.
func TestLayeredAbortWhileSealing(t *testing.T) {
	for _, k := range []*layeredKind{sealing, sealingFramed} {
		for _, own := range []bool{false, true} {
			l := newLoop(t, endLimits)
			h := &testkit.Handler{Framed: k.messages()}
			p := newLayers(t, k, checksum.Options{})
			method := "Seal"
			if own {
				method = "Own"
			}
			layer, f := newFaulty(p, method, 1)
			f.fail = h.Abort
			p.bind(l, h, layer).Connected()
			mustSend(t, h, strings.Repeat("x", 50_000))
			if own {
				p.probe("?")
			}
			l.Run()
			wantClosed(t, p.c, true)
			if n := l.Shared.Counters.BytesDropped.Load(); !f.failed || p.c.Took > 0 || h.SentSum > 0 || n != 50_000 || !errors.Is(h.Err(), session.ErrAborted) {
				t.Errorf("%d bytes written, %d told, %d dropped, Err %v", p.c.Took, h.SentSum, n, h.Err())
			}
		}
	}
}

// hasty is a layer whose first message moves its deadline from an hour to a second.
type hasty struct {
	session.Layer
	clock   *testkit.Loop
	at      time.Duration
	expired []time.Duration
}

func (l *hasty) Open(dst, in []byte) ([]byte, int, bool, error) {
	l.at = l.clock.Now() + time.Second
	return l.Layer.Open(dst, in)
}

func (l *hasty) NextAt() time.Duration { return l.at }

func (l *hasty) Expire(now time.Duration) error {
	l.expired = append(l.expired, now)
	l.at = now + time.Hour
	return l.Layer.Expire(now)
}

// A deadline that a call has moved to an earlier time is armed, and one that has come is armed anew.
func TestLayeredDeadlineMoves(t *testing.T) {
	l := newLoop(t, endLimits)
	h := &testkit.Handler{Framed: true}
	p := newLayers(t, framing, checksum.Options{})
	layer := &hasty{Layer: p.ofSession(), clock: l}
	p.bind(l, h, layer).Connected()
	begun := len(layer.expired) // the session tells the time at the beginning
	p.send("soon")
	l.Run()
	if at := l.Now() + time.Second; p.c.Armed > at {
		t.Fatalf("armed at %v, want %v at the latest", p.c.Armed, at)
	}
	p.c.Armed = l.Now() + 100*time.Millisecond // a visit before the deadline, as a loop makes them
	l.Advance(time.Second)
	if len(layer.expired) != begun+1 {
		t.Fatalf("Expire was called at %v", layer.expired)
	}
	l.Advance(time.Hour)
	if len(layer.expired) != begun+2 {
		t.Fatalf("Expire was called at %v", layer.expired)
	}
	wantOpen(t, h, p.c)
	h.Abort()
	l.Run()
}
