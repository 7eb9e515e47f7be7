package session_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

const stressSenders = 6

// stressed is how many sessions each place of a stress has at least. The goroutines that disturb go on until then: on a busy machine they may be done
// before the loops have had a turn.
const stressed = 4

// stressSession is a session under fire. Each message names its sender and its number and has a body made of it.
type stressSession struct {
	h *testkit.Handler
	c *testkit.Conn

	mu       sync.Mutex
	accepted [stressSenders][]uint32 // numbers, in the order of each sender's Sends
	bytes    int
	posted   int
	orderly  bool // only Disconnect was called

	// The loop's.
	ran    int
	stream []byte                  // of the message that is coming in
	taken  [stressSenders][]uint32 // as they left
	bad    int
}

func (x *stressSession) disturb() {
	x.mu.Lock()
	x.orderly = false
	x.mu.Unlock()
}

const stressHeader = 7

func stressMessage(sender int, number uint32, body int) []byte {
	p := make([]byte, stressHeader+body)
	p[0] = byte(sender)
	binary.BigEndian.PutUint32(p[1:], number)
	binary.BigEndian.PutUint16(p[5:], uint16(body))
	for i := range body {
		p[stressHeader+i] = byte(number)
	}
	return p
}

// take is the peer: it takes messages apart as they come.
func (x *stressSession) take(p []byte) {
	x.stream = append(x.stream, p...)
	for len(x.stream) >= stressHeader {
		sender, number := int(x.stream[0]), binary.BigEndian.Uint32(x.stream[1:])
		end := stressHeader + int(binary.BigEndian.Uint16(x.stream[5:]))
		if len(x.stream) < end {
			return
		}
		if sender >= stressSenders || slices.ContainsFunc(x.stream[stressHeader:end], func(b byte) bool { return b != byte(number) }) {
			x.bad++ // interleaved
			sender = 0
		}
		x.taken[sender] = append(x.taken[sender], number)
		x.stream = x.stream[end:]
	}
}

// Everything that any goroutine may call is called from many, while a loop drives the sessions.
func TestStress(t *testing.T) {
	const slots = 5
	rounds := 60_000
	if raced || testing.Short() {
		rounds = 15_000
	}
	l := newLoop(t, session.Limits{SendLimit: 64 << 10, PauseAbove: 16 << 10, Write: time.Minute, Drain: time.Minute, Linger: time.Minute})
	var all []*stressSession
	var born atomic.Int64 // sessions
	var place [slots]atomic.Pointer[stressSession]
	connect := func(slot int) {
		x := &stressSession{orderly: true}
		x.h = &testkit.Handler{Quiet: true}
		x.h.Recv = func(h *testkit.Handler, p []byte) {
			if p[0] == 'P' {
				panic("simulated")
			}
		}
		c, err := l.Bind(x.h, nil)
		if err != nil {
			t.Error(err)
			return
		}
		x.c = c
		c.Kernel = 1 + 5000*slot
		c.Take = x.take
		all = append(all, x)
		born.Add(1)
		place[slot].Store(x) // others may know it before OnConnected
		c.Connected()
	}
	l.Start()
	l.Do(func() {
		for slot := range slots {
			connect(slot)
		}
	})
	var senders, world sync.WaitGroup
	for sender := range stressSenders {
		senders.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 7))
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
				case n < 900:
					x.h.ResumeRecv()
				case n < 990:
					if x.h.Pending() < 0 || x.h.ID() == 0 || x.h.RemoteAddr() == nil {
						t.Error("a session lost its properties")
					}
					if x.h.Err() != nil && x.h.Send(nil) == nil {
						t.Error("Send accepted by a session that was ended")
					}
				case n < 997:
					x.h.Disconnect()
				default:
					x.disturb()
					x.h.Abort()
				}
			}
		})
	}
	done := make(chan struct{})
	world.Go(func() { // the world: peers that read, write and finish, and new connections
		r := rand.New(rand.NewPCG(99, 7))
		for {
			select {
			case <-done:
				return
			default:
			}
			l.Do(func() {
				for slot := range slots {
					x := place[slot].Load()
					x.c.PeerRead(1 + r.IntN(20_000))
					switch n := r.IntN(300); {
					case x.c.Ended:
						connect(slot)
					case n < 100:
						x.c.PeerWrite([]byte("data"))
					case n == 100:
						x.disturb()
						x.c.PeerWrite([]byte("P"))
					case n == 101:
						x.disturb()
						x.c.PeerReset(errors.New("reset"))
					case x.h.Err() != nil:
						x.c.PeerFIN() // for those that linger
					}
				}
			})
			runtime.Gosched()
		}
	})
	senders.Wait()
	close(done)
	world.Wait()
	l.Stop()

	// The test's goroutine is the loop now. Whatever was asked for must have been scheduled.
	for range 3 {
		for _, x := range all {
			x.h.ResumeRecv()
		}
		for moved := true; moved; {
			moved = false
			l.Run()
			for _, x := range all {
				if !x.c.Closed && (x.c.Held() > 0 || x.c.Full()) {
					x.c.PeerRead(x.c.Held())
					moved = true
				}
			}
		}
		for _, x := range all {
			if !x.c.Closed && x.h.Pending() > 0 {
				t.Errorf("session %d forgets %d bytes", x.h.ID(), x.h.Pending())
			}
			x.c.PeerFIN()
		}
		l.Run()
		l.Advance(time.Second) // until it is seen that the peers have everything
		l.Run()
	}
	sent, accepted := 0, 0
	for _, x := range all {
		if !x.c.Ended || x.h.Over != 1 || x.ran != x.posted || x.bad > 0 {
			t.Errorf("session %d: done %t, %d OnDisconnected, %d of %d posts ran, %d messages damaged",
				x.h.ID(), x.c.Ended, x.h.Over, x.ran, x.posted, x.bad)
		}
		for sender := range x.accepted {
			a, b := x.accepted[sender], x.taken[sender]
			if len(b) > len(a) || !slices.Equal(a[:len(b)], b) {
				t.Errorf("session %d: sender %d: %d messages left, not the first of %d accepted", x.h.ID(), sender, len(b), len(a))
			}
		}
		if x.orderly && x.h.SentSum != x.bytes {
			t.Errorf("session %d: %d of %d bytes left before an orderly end: %v", x.h.ID(), x.h.SentSum, x.bytes, x.h.Err())
		}
		sent += x.h.SentSum
		accepted += x.bytes
	}
	k := &l.Shared.Counters
	if dropped := int(k.BytesDropped.Load()); sent+dropped != accepted || int(k.BytesOut.Load()) != sent {
		t.Errorf("accepted %d, sent %d (%d), dropped %d", accepted, sent, k.BytesOut.Load(), dropped)
	}
	if len(all) < stressed*slots || sent == 0 {
		t.Errorf("%d sessions, %d bytes: no stress", len(all), sent)
	}
	t.Logf("%d sessions, %d bytes accepted, %d sent, %d wake-ups", len(all), accepted, sent, l.Wakeups())
}

// ended reports, from any goroutine, whether the session is closed.
func ended(s *session.Session) bool { return errors.Is(s.Post(func() {}), session.ErrClosed) }
