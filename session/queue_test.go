package session_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// S2: what is queued leaves in one write; small payloads share a segment.
func TestSendsAreGathered(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	var want strings.Builder
	for i := range 1000 {
		message := fmt.Sprintf("message %d;", i)
		want.WriteString(message)
		mustSend(t, h, message)
	}
	l.Run()
	wantWire(t, c, want.String())
	if len(c.Writes) != 1 || c.Writes[0].Segments > want.Len()/pool.Page+2 {
		t.Errorf("writes %+v, want one of few segments", c.Writes)
	}
}

// S2: a write has at most 1,024 segments and 256 KiB, and a turn has few writes.
func TestGatheredWriteIsBounded(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	for range 3000 {
		if err := h.SendBuffer(buffer("x")); err != nil {
			t.Fatal(err)
		}
	}
	l.Run()
	wantWire(t, c, strings.Repeat("x", 3000))
	for _, w := range c.Writes {
		if w.Segments > 1024 {
			t.Errorf("a write of %d segments", w.Segments)
		}
	}
	if len(c.Writes) != 3 {
		t.Errorf("%d writes, want 3", len(c.Writes))
	}

	c.Writes = nil
	mustSend(t, h, strings.Repeat("y", 10<<20))
	c.Serve(testkit.Turn)
	if len(c.Writes) != 4 || c.Wants() != testkit.Resume {
		t.Errorf("a turn made %d writes and then wants %b, want 4 and to be resumed", len(c.Writes), c.Wants())
	}
	for _, w := range c.Writes {
		if w.Offered > 256<<10 {
			t.Errorf("a write of %d bytes", w.Offered)
		}
	}
	l.Run()
	wantSent(t, h, 3000+10<<20, 3000+10<<20)
}

// An idle session holds no buffer.
func TestIdleSessionHoldsNoBuffer(t *testing.T) {
	h := &testkit.Handler{Recv: func(h *testkit.Handler, p []byte) {
		if err := h.Send(p); err != nil {
			t.Error(err)
		}
	}}
	l, c := connect(t, session.Limits{}, h)
	for range 3 {
		c.PeerWrite(make([]byte, 100_000))
		l.Run()
		if pool.Live() != 0 {
			t.Fatalf("%d buffers", pool.Live())
		}
	}
	wantSent(t, h, 300_000, 300_000)
}

// What OnRecv sends of its own input, piece by piece, leaves from there without a copy. What is no longer one piece of it is copied. No byte is
// lost either way.
func TestEchoIsNotCopied(t *testing.T) {
	input := bytes.Repeat([]byte("0123456789"), 1000)
	for _, test := range []struct {
		name   string
		pieces [][2]int
		other  bool // something else behind them
		copied bool
	}{
		{name: "whole", pieces: [][2]int{{0, 10_000}}},
		{name: "piece by piece", pieces: [][2]int{{0, 10}, {10, 5000}, {5000, 10_000}}},
		{name: "from the middle", pieces: [][2]int{{100, 200}, {200, 300}}},
		{name: "with a gap", pieces: [][2]int{{0, 100}, {101, 200}}, copied: true},
		{name: "twice", pieces: [][2]int{{0, 100}, {0, 100}}, copied: true},
		{name: "and more", pieces: [][2]int{{0, 100}}, other: true, copied: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var given []byte
			var want bytes.Buffer
			h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, p []byte) {
				given = p
				send := func(p []byte) {
					if err := h.Send(p); err != nil {
						t.Error(err)
					}
					want.Write(p)
				}
				for _, at := range test.pieces {
					send(p[at[0]:at[1]])
				}
				if test.other {
					send([]byte("more"))
				}
			}}
			l, c := connect(t, session.Limits{}, h)
			copied := true
			c.Look = func(bufs [][]byte) {
				copied = &bufs[0][0] != &given[test.pieces[0][0]]
				if len(bufs) != 1 {
					t.Errorf("%d slices, want one", len(bufs))
				}
			}
			c.PeerWrite(input)
			l.Run()
			wantWire(t, c, want.String())
			if copied != test.copied {
				t.Errorf("copied: %t, want %t", copied, test.copied)
			}
			if pool.Live() != 0 {
				t.Errorf("%d buffers", pool.Live())
			}
		})
	}
}

