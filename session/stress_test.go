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
			for number := range uint32(rounds) {
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
	if len(all) < 2*slots || sent == 0 {
		t.Errorf("%d sessions, %d bytes: no stress", len(all), sent)
	}
	t.Logf("%d sessions, %d bytes accepted, %d sent, %d wake-ups", len(all), accepted, sent, l.Wakeups())
}

// Members of several loops come, go and end in every way while others broadcast, on goroutines of their own and in
// callbacks. Each message carries its number, given out under a lock that makes the numbers the order of the Broadcasts of
// a room: each member must get rising numbers only.
func TestGroupStress(t *testing.T) {
	const speakers, rooms, slots = 3, 3, 12
	rounds := 15_000
	if raced || testing.Short() {
		rounds = 3_000
	}
	limits := session.Limits{SendLimit: 8 << 10, PauseAbove: 2 << 10, Write: time.Minute, Drain: time.Minute, Linger: time.Minute}
	loops := []*testkit.Loop{newLoop(t, limits), newLoop(t, limits), newLoop(t, limits)}
	groups := make([]session.Group, rooms)
	groups[1].EndSlow = true
	var numbers [rooms]struct {
		sync.Mutex
		last    uint32
		reached int
	}
	speak := func(room int, size int, except ...session.Handler) {
		n := &numbers[room]
		n.Lock()
		defer n.Unlock()
		n.last++
		n.reached += groups[room].Broadcast(stressMessage(room, n.last, size), except...)
	}

	type member struct {
		h      *testkit.Handler
		c      *testkit.Conn
		stream stressSession // takes messages apart
	}
	var mu sync.Mutex
	var all []*member
	var place [slots]atomic.Pointer[member]
	connect := func(slot int) { // on the loop
		x := &member{h: &testkit.Handler{Quiet: true}}
		x.h.Connected = func(h *testkit.Handler) { groups[slot%rooms].Join(h) }
		x.h.Recv = func(h *testkit.Handler, p []byte) {
			switch p[0] {
			case 'P':
				panic("simulated")
			case 'B':
				speak(slot%rooms, 10, h)
			}
		}
		x.h.Disconnected = func(h *testkit.Handler) { speak(slot%rooms, 700) }
		c, err := loops[slot%len(loops)].Bind(x.h, nil)
		if err != nil {
			t.Error(err)
			return
		}
		x.c = c
		c.Kernel = 4 << 10
		c.Take = x.stream.take
		mu.Lock()
		all = append(all, x)
		mu.Unlock()
		c.Connected()
		place[slot].Store(x)
	}
	for i, l := range loops {
		l.Start()
		l.Do(func() {
			for slot := i; slot < slots; slot += len(loops) {
				connect(slot)
			}
		})
	}

	var speaking, world sync.WaitGroup
	for speaker := range speakers {
		speaking.Go(func() {
			r := rand.New(rand.NewPCG(uint64(speaker), 9))
			for range rounds {
				x := place[r.IntN(slots)].Load()
				g := &groups[r.IntN(rooms)]
				switch n := r.IntN(1000); {
				case n < 600:
					speak(r.IntN(rooms), r.IntN(1200))
				case n < 750:
					g.Join(x.h)
				case n < 900:
					g.Leave(x.h)
				case n < 950:
					for h := range g.All() {
						g.Leave(h)
						g.Join(h)
						break
					}
				case n < 990:
					n := g.Len()
					mu.Lock()
					if n > len(all) {
						t.Error("more members than sessions")
					}
					mu.Unlock()
				case n < 997:
					x.h.Disconnect()
				default:
					x.h.Abort()
				}
			}
		})
	}
	done := make(chan struct{})
	for i, l := range loops {
		world.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 10))
			for {
				select {
				case <-done:
					return
				default:
				}
				l.Do(func() {
					for slot := i; slot < slots; slot += len(loops) {
						x := place[slot].Load()
						x.c.PeerRead(r.IntN(8 << 10))
						switch n := r.IntN(300); {
						case x.c.Ended:
							connect(slot)
						case n < 100:
							x.c.PeerWrite([]byte("B"))
						case n == 100:
							x.c.PeerWrite([]byte("P"))
						case n == 101:
							x.c.PeerReset(errors.New("reset"))
						case x.h.Err() != nil:
							x.c.PeerFIN()
						}
					}
				})
				runtime.Gosched()
			}
		})
	}
	speaking.Wait()
	close(done)
	world.Wait()
	for _, l := range loops {
		l.Stop()
	}

	// The test's goroutine is all loops now. OnDisconnected of one speaks to others: until all is still.
	for moved := true; moved; {
		moved = false
		for _, l := range loops {
			l.Advance(time.Second)
		}
		for _, x := range all {
			if !x.c.Closed {
				moved = true
				x.c.PeerRead(x.c.Held())
				x.c.PeerFIN()
			}
		}
	}
	reached, delivered, skipped := 0, 0, uint64(0)
	for i := range groups {
		reached += numbers[i].reached
		skipped += groups[i].Skipped()
		if n := groups[i].Len(); n != 0 {
			t.Errorf("room %d has %d members at the end", i, n)
		}
	}
	for _, x := range all {
		if x.stream.bad > 0 {
			t.Errorf("session %d: %d messages damaged", x.h.ID(), x.stream.bad)
		}
		for room, taken := range x.stream.taken {
			if !slices.IsSorted(taken) || len(slices.Compact(slices.Clone(taken))) != len(taken) {
				t.Errorf("session %d: the messages of room %d came out of order", x.h.ID(), room)
			}
			delivered += len(taken)
		}
	}
	if delivered > reached || delivered == 0 || skipped == 0 || len(all) < 2*slots {
		t.Errorf("%d sessions, %d messages accepted, %d delivered, %d skipped", len(all), reached, delivered, skipped)
	}
	sent, dropped := 0, 0
	for _, l := range loops {
		sent += int(l.Shared.Counters.BytesOut.Load())
		dropped += int(l.Shared.Counters.BytesDropped.Load())
	}
	if dropped == 0 && delivered != reached {
		t.Errorf("%d of %d messages were delivered, and no byte dropped", delivered, reached)
	}
	t.Logf("%d sessions, %d messages accepted, %d delivered, %d skipped, %d bytes sent, %d dropped",
		len(all), reached, delivered, skipped, sent, dropped)
}

