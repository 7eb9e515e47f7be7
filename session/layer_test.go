package session_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

func answer(h *testkit.Handler, p []byte) { _ = h.Send(p) }

// What the peer sends comes to OnRecv, and what the application sends comes to the peer, as if there were no layer. The peer's bytes are cut
// anywhere.
func TestLayeredEcho(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, chunk := range []int{0, 1, 7, 1000} {
			h := &testkit.Handler{Recv: answer}
			l, p := connectLayered(t, k, session.Limits{SendLimit: 1 << 20, PauseAbove: 1 << 18}, h)
			p.c.Chunk = chunk
			want := []string{"one", "two", strings.Repeat("three", 10), strings.Repeat("x", 5000), "y"}
			p.send(want...)
			l.Run()
			all := strings.Join(want, "")
			if string(h.Received) != all || h.Err() != nil {
				t.Errorf("OnRecv got %.80q, Err %v", h.Received, h.Err())
			}
			wantSent(t, h, len(all), len(all))
			p.want(all, false)
			p.wantMessages(want...)
		}
	})
}

// byUnit is a layer whose Open returns one unit in a call, whatever has come besides.
type byUnit struct{ session.Layer }

func (b byUnit) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	for used < len(in) && data == nil && err == nil && !more {
		var n int
		data, n, more, err = b.Layer.Open(dst, in[used:used+1])
		used += n
	}
	return data, used, more, err
}

// byUnitSealer is the same for a layer that seals.
type byUnitSealer struct {
	byUnit
	sealer session.Sealer
}

func (b byUnitSealer) Seal(dst, plain []byte) ([]byte, error) { return b.sealer.Seal(dst, plain) }

// I5: what Open has returned, and the answer refers to, stays as it is while the next units of the same read are opened.
func TestLayeredEchoOfUnits(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		l := newLoop(t, session.Limits{SendLimit: 1 << 20})
		p := newLayers(t, k, checksum.Options{})
		h := &testkit.Handler{Framed: k.messages(), Recv: answer}
		layer := session.Layer(byUnit{p.ofSession()})
		if p.sealer != nil {
			layer = byUnitSealer{layer.(byUnit), p.sealer}
		}
		p.bind(l, h, layer).Connected()
		want := []string{"first", "other", "third", strings.Repeat("x", 1000), "y"}
		p.send(want...)
		l.Run()
		p.want(strings.Join(want, ""), false)
		p.wantMessages(want...)
	})
}

// S2: what is sent in one callback leaves in one write.
func TestLayeredManySendsMakeOneWrite(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) {
			for i := range 100 {
				mustSend(t, h, fmt.Sprintf("message %d;", i))
			}
		}}
		l, p := connectLayered(t, k, session.Limits{}, h)
		p.send("go")
		l.Run()
		if len(p.c.Writes) != 1 || h.SentN != 1 {
			t.Errorf("%d writes, %d OnSend", len(p.c.Writes), h.SentN)
		}
		p.read()
		if len(p.got) != h.SentSum || p.err != nil || !strings.HasSuffix(string(p.got), "message 99;") {
			t.Errorf("the peer got %d bytes of %d, %v", len(p.got), h.SentSum, p.err)
		}
	})
}

// S4, S8, I13: whatever the kernel takes of a write, nothing is sealed twice, and OnSend tells of a byte when the last byte of its record is out,
// not before: what the peer can open at any moment is at least what OnSend has told.
func TestLayeredPartialWrites(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, most := range []int{1, 7, 1000, 20_000} {
			accepted, sent := 0, 0
			h := &testkit.Handler{Quiet: true}
			l, p := connectLayered(t, k, session.Limits{}, h)
			p.c.MaxWrite = most
			h.Sent = func(h *testkit.Handler, n int) {
				p.read()
				if len(p.got) < h.SentSum {
					t.Fatalf("OnSend has told %d bytes, the peer has %d", h.SentSum, len(p.got))
				}
				if h.SentSum+h.Pending() != accepted {
					t.Fatalf("%d told and %d wait of %d", h.SentSum, h.Pending(), accepted)
				}
				if sent < 5 { // while the wire still holds bytes
					sent++
					mustSend(t, h, "more")
					accepted += 4
				}
			}
			want := ""
			for i := range 40 {
				s := strings.Repeat(string(rune('a'+i%26)), 1+i*i/2)
				mustSend(t, h, s)
				want, accepted = want+s, accepted+len(s)
			}
			l.Run()
			p.want(want+strings.Repeat("more", sent), false)
			wantSent(t, h, accepted, accepted)
			if sent == 0 || h.Err() != nil {
				t.Errorf("%d sent in OnSend, Err %v", sent, h.Err())
			}
		}
	})
}

