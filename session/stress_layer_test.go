package session_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// layeredStress is a session with a layer under fire, and its peer. What is under mu in stressSession is so here too; the peer is the loop's.
type layeredStress struct {
	stressSession
	*layeredPeer
	sum     int // of the bytes that OnRecv has brought
	sentSum int // of those that the peer has sent
	fin     bool
	reset   bool
}

// look has the peer open what the kernel took, take messages apart, and answer.
func (x *layeredStress) look() {
	x.read()
	x.stressSession.take(x.got)
	x.got, x.messages = x.got[:0], x.messages[:0]
	x.layeredPeer.c.Writes = x.layeredPeer.c.Writes[:0]
	if n := x.opened; n == len(x.layeredPeer.c.Wire) {
		x.layeredPeer.c.Wire, x.opened = x.layeredPeer.c.Wire[:0], 0
	}
}

// speaks has the peer do something.
func (x *layeredStress) speaks(r *rand.Rand) {
	switch n := r.IntN(400); {
	case x.fin || x.reset:
	case n < 150:
		size := 1 + r.IntN(50)
		x.send(string(make([]byte, size)))
		x.sentSum += size
	case n < 250:
		x.probe("?")
	case n == 250:
		x.fin = true
		x.finish(nil)
		x.layeredPeer.c.PeerFIN()
	case n == 251:
		x.disturb()
		x.fin = true
		x.layeredPeer.c.PeerWrite([]byte("this is not a record"))
	case n == 252:
		x.disturb()
		x.reset = true
		x.layeredPeer.c.PeerReset(errors.New("reset"))
	case x.h.Err() != nil:
		x.fin = true
		x.finish(nil)
		x.layeredPeer.c.PeerFIN() // for those that linger
	}
}

// Everything that any goroutine may call is called from many, while two loops drive sessions with layers of each kind and their peers probe.
func TestStressLayered(t *testing.T) {
	const slots = 6 // those of even number live on the first loop
	rounds := 30_000
	if raced || testing.Short() {
		rounds = 8_000
	}
	var loops [2]*testkit.Loop
	for i := range loops {
		loops[i] = newLoop(t, session.Limits{SendLimit: 64 << 10, PauseAbove: 16 << 10, Write: time.Minute, Drain: time.Minute, Linger: time.Minute})
	}
	var all [2][]*layeredStress
	var born atomic.Int64 // sessions
	var place [slots]atomic.Pointer[layeredStress]
	connect := func(slot int) {
		k := layeredKinds[slot/2]
		x := &layeredStress{layeredPeer: newLayers(t, k, checksum.Options{ProbeEvery: time.Millisecond, AnswerWithin: time.Hour})}
		x.orderly = true
		x.h = &testkit.Handler{Quiet: true, Framed: k.messages()}
		x.h.Recv = func(_ *testkit.Handler, p []byte) { x.sum += len(p) }
		c, err := loops[slot%2].Bind(x.h, k.framing)
		if err != nil {
			t.Error(err)
			return
		}
		x.layeredPeer.c, x.stressSession.c = c, c
		c.Kernel = 1 + 3000*slot
		c.Chunk = 100
		all[slot%2] = append(all[slot%2], x)
		born.Add(1)
		place[slot].Store(x) // others may know it before it has its layer
		c.Driver.UseLayer(x.ofSession(), false)
		c.Connected()
	}
	for i, l := range loops {
		l.Start()
		l.Do(func() {
			for slot := i; slot < slots; slot += 2 {
				connect(slot)
			}
		})
	}
	var senders, worlds sync.WaitGroup
	for sender := range stressSenders {
		senders.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 11))
			for number := uint32(0); number < uint32(rounds) || born.Load() < stressed*slots; number++ {
				x := place[r.IntN(slots)].Load()
				switch n := r.IntN(1000); {
				case n < 700:
					p := stressMessage(sender, number, r.IntN(300))
					var err error
					if n < 200 {
						err = x.h.SendBuffer(buffer(string(p)))
					} else {
						err = x.h.Send(p)
					}
					if err == nil {
						x.mu.Lock()
						x.accepted[sender] = append(x.accepted[sender], number)
						x.bytes += len(p)
						x.mu.Unlock()
					} else if !errors.Is(err, session.ErrClosed) && !errors.Is(err, session.ErrSendLimit) {
						t.Errorf("Send: %v", err)
					} else {
						runtime.Gosched()
					}
				case n < 800:
					if x.h.Post(x.h.Posted("", func() { x.ran++ })) == nil {
						x.mu.Lock()
						x.posted++
						x.mu.Unlock()
					}
				case n < 850:
					x.h.PauseRecv()
				case n < 920:
					x.h.ResumeRecv()
				case n < 985:
					if x.h.Pending() < 0 || x.h.RemoteAddr() == nil {
						t.Error("a session lost its properties")
					}
					if errors.Is(x.h.Err(), session.ErrDisconnected) && x.h.Send(nil) == nil {
						t.Error("Send accepted by a session that was ended")
					}
				case n < 992:
					x.h.Disconnect()
				case n < 997:
					x.h.CloseWrite()
				default:
					x.disturb()
					x.h.Abort()
				}
			}
		})
	}
	done := make(chan struct{})
	for i, l := range loops { // the worlds: peers that read, probe, write and finish, and new connections
		worlds.Go(func() {
			r := rand.New(rand.NewPCG(uint64(100+i), 11))
			for {
				select {
				case <-done:
					return
				default:
				}
				l.Do(func() {
					for slot := i; slot < slots; slot += 2 {
						x := place[slot].Load()
						if x.look(); x.stressSession.c.Ended {
							connect(slot)
							continue
						}
						x.stressSession.c.PeerRead(1 + r.IntN(20_000))
						x.speaks(r)
					}
				})
				runtime.Gosched()
			}
		})
	}
	senders.Wait()
	close(done)
	worlds.Wait()
	for _, l := range loops {
		l.Stop()
	}
	sessions, probes, sum := 0, 0, 0
	for i, l := range loops {
		settleStress(t, l, all[i])
		sent, accepted := 0, 0
		for _, x := range all[i] {
			x.checkEnd(t)
			sent, accepted = sent+x.h.SentSum, accepted+x.bytes
			probes += x.layer.Counts().Answered
		}
		if dropped := int(l.Shared.Counters.BytesDropped.Load()); sent+dropped != accepted {
			t.Errorf("accepted %d, sent %d, dropped %d", accepted, sent, dropped)
		}
		sessions, sum = sessions+len(all[i]), sum+sent
	}
	if sessions < stressed*slots || sum == 0 || probes == 0 {
		t.Errorf("%d sessions, %d bytes, %d probes answered: no stress", sessions, sum, probes)
	}
	t.Logf("%d sessions, %d bytes sent, %d probes answered", sessions, sum, probes)
}