// litmus is a transport and a loop that add no synchronisation of their own to the session's: one flag for the
// wake-up, busy waiting on every side.
type litmus struct {
	session.Transport // what is not called
	scratch           *session.Scratch
	woken, again      atomic.Bool
	wakes             atomic.Int64
	taken             atomic.Int64
}

func (m *litmus) Wake() {
	m.wakes.Add(1)
	if m.woken.Swap(true) {
		panic("Wake while a Turn is owed")
	}
}
func (m *litmus) Scratch() *session.Scratch { return m.scratch }
func (m *litmus) Again()                    { m.again.Store(true) }
func (m *litmus) Now() time.Duration        { return time.Second }
func (m *litmus) Arm(time.Duration)         {}
func (m *litmus) Unsent() int               { return 0 }
func (m *litmus) Received() int             { return 0 }
func (m *litmus) Close(bool)                {}
func (m *litmus) Done()                     {}
func (m *litmus) Reading(bool) error        { return nil }
func (m *litmus) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	m.taken.Add(int64(n))
	return n, nil
}

// I4: no request is lost and none wakes twice, whatever the instants at which two goroutines ask and the loop
// looks. In each round both ask and wait until both were served; after a lost wake-up they wait for ever.
func TestWakeupLitmus(t *testing.T) {
	rounds := int64(200_000)
	if raced || testing.Short() {
		rounds = 10_000
	}
	const patience = 20 * time.Second
	type ask func(s *session.Session, m *litmus) error
	send := func(s *session.Session, _ *litmus) error { return s.Send([]byte{1}) }
	post := func(s *session.Session, m *litmus) error { return s.Post(func() { m.taken.Add(1) }) }
	sendInPost := func(s *session.Session, m *litmus) error {
		return s.Post(func() { _ = send(s, m) })
	}
	toggle := func(s *session.Session, m *litmus) error {
		s.PauseRecv()
		err := send(s, m)
		s.ResumeRecv()
		return err
	}
	for name, pair := range map[string][2]ask{
		"send, send": {send, send}, "send, post": {send, post}, "post, post": {post, post},
		"send, send in post": {send, sendInPost}, "send, pause and send": {send, toggle},
	} {
		t.Run(name, func(t *testing.T) {
			m := &litmus{scratch: session.NewScratch()}
			h := &struct{ session.Session }{}
			d, err := session.Bind(h, m, session.NewLoop(session.Limits{}), nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			d.Connected()
			var over, lost atomic.Bool
			var loop, askers sync.WaitGroup
			loop.Go(func() {
				for !over.Load() {
					switch {
					case m.woken.CompareAndSwap(true, false):
						d.Turn()
					case m.again.CompareAndSwap(true, false):
						d.Resume()
					default:
						runtime.Gosched()
					}
				}
			})
			for _, ask := range pair {
				askers.Go(func() {
					for round := range rounds {
						if err := ask(&h.Session, m); err != nil {
							t.Error(err)
							return
						}
						began := time.Time{}
						for spins := 0; m.taken.Load() < 2*(round+1); spins++ {
							runtime.Gosched()
							if spins%(1<<14) != 1<<14-1 {
								continue
							}
							if began.IsZero() {
								began = time.Now()
							} else if time.Since(began) > patience {
								lost.Store(true)
							}
							if lost.Load() {
								return
							}
						}
					}
				})
			}
			askers.Wait()
			if taken := m.taken.Load(); taken != 2*rounds {
				t.Errorf("a wake-up was lost: %d of %d requests were served", taken, 2*rounds)
			}
			h.Abort()
			for began := time.Now(); !ended(&h.Session) && time.Since(began) < patience; {
				runtime.Gosched()
			}
			over.Store(true)
			loop.Wait()
			if !d.Ended() {
				t.Error("Abort was lost")
			}
			t.Logf("%d wake-ups for %d requests", m.wakes.Load(), 2*rounds)
		})
	}
}

// E2: the peer's FIN ends a session whose queue is empty; a Send at the same instant either is refused or leaves.
func TestFINLitmus(t *testing.T) {
	rounds := 5_000
	if raced || testing.Short() {
		rounds = 1_000
	}
	sessions, accepted := make(chan *session.Session), make(chan int64)
	go func() {
		defer close(accepted)
		for s := range sessions {
			n := int64(0)
			for s.Send([]byte{1}) == nil {
				n++
			}
			accepted <- n
		}
	}()
	shared, early := session.NewLoop(session.Limits{}), 0
	for round := range rounds {
		m := &litmus{scratch: session.NewScratch()}
		h := &struct{ session.Session }{}
		d, err := session.Bind(h, m, shared, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Connected()
		sessions <- &h.Session
		for range round % 5 { // any instant
			runtime.Gosched()
		}
		for d.PeerClosed(nil); !d.Ended(); {
			if m.again.Swap(false) {
				d.Resume()
			}
			if m.woken.Swap(false) {
				d.Turn()
			}
		}
		n := <-accepted
		if m.woken.Swap(false) {
			d.Turn()
		}
		if n != m.taken.Load() {
			t.Errorf("round %d: %d bytes accepted, %d left", round, n, m.taken.Load())
			break
		}
		if n == 0 {
			early++
		}
	}
	close(sessions)
	if <-accepted; early == rounds {
		t.Error("the sender never came in between")
	}
	t.Logf("%d of %d sessions took bytes", rounds-early, rounds)
}

// ended reports, from any goroutine, whether the session is closed.
func ended(s *session.Session) bool { return errors.Is(s.Post(func() {}), session.ErrClosed) }
