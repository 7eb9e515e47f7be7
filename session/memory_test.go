package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// memory returns what the queue of h holds, as if no other queue shared it.
func memory(t *testing.T, h *testkit.Handler) (sum int) {
	t.Helper()
	sum, common, ok := h.Memory()
	if !ok {
		t.Error("the queue counts other memory than it holds")
	}
	for _, n := range common {
		sum += n
	}
	return sum
}

// given returns a buffer with room for size bytes, n of which are used.
func given(size, n int) *pool.Buffer {
	b := pool.GetSize(size)
	b.B = b.B[:n]
	return b
}

// S5: whatever a slow peer is sent, by whichever method, its queue holds no more memory than SendLimit, a quarter of it, and four pages. All
// bytes that SendLimit allows are accepted, before and after the peer has taken some.
func TestMemoryOfASlowPeerIsBounded(t *testing.T) {
	limit := 256 << 10
	if raced {
		limit = 96 << 10 // all of it is on one goroutine
	}
	most := sendqueue.Ceiling(limit)
	r := rand.New(rand.NewPCG(1, 1))
	var g session.Group
	type send func(h *testkit.Handler, left int) error
	buffers := func(size, n int) send {
		return func(h *testkit.Handler, left int) error { return h.SendBuffer(given(size, min(n, left))) }
	}
	plain := func(n int) send {
		return func(h *testkit.Handler, left int) error { return h.Send(make([]byte, min(n, left))) }
	}
	broadcast := func(n int) send {
		return func(_ *testkit.Handler, left int) error {
			if g.Broadcast(make([]byte, min(n, left))) == 0 {
				return session.ErrSendLimit
			}
			return nil
		}
	}
	turns := func(of ...send) send {
		i := 0
		return func(h *testkit.Handler, left int) error {
			i++
			return of[i%len(of)](h, left)
		}
	}
	var common *pool.Buffer
	for _, tt := range []struct {
		name string
		send
	}{
		{"tiny Sends", plain(1)},
		{"Sends", plain(3000)},
		{"one large Send", plain(limit)},
		{"one byte in 64 KiB", buffers(pool.Large, 1)},
		{"one byte in 8 KiB", buffers(2*pool.Page, 1)},
		{"one byte in 512", buffers(1, 1)},
		{"a tenth of a large one", buffers(limit, limit/10)},
		{"33,000 of 64 KiB", buffers(pool.Large, 33_000)},
		{"all of a large one", buffers(limit, limit)},
		{"all of 64 KiB", buffers(pool.Large, pool.Large)},
		{"a buffer sent again and again", func(h *testkit.Handler, left int) error {
			if common == nil {
				common = given(pool.Large, 1)
			}
			return h.SendBuffer(common.Retain())
		}},
		{"Broadcasts of one byte", broadcast(1)},
		{"Broadcasts of 513", broadcast(513)},
		{"Broadcasts of 33,000", broadcast(33_000)},
		{"Broadcasts of 100,000", broadcast(100_000)},
		{"a Broadcast and a byte", turns(broadcast(513), plain(1))},
		{"all together", func(h *testkit.Handler, left int) error {
			return []send{plain(1 + r.IntN(2000)), buffers(1+r.IntN(pool.Large), 1), broadcast(1 + r.IntN(5000)), buffers(5000, 5000),
				broadcast(700), plain(9)}[r.IntN(6)](h, left)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t, session.Limits{SendLimit: limit})
			h := &testkit.Handler{Quiet: true}
			c := l.Connect(h)
			c.Kernel = 1
			c.Take = func([]byte) {}
			g.Join(h)
			held := 0
			fill := func() {
				t.Helper()
				looked := h.Pending()
				for left := limit - h.Pending(); left > 0; left = limit - h.Pending() {
					if err := tt.send(h, left); err != nil {
						t.Fatalf("%d bytes wait, and there is no room for %d: %v", h.Pending(), left, err)
					}
					if h.Pending() >= looked+50_000 {
						looked = h.Pending()
						l.Run()
						held = max(held, memory(t, h))
					}
				}
				if err := h.Send([]byte("x")); !errors.Is(err, session.ErrSendLimit) {
					t.Errorf("one byte too many: %v", err)
				}
				l.Run()
				held = max(held, memory(t, h))
			}
			fill()
			for range 6 { // and as it leaves
				c.PeerRead(1)
				c.Kernel = limit/3 + r.IntN(5)
				l.Run()
				c.PeerRead(limit)
				c.Kernel = 1
				l.Run()
				fill()
			}
			if held > most {
				t.Errorf("%d bytes are held, want at most %d", held, most)
			}
			t.Logf("%d bytes held at the most for %d", held, limit)
			g.Leave(h)
			if common != nil {
				common.Release()
				common = nil
			}
		})
	}
}