// A large Send leaves in several writes. SendLimit counts it before.
func TestLayeredLargeSend(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Quiet: true}
		l, p := connectLayered(t, k, session.Limits{SendLimit: 1<<20 + 100_000}, h)
		piece := strings.Repeat("0123456789abcdef", 1<<16)
		if k.messages() {
			piece = piece[:60_000]
		}
		want := ""
		for len(want)+len(piece) <= 1<<20 {
			mustSend(t, h, piece)
			want += piece
		}
		if err := h.Send(make([]byte, 1<<20+100_001-len(want))); err == nil {
			t.Error("Send above SendLimit")
		}
		l.Run()
		p.want(want, false)
		wantSent(t, h, len(want), len(want))
	})
}

// Send of nothing is accepted at any time, as without a layer: also when what was sealed is longer than SendLimit.
func TestLayeredSendOfNothing(t *testing.T) {
	h := &testkit.Handler{}
	l, p := connectLayered(t, sealing, session.Limits{SendLimit: 1000, EndSlow: true}, h)
	p.c.Kernel = 1
	mustSend(t, h, strings.Repeat("x", 1000))
	l.Run()
	if err := h.Send(nil); err != nil || h.Pending() != 1000 {
		t.Errorf("%v, %d wait", err, h.Pending())
	}
}

// A Broadcast reaches members with and without a layer. Messages are framed once for all members, records sealed for each.
func TestBroadcastToLayered(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	plain := &testkit.Handler{}
	c := l.Connect(plain)
	g.Join(plain)
	var members []*testkit.Handler
	var peers []*layeredPeer
	made := 0
	counted := *framing
	counted.framing = session.NewSendFraming(countingFramer{checksum.Framer{Server: true}, &made})
	for range 2 {
		for _, k := range []*layeredKind{sealing, sealingFramed, &counted} {
			h := &testkit.Handler{Framed: k.messages()}
			p := newLayers(t, k, checksum.Options{})
			p.bind(l, h, nil).Connected()
			g.Join(h)
			members, peers = append(members, h), append(peers, p)
		}
	}
	want := ""
	for i := range 5 {
		s := strings.Repeat("news", 1+1000*i)
		if n := g.Broadcast([]byte(s)); n != 1+len(members) {
			t.Errorf("a Broadcast reached %d of %d", n, 1+len(members))
		}
		want += s
		if i%2 == 0 {
			for _, p := range peers {
				p.probe(fmt.Sprint(i))
			}
			l.Run()
		}
	}
	l.Run()
	wantWire(t, c, want)
	for i, p := range peers {
		p.want(want, false)
		p.wantAnswered(3)
		wantSent(t, members[i], len(want), len(want))
	}
	if made != 5 {
		t.Errorf("%d frames made for 5 Broadcasts", made)
	}
}

// countingFramer counts the frames that it makes.
type countingFramer struct {
	frame.Framer
	made *int
}

func (f countingFramer) Append(dst, payload []byte) ([]byte, error) {
	*f.made++
	return f.Framer.Append(dst, payload)
}

// A probe is answered with an empty queue, and with a full kernel when that has room again, before what was queued later.
func TestLayeredProbeIsAnswered(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, session.Limits{Write: time.Minute}, h)
		p.probe("idle")
		l.Run()
		p.wantAnswered(1)
		wantLog(t, h, "connected") // no OnSend for what is not the application's
		p.c.Kernel = 100
		long := strings.Repeat("long", 20_000)
		if k.messages() {
			long = long[:50_000]
		}
		mustSend(t, h, long)
		l.Run()
		p.probe("in the midst")
		l.Run()
		p.wantAnswered(1)
		mustSend(t, h, "later")
		p.c.PeerRead(100)
		for range 3 {
			p.c.Kernel = 1000
			l.Run()
			p.c.PeerRead(1000)
		}
		p.wantAnswered(1)
		p.c.Kernel = 0
		p.c.Room()
		l.Run()
		p.wantAnswered(2)
		p.want(long+"later", false)
		wantSent(t, h, len(long)+5, len(long)+5)
		if k.shape == checksum.Framing && len(p.messages) != 2 {
			t.Errorf("%d messages", len(p.messages))
		}
	})
}

// An answer is not behind all that waits. Over messages it comes after the one that is under way, over a stream after what was sealed.
func TestLayeredProbeOvertakesTheQueue(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Quiet: true}
		l, p := connectLayered(t, k, session.Limits{}, h)
		p.c.Kernel = 100
		for range 100 {
			mustSend(t, h, strings.Repeat("m", 10_000))
		}
		l.Run()
		p.probe("now")
		l.Run()
		p.c.PeerRead(100)
		for range 200 {
			p.c.Kernel = 1000
			l.Run()
			p.c.PeerRead(1000)
			if p.read(); p.layer.Counts().Answered > 0 {
				break
			}
		}
		p.wantAnswered(1)
		if len(p.got) > 70_000 {
			t.Errorf("the answer came behind %d bytes", len(p.got))
		}
	})
}