// settleStress brings the sessions of a loop to their end, on the test's goroutine.
func settleStress(t *testing.T, l *testkit.Loop, all []*layeredStress) {
	for round := range 3 {
		for _, x := range all {
			x.h.ResumeRecv()
		}
		for moved := true; moved; {
			moved = false
			l.Run()
			for _, x := range all {
				if c := x.stressSession.c; !c.Closed && (c.Held() > 0 || c.Full()) {
					c.PeerRead(c.Held())
					moved = true
				}
				x.look()
			}
		}
		for _, x := range all {
			if c := x.stressSession.c; !c.Closed && x.h.Pending() > 0 {
				t.Errorf("session %d forgets %d bytes", x.h.ID(), x.h.Pending())
			}
			if !x.fin && !x.reset {
				x.fin = true
				x.finish(nil)
			}
			x.stressSession.c.PeerFIN()
		}
		l.Run()
		l.Advance(time.Second << round) // until it is seen that the peers have everything
		l.Run()
	}
}

// checkEnd checks how a session has ended.
func (x *layeredStress) checkEnd(t *testing.T) {
	x.look()
	if !x.stressSession.c.Ended || x.h.Over != 1 || x.ran != x.posted || x.bad > 0 || x.layeredPeer.err != nil {
		t.Errorf("session %d: done %t, %d OnDisconnected, %d of %d posts ran, %d messages damaged, the peer found %v",
			x.h.ID(), x.stressSession.c.Ended, x.h.Over, x.ran, x.posted, x.bad, x.layeredPeer.err)
	}
	for sender := range x.accepted {
		a, b := x.accepted[sender], x.taken[sender]
		if len(b) > len(a) || !slices.Equal(a[:len(b)], b) {
			t.Errorf("session %d: sender %d: %d messages left, not the first of %d accepted", x.h.ID(), sender, len(b), len(a))
		}
	}
	if x.sum > x.sentSum {
		t.Errorf("session %d: OnRecv brought %d of %d bytes", x.h.ID(), x.sum, x.sentSum)
	}
	if !x.orderly {
		return
	}
	if x.h.SentSum != x.bytes || x.word == nil {
		t.Errorf("session %d: %d of %d bytes left before an orderly end, last word %v: %v", x.h.ID(), x.h.SentSum, x.bytes, x.word, x.h.Err())
	}
	if errors.Is(x.h.Err(), session.ErrPeerClosed) && x.sum != x.sentSum {
		t.Errorf("session %d: OnRecv brought %d of %d bytes", x.h.ID(), x.sum, x.sentSum)
	}
}