// 500 SendBuffers of a byte each, in large buffers, hold a few pages.
func TestBuffersWithLittleInThemAreCopied(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	l, c := connect(t, session.Limits{SendLimit: 1 << 20}, h)
	c.Kernel = 1
	for range 500 {
		if err := h.SendBuffer(given(pool.Large, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := memory(t, h); n > 2*pool.Page || h.Pending() != 500 {
		t.Errorf("%d bytes are held for %d", n, h.Pending())
	}
	l.Run()
	wantSent(t, h, 500, 1)
}

// S5: the memory of what describes packets counts. A queue full of one-byte packets, equal or not, holds no more than SendLimit and an eighth,
// besides the ends of pages. OnSend still tells each packet when its last byte is out.
func TestMemoryOfPacketsIsBounded(t *testing.T) {
	const limit = 256 << 10
	r := rand.New(rand.NewPCG(2, 2))
	for _, tt := range []struct {
		name string
		frame.Framer
		size func() int
	}{
		{"all of one byte", frame.ServerCore{}, func() int { return 1 }},
		{"empty", frame.ServerCore{}, func() int { return 0 }},
		{"one or two", frame.Line{}, func() int { return 1 + r.IntN(2) }},
		{"none or one", frame.Line{}, func() int { return r.IntN(2) }},
		{"up to 20", frame.Varint{}, func() int { return r.IntN(20) }},
		{"around where the header grows", frame.Varint{}, func() int { return 126 + r.IntN(3) }},
		{"large", frame.Varint{}, func() int { return r.IntN(60_000) }},
		{"all of one frame only", simple{}, func() int { return r.IntN(3) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t, session.Limits{SendLimit: limit, PauseAbove: limit / 4})
			h := &testkit.Handler{Quiet: true, Framed: true}
			c, err := l.Bind(h, session.NewFraming(tt.Framer))
			if err != nil {
				t.Fatal(err)
			}
			c.Take = func([]byte) {}
			c.Connected()
			c.Kernel = 1
			var ends, sums []int // of packets, on the way and as payloads
			wire, payload := 0, 0
			for {
				p := make([]byte, tt.size())
				if err := h.Send(p); err != nil {
					if !errors.Is(err, session.ErrSendLimit) {
						t.Error(err)
					}
					break
				}
				framed, _ := tt.Append(nil, p)
				wire, payload = wire+len(framed), payload+len(p)
				ends, sums = append(ends, wire), append(sums, payload)
			}
			l.Run()
			if h.Pending() > payload || wire > limit {
				t.Errorf("%d of %d bytes wait", h.Pending(), payload)
			}
			if n, most := memory(t, h), limit+limit/8+6*pool.Page; n > most {
				t.Errorf("%d bytes are held for %d, want at most %d", n, wire, most)
			}
			t.Logf("%d packets, %d bytes as they travel, %d of memory", len(ends), wire, memory(t, h))
			for c.Took < wire {
				n := 1 + r.IntN(20_000)
				c.Kernel = c.Took + n
				c.PeerRead(n)
				l.Run()
				out := 0
				for i := range ends {
					if ends[i] > c.Took {
						break
					}
					out = sums[i]
				}
				if h.SentSum != out || h.Pending() != payload-out {
					t.Fatalf("%d bytes are out: OnSend told %d, want %d; %d wait, want %d", c.Took, h.SentSum, out, h.Pending(), payload-out)
				}
			}
			if n := memory(t, h); n != 0 {
				t.Errorf("%d bytes are held when nothing waits", n)
			}
		})
	}
}

// S7 holds for packets too: an application that answers each tiny packet with as much never meets SendLimit, though its peer never reads.
func TestTinyAnswersNeverMeetSendLimit(t *testing.T) {
	for _, above := range []int{1000, 30_000, 60_000} {
		t.Run(fmt.Sprint(above), func(t *testing.T) {
			const limit = 64 << 10
			l := newLoop(t, session.Limits{SendLimit: limit, PauseAbove: above})
			answered := 0
			h := &testkit.Handler{Quiet: true, Framed: true, Recv: func(h *testkit.Handler, p []byte) {
				if err := h.Send(p); err != nil {
					t.Fatalf("answer %d: %v", answered, err)
				}
				answered++
			}}
			c, err := l.Bind(h, session.NewFraming(frame.Line{}))
			if err != nil {
				t.Fatal(err)
			}
			c.Connected()
			c.Kernel = 1
			var input []byte
			for i := range 100_000 {
				input = append(append(input, "abcde"[:i%3]...), '\n')
			}
			c.PeerWrite(input)
			l.Run()
			if answered == 0 || answered == 100_000 {
				t.Errorf("%d answers", answered)
			}
			if n, most := memory(t, h), limit+limit/8+6*pool.Page; n > most {
				t.Errorf("%d bytes are held, want at most %d", n, most)
			}
			c.Kernel = 0
			c.PeerRead(1)
			l.Run()
			if answered != 100_000 || string(c.Wire) != string(input) {
				t.Errorf("%d of 100,000 answers, %d bytes of %d", answered, len(c.Wire), len(input))
			}
		})
	}
}

// S5, I10: with a layer too, the memory of a peer that takes nothing is bounded: by what SendLimit allows a queue, and by one gathered write that was
// sealed. It is charged to the budget.
func TestMemoryOfALayeredPeerIsBounded(t *testing.T) {
	const limit = 40 << 10
	r := rand.New(rand.NewPCG(5, 5))
	var g session.Group
	for _, tt := range []struct {
		name string
		send func(h *testkit.Handler, left int) error
	}{
		{"tiny Sends", func(h *testkit.Handler, _ int) error { return h.Send(make([]byte, 1)) }},
		{"Sends", func(h *testkit.Handler, left int) error { return h.Send(make([]byte, min(3000, left))) }},
		{"large Sends", func(h *testkit.Handler, left int) error { return h.Send(make([]byte, min(15_000, left))) }},
		{"100 bytes in 64 KiB", func(h *testkit.Handler, left int) error { return h.SendBuffer(given(pool.Large, min(100, left))) }},
		{"17,000 of 64 KiB", func(h *testkit.Handler, left int) error { return h.SendBuffer(given(pool.Large, min(17_000, left))) }},
		{"Broadcasts", func(_ *testkit.Handler, left int) error {
			if g.Broadcast(make([]byte, min(1+r.IntN(20_000), left))) == 0 {
				return session.ErrSendLimit
			}
			return nil
		}},
	} {
		eachLayered(t, func(t *testing.T, k *layeredKind) {
			budget := budget.New(1 << 30)
			h := &testkit.Handler{Quiet: true}
			l, p := connectLayered(t, k, session.Limits{SendLimit: limit, Budget: budget}, h)
			p.c.Kernel = 1
			p.c.Take = func([]byte) {}
			g.Join(h)
			defer g.Leave(h)
			most, held := sendqueue.Ceiling(limit)+limit/8+2*pool.Page, 0
			if k.shape == checksum.Sealing {
				most += sendqueue.Ceiling(simWireMost)
			}
			look := func() {
				l.Run()
				n := memory(t, h)
				if held = max(held, n); int(budget.Held()) != n {
					t.Errorf("%d bytes are held, %d are charged", n, budget.Held())
				}
			}
			fill := func() {
				for i := 0; ; i++ {
					left := limit - h.Pending()
					if k.messages() {
						left = min(left, 60_000)
					}
					if err := tt.send(h, max(left, 1)); err != nil {
						if !errors.Is(err, session.ErrSendLimit) {
							t.Fatal(err)
						}
						break
					}
					if i%3000 == 0 {
						look()
					}
				}
				look()
			}
			fill()
			for range 3 {
				p.c.PeerRead(1)
				p.c.Kernel = limit/3 + r.IntN(5)
				look()
				p.probe("?")
				p.c.PeerRead(limit)
				p.c.Kernel = 1
				look()
				fill()
			}
			if held > most || held < limit/2 {
				t.Errorf(tt.name+": %d bytes are held, want at most %d", held, most)
			}
			t.Logf(tt.name+": %d bytes held at the most for %d", held, limit)
		})
	}
}