// S5: a slow peer's queue holds its bytes and little more: less than a page at each end, and one where scratch
// memory was moved to segments.
func TestQueueMemoryIsBounded(t *testing.T) {
	const limit = 512 << 10
	for _, size := range []int{1, 40, 511, 513, 3000, 4097, 10_000, 70_000} {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("sends of %d, inside %t", size, inside), func(t *testing.T) {
				fill := func(h *testkit.Handler) {
					for p := make([]byte, size); h.Send(p) == nil; {
					}
				}
				h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, _ []byte) { fill(h) }}
				l, c := connect(t, session.Limits{SendLimit: limit}, h)
				c.Kernel = 100
				held := 0
				c.Look = func(bufs [][]byte) {
					held = 0
					for _, b := range bufs {
						held += cap(b)
					}
				}
				for range 3 {
					if inside {
						c.PeerWrite([]byte("x"))
					} else {
						fill(h)
					}
					l.Run()
					c.PeerRead(100)
					l.Run()
				}
				if least := limit - size - 1000; h.Pending() < least {
					t.Errorf("%d bytes wait, want at least %d", h.Pending(), least)
				}
				if most := limit + 3*pool.Page; held > most {
					t.Errorf("%d bytes wait in %d of memory, want at most %d", h.Pending(), held, most)
				}
			})
		}
	}
}

// I5, I8: whatever mixture of scratch memory, segments and writes of any size, the bytes that leave are those that were accepted.
func TestQueueAgainstModel(t *testing.T) {
	seeds := uint64(300)
	if raced {
		seeds = 50
	}
	source := make([]byte, 200_000)
	for i := range source {
		source[i] = byte(i * i >> 7)
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 1))
		var want bytes.Buffer
		fill := func(h *testkit.Handler, input []byte) {
			echoed := 0
			for range r.IntN(6) {
				n := 1 + r.IntN([]int{8, 600, 9000, 150_000}[r.IntN(4)])
				at := r.IntN(len(source) - n)
				p := source[at : at+n]
				echo := r.IntN(2) == 0 && echoed < len(input)
				if echo { // of what was received, mostly the next piece
					if r.IntN(4) == 0 {
						echoed = r.IntN(len(input))
					}
					p = input[echoed:min(echoed+n, len(input))]
					echoed += len(p)
				}
				if echo || r.IntN(3) > 0 {
					if h.Send(p) == nil {
						want.Write(p)
					}
				} else if h.SendBuffer(buffer(string(p))) == nil {
					want.Write(p)
				}
			}
		}
		h := &testkit.Handler{Quiet: true, Recv: fill}
		l, c := connect(t, session.Limits{SendLimit: []int{0, 10_000, 400_000}[r.IntN(3)]}, h)
		c.Kernel = 1 + r.IntN([]int{10, 5000, 100_000}[r.IntN(3)])
		if r.IntN(2) == 0 {
			c.MaxWrite = 1 + r.IntN(c.Kernel)
		}
		for range 12 {
			if r.IntN(2) == 0 {
				at := r.IntN(len(source) - 70_000)
				c.PeerWrite(source[at : at+1+r.IntN([]int{1, 2000, 70_000}[r.IntN(3)])])
			} else {
				fill(h, nil)
			}
			if r.IntN(3) > 0 {
				l.Run()
			}
			c.PeerRead(r.IntN(2 * c.Kernel))
		}
		c.Kernel, c.MaxWrite = 0, 0
		c.Room()
		l.Run()
		if !bytes.Equal(c.Wire, want.Bytes()) {
			t.Fatalf("seed %d: %d bytes left, %d were accepted, or they differ", seed, len(c.Wire), want.Len())
		}
		wantSent(t, h, want.Len(), want.Len())
		if pool.Live() != 0 {
			t.Fatalf("seed %d: an empty queue holds %d buffers", seed, pool.Live())
		}
		l.Abort()
	}
}