// An empty message is one.
func TestLayeredEmptyMessage(t *testing.T) {
	for _, k := range []*layeredKind{sealingFramed, framing} {
		t.Run(k.name, func(t *testing.T) {
			h := &testkit.Handler{Recv: answer}
			l, p := connectLayered(t, k, session.Limits{}, h)
			p.send("", "a", "")
			l.Run()
			p.wantMessages("", "a", "")
			if n := strings.Count(strings.Join(h.Log, "\n"), "recv"); n != 3 {
				t.Errorf("%q", h.Log)
			}
		})
	}
}

// PauseRecv keeps what was received: as it came, opened by the layer, or cut by the framer. ResumeRecv delivers all of it in order, and FIN
// comes behind it.
func TestLayeredPauseKeepsInput(t *testing.T) {
	for _, end := range []string{"FIN", "last word", "last word and FIN"} {
		t.Run(end, func(t *testing.T) {
			eachLayered(t, func(t *testing.T, k *layeredKind) {
				h := &testkit.Handler{}
				h.Recv = func(h *testkit.Handler, p []byte) {
					mustSend(t, h, string(p))
					h.PauseRecv()
				}
				l, p := connectLayered(t, k, session.Limits{}, h)
				want := []string{"first", "second", strings.Repeat("third", 3000), "last"}
				p.send(want...)
				if end != "FIN" {
					p.finish(nil)
				}
				if end != "last word" {
					p.c.PeerFIN()
				}
				l.Run()
				if len(h.Received) == 0 || k.messages() && string(h.Received) != "first" {
					t.Errorf("OnRecv got %.80q before the pause", h.Received)
				}
				for range 10 {
					if h.Err() != nil {
						break
					}
					h.ResumeRecv()
					l.Run()
				}
				if all := strings.Join(want, ""); string(h.Received) != all {
					t.Errorf("OnRecv got %.80q (%d bytes)", h.Received, len(h.Received))
				}
				p.want(strings.Join(want, ""), true)
				got, truncated := h.Err(), end == "FIN"
				if !truncated && !errors.Is(got, session.ErrPeerClosed) || truncated != errors.Is(got, session.ErrTruncated) {
					t.Errorf("Err %v", got)
				}
				p.c.PeerFIN()
				l.Advance(time.Second)
				wantClosed(t, p.c, false)
			})
		})
	}
}

// A session that is paused from the beginning delivers all later.
func TestLayeredPausedFromTheBeginning(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Connected: func(h *testkit.Handler) { h.PauseRecv() }}
		l, p := connectLayered(t, k, session.Limits{}, h)
		p.send("one", "two")
		p.probe("?")
		l.Run()
		if len(h.Received) > 0 || p.c.Reads {
			t.Errorf("OnRecv got %q, reads %t", h.Received, p.c.Reads)
		}
		h.ResumeRecv()
		l.Run()
		if string(h.Received) != "onetwo" {
			t.Errorf("OnRecv got %q", h.Received)
		}
		p.wantAnswered(1)
	})
}

// S7: an application that answers each byte with a byte never meets SendLimit, however slowly its peer reads, and gets all.
func TestLayeredPauseAbove(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Quiet: true}
		total := 0
		h.Recv = func(h *testkit.Handler, p []byte) {
			total += len(p)
			mustSend(t, h, string(p))
		}
		l, p := connectLayered(t, k, session.Limits{SendLimit: 30_000, PauseAbove: 3000}, h)
		p.c.Kernel = 1
		want := 0
		for i := range 2000 {
			n := 1 + i%200
			p.send(strings.Repeat("z", n))
			want += n
		}
		l.Run()
		if p.c.Reads || total == want || total == 0 {
			t.Errorf("reads %t, OnRecv got %d of %d", p.c.Reads, total, want)
		}
		for range 10_000 {
			p.c.PeerRead(1000)
			p.c.Kernel = 1000
			l.Run()
			if total == want && h.Pending() == 0 {
				break
			}
		}
		p.want(strings.Repeat("z", want), false)
		wantSent(t, h, want, want)
		if h.Err() != nil || !p.c.Reads {
			t.Errorf("Err %v, reads %t", h.Err(), p.c.Reads)
		}
	})
}

