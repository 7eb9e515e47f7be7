package sendqueue

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/servercore-go/servercore/pool"
)

// fill puts units into a wire, as a session does.
func fill(w *Wire, m *Scratch, b []byte, units ...[2]int) {
	for _, u := range units {
		w.Add(u[0], u[1])
	}
	w.Fill(m, b)
}

// gathered returns what w offers.
func gathered(w *Wire, m *Scratch) []byte { return bytes.Join(w.Gather(m), nil) }

// A unit is told when its last byte has left, whole, and never before. A unit of nothing but the layer's own bytes tells nothing.
func TestWireTellsUnitsThatAreOut(t *testing.T) {
	m := MakeWireScratch(100)
	var w Wire
	fill(&w, &m, append(m.Memory(), "ownAAAABBBBBCC"...), [2]int{3, 0}, [2]int{4, 2}, [2]int{5, 4}, [2]int{2, 1})
	for _, step := range []struct{ n, told, payload, size int }{
		{2, 0, 7, 12}, {1, 0, 7, 11}, {3, 0, 7, 8}, {1, 2, 5, 7}, {4, 0, 5, 3}, {3, 5, 0, 0},
	} {
		if told := sent(&w, step.n); told != step.told || w.Payload() != step.payload || w.Size() != step.size {
			t.Errorf("%d bytes left: %d told, %d to tell, %d wait: want %+v", step.n, told, w.Payload(), w.Size(), step)
		}
		w.Reclaim()
	}
	if w.Held() != 0 || pool.Live() != 0 {
		t.Errorf("%d bytes are held, %d buffers", w.Held(), pool.Live())
	}
}

// Units of no bytes are out with the next that leave.
func TestWireUnitsOfNothing(t *testing.T) {
	m := MakeWireScratch(100)
	var w Wire
	fill(&w, &m, append(m.Memory(), "AB"...), [2]int{0, 0}, [2]int{2, 3}, [2]int{0, 0})
	if told := sent(&w, 1); told != 0 {
		t.Errorf("%d told", told)
	}
	if told := sent(&w, 1); told != 3 || w.Payload() != 0 || w.Drop() != 0 {
		t.Errorf("%d told, %d to tell", told, w.Payload())
	}
}

// What was not taken of the scratch memory moves to memory of the wire's own: the scratch may be written to by then.
func TestWireReclaim(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, size := range []int{1, 100, pool.Page, 30_000, 64 << 10, 80_000} { // the last is more than the scratch has room for
		m := MakeWireScratch(64 << 10)
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		var w Wire
		fill(&w, &m, append(m.Memory(), want...), [2]int{size / 2, 10}, [2]int{size - size/2, 20})
		told := 0
		for len(want) > 0 {
			if got := gathered(&w, &m); !bytes.Equal(got, want) {
				t.Fatalf("%d: offers %d other bytes than the %d that wait", size, len(got), len(want))
			}
			n := min(1+r.IntN(max(size/5, 1)), len(want))
			told += sent(&w, n)
			w.Reclaim()
			want = want[n:]
			clear(m.memory[:cap(m.memory)])
			held := 0
			w.Segments(func(b *pool.Buffer, overhead int, _ bool) { held += b.Memory() + overhead })
			if (held > 0) != (len(want) > 0) || w.Size() != len(want) || told+w.Payload() != 30 {
				t.Fatalf("%d: %d bytes of memory for %d that wait (%d), %d told, %d to tell", size, held, len(want), w.Size(), told, w.Payload())
			}
			if most := size + size/4 + 5*pool.Page; w.Held() > most {
				t.Fatalf("%d: %d bytes are held, at most %d", size, w.Held(), most)
			}
		}
	}
	if pool.Live() != 0 {
		t.Errorf("%d buffers", pool.Live())
	}
}

// Drop gives everything back, and tells what is lost: also what is out in part.
func TestWireDrop(t *testing.T) {
	for _, taken := range []int{0, 1, 5, 6} {
		m := MakeWireScratch(100)
		var w Wire
		fill(&w, &m, append(m.Memory(), "AAAAABBBBB"...), [2]int{5, 3}, [2]int{5, 4})
		told := sent(&w, taken)
		w.Reclaim()
		if lost := w.Drop(); told+lost != 7 || told != taken/5*3 || w.Size() != 0 || w.Payload() != 0 || w.Held() != 0 {
			t.Errorf("after %d bytes: %d told, %d lost; %d wait", taken, told, lost, w.Size())
		}
		if lost := w.Drop(); lost != 0 {
			t.Errorf("a second Drop: %d lost", lost)
		}
		fill(&w, &m, append(m.Memory(), "again"...), [2]int{5, 1})
		if got := string(gathered(&w, &m)); got != "again" || sent(&w, 5) != 1 {
			t.Errorf("used again it offers %q", got)
		}
	}
	if pool.Live() != 0 {
		t.Errorf("%d buffers", pool.Live())
	}
}

// In steady state nothing is allocated, also if the kernel takes a part.
func TestWireDoesNotAllocate(t *testing.T) {
	if raced {
		return // sync.Pool forgets at random
	}
	m := MakeWireScratch(64 << 10)
	var w Wire
	f := func() {
		b := m.Memory()[:70_000]
		w.Add(100, 0)
		w.Add(len(b)-100, 60_000)
		w.Fill(&m, b)
		for w.Size() > 0 {
			w.Gather(&m)
			sent(&w, min(w.Size(), 20_000))
			w.Reclaim()
		}
	}
	for range 100 {
		f()
	}
	if n := testing.AllocsPerRun(200, f); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Rest is what is left of a packet that has left in part, wherever that stands: alone, among equals, behind others, in the tokens.
func TestPacketsRest(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 300 {
		var p Packets
		var sizes []int
		for range 1 + r.IntN(20) {
			n := []int{0, 1, 1, 7, 300, 5000}[r.IntN(6)]
			for range 1 + r.IntN(3) {
				p.Add(n+3, n)
				sizes = append(sizes, n+3)
			}
		}
		if p.Rest() != 0 {
			t.Fatalf("%d bytes are left of a packet of which none has left", p.Rest())
		}
		for at := 0; len(sizes) > 0; {
			n := 1 + r.IntN(2000)
			for at += n; len(sizes) > 0 && at >= sizes[0]; sizes = sizes[1:] {
				at -= sizes[0]
			}
			if len(sizes) == 0 {
				n -= at
			}
			p.Sent(n)
			want := 0
			if len(sizes) > 0 && at > 0 {
				want = sizes[0] - at
			}
			if got := p.Rest(); got != want {
				t.Fatalf("%d bytes are left of the packet under way, want %d", got, want)
			}
			if len(sizes) > 0 && r.IntN(3) == 0 { // Rest may have moved a run: Add goes on behind it
				n := r.IntN(3)
				p.Add(n+3, n)
				sizes = append(sizes, n+3)
			}
		}
		if p.Rest() != 0 || p.Payload() != 0 {
			t.Fatalf("%d left of the last packet, %d payload", p.Rest(), p.Payload())
		}
	}
}

func sent(w *Wire, n int) (told int) {
	told, _, _ = w.Sent(n)
	return told
}