// RecvRate bounds the application's bytes. What is over it waits, or ends the session.
func TestLayeredRecvRate(t *testing.T) {
	for _, end := range []bool{false, true} {
		eachLayered(t, func(t *testing.T, k *layeredKind) {
			l := newLoop(t, session.Limits{})
			h := &testkit.Handler{Framed: k.messages()}
			p := newLayers(t, k, checksum.Options{})
			p.bind(l, h, nil)
			p.c.Driver.LimitRecv(&session.Rate{BytesPerSecond: 1000, BurstBytes: 1000, End: end})
			p.c.Connected()
			for range 50 {
				p.send(strings.Repeat("r", 100))
			}
			l.Run()
			if n := len(h.Received); n > 1100 {
				t.Errorf("OnRecv got %d bytes at once", n)
			}
			l.Advance(2 * time.Second)
			switch n := len(h.Received); {
			case end:
				if !errors.Is(h.Err(), session.ErrRecvRate) {
					t.Errorf("Err %v", h.Err())
				}
			case n < 2500 || n > 3300:
				t.Errorf("OnRecv got %d bytes in 2 s", n)
			}
			l.Advance(10 * time.Second)
			if !end && len(h.Received) != 5000 {
				t.Errorf("OnRecv got %d bytes of 5,000", len(h.Received))
			}
		})
	}
}

// IdleTimeout is about the application's bytes: a peer that only probes is idle.
func TestLayeredIdle(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, session.Limits{Idle: 10 * time.Second}, h)
		for range 3 {
			l.Advance(6 * time.Second)
			p.send("here")
			l.Run()
		}
		if h.Err() != nil {
			t.Fatal(h.Err())
		}
		p.probe("?")
		l.Advance(6 * time.Second)
		p.probe("?")
		l.Advance(6 * time.Second)
		p.wantAnswered(2)
		if !errors.Is(h.Err(), session.ErrIdle) {
			t.Errorf("Err %v", h.Err())
		}
	})
}

// OnWritable is told when the queue has risen and fallen, with a layer too.
func TestLayeredWaterMarks(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{}
		l, p := connectLayered(t, k, session.Limits{HighWater: 2000, LowWater: 1000}, h)
		p.c.Kernel = 100
		mustSend(t, h, strings.Repeat("a", 1500))
		l.Run()
		if h.Waits {
			t.Error("OnWritable(false) below the mark")
		}
		mustSend(t, h, strings.Repeat("a", 1500))
		l.Run()
		if !h.Waits {
			t.Error("no OnWritable(false)")
		}
		p.c.Kernel = 0
		p.c.PeerRead(100)
		l.Run()
		if h.Waits {
			t.Error("no OnWritable(true)")
		}
		p.want(strings.Repeat("a", 3000), false)
	})
}

var errTest = errors.New("test")

// A session is known to others when its layer is put under it: what they send meanwhile waits, and is sealed with the rest.
func TestUseLayerWhileOthersSend(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		l := newLoop(t, session.Limits{})
		h := &testkit.Handler{Framed: k.messages()}
		p := newLayers(t, k, checksum.Options{})
		c, err := l.Bind(h, k.framing)
		if err != nil {
			t.Fatal(err)
		}
		p.c = c
		var others sync.WaitGroup
		begun := make(chan struct{})
		others.Go(func() {
			for i := range 200 {
				mustSend(t, h, "x")
				if h.Pending() < 0 || i == 20 {
					close(begun)
				}
			}
		})
		<-begun
		c.Driver.UseLayer(p.ofSession(), false)
		others.Wait()
		c.Connected()
		l.Run()
		p.want(strings.Repeat("x", 200), false)
		wantSent(t, h, 200, 200)
	})
}

// What came with the peer's last bytes of the handshake, and the layer has taken in, is delivered first. Nothing need follow it.
func TestLayeredBytesBehindTheHandshake(t *testing.T) {
	for _, paused := range []bool{false, true} {
		l := newLoop(t, session.Limits{})
		h := &testkit.Handler{Recv: answer}
		p := newLayers(t, sealing, checksum.Options{})
		early := p.wire(nil, "early")
		if data, used, more, err := p.ours.Open(nil, early); data != nil || used != len(early) || !more || err != nil {
			t.Fatalf("Open without room: %q, used %d of %d, more %t, %v", data, used, len(early), more, err)
		}
		p.more = true
		p.bind(l, h, nil)
		if paused {
			h.PauseRecv()
			p.send("late")
		}
		p.c.Connected()
		l.Run()
		if paused {
			if len(h.Received) > 0 {
				t.Errorf("OnRecv got %q while paused", h.Received)
			}
			h.ResumeRecv()
		} else {
			if string(h.Received) != "early" {
				t.Errorf("OnRecv got %q", h.Received)
			}
			p.send("late")
		}
		l.Run()
		p.want("earlylate", false)
	}
}
