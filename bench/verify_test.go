package bench

import (
	"bytes"
	"testing"
)

// tally is what a verifier said about a stream.
type tally struct{ done, repeated, wrong, lost int }

// feed gives b to the verifier in pieces of the sizes that cuts tells, then whole.
func feed(t testing.TB, v *verifier, p *pattern, b []byte, limit uint64, cuts []byte) tally {
	t.Helper()
	var sum tally
	for len(b) > 0 {
		piece := b
		if len(cuts) > 0 {
			piece, cuts = b[:min(len(b), 1+int(cuts[0])%97)], cuts[1:]
		}
		b = b[len(piece):]
		for len(piece) > 0 {
			w := v.step(p, piece, limit)
			if w.n <= 0 || w.n > len(piece) {
				t.Fatalf("%d of %d bytes used up", w.n, len(piece))
			}
			if w.done && w.repeated {
				sum.repeated++
			} else if w.done {
				sum.done++
			}
			sum.wrong += w.wrong
			sum.lost += w.lost
			piece = piece[w.n:]
		}
	}
	return sum
}

var patterns = [4]*pattern{newPattern(0, 1), newPattern(1, 1), newPattern(2, 1), newPattern(3, 1)}

// cached returns a pattern of one of a few seeds: making one from nothing takes longer than most of what fuzzing does.
func cached(seed uint64, size int) *pattern {
	p := *patterns[seed%uint64(len(patterns))]
	p.size = size
	return &p
}

func message(p *pattern, id uint32, seq uint64) []byte {
	b := make([]byte, p.size)
	p.fill(b, id, seq, 0)
	return b
}

func TestFillInParts(t *testing.T) {
	for _, size := range []int{1, 5, 15, 16, 17, 64, 1000, tableSize + 100} {
		p := newPattern(7, size)
		whole := message(p, 3, 1234567)
		step := 1 + size/7
		var parts []byte
		for off := 0; off < size; off += step {
			b := make([]byte, step)
			parts = append(parts, b[:p.fill(b, 3, 1234567, off)]...)
		}
		if !bytes.Equal(whole, parts) {
			t.Errorf("size %d: parts differ from the whole", size)
		}
	}
}

func TestStreamsDiffer(t *testing.T) {
	p := newPattern(1, 64)
	first := message(p, 1, 0)
	for name, other := range map[string][]byte{
		"position": message(p, 1, 1), "stream": message(p, 2, 0), "seed": message(newPattern(2, 64), 1, 0),
	} {
		if bytes.Equal(first[headerSize:], other[headerSize:]) {
			t.Errorf("the bytes do not depend on the %s", name)
		}
	}
	if !bytes.Equal(first, message(newPattern(1, 64), 1, 0)) {
		t.Error("the same stream has other bytes")
	}
}

// Bytes that went missing or were put in shift everything behind them: the verifier finds the next message.
func TestShiftedStream(t *testing.T) {
	p := newPattern(1, 100)
	var stream []byte
	for seq := range uint64(20) {
		stream = append(stream, message(p, 5, seq)...)
	}
	for at := 300; at < 500; at++ {
		for _, n := range []int{1, 5, 15, 16, 50, 99} {
			cut := append(bytes.Clone(stream[:at]), stream[at+n:]...)
			sum := feed(t, &verifier{id: 5}, p, cut, 20, nil)
			if bad := sum.wrong + sum.lost; bad == 0 || bad > 2 || sum.done+bad < 20 {
				t.Fatalf("%d bytes missing at %d: %+v", n, at, sum)
			}
			garbage := append(append(bytes.Clone(stream[:at]), bytes.Repeat([]byte{0xaa}, n)...), stream[at:]...)
			sum = feed(t, &verifier{id: 5}, p, garbage, 20, nil)
			if sum.wrong == 0 || sum.wrong > 2 || sum.done < 18 {
				t.Fatalf("%d bytes too many at %d: %+v", n, at, sum)
			}
		}
	}
}

func TestJoinInTheMiddle(t *testing.T) {
	p := newPattern(1, 64)
	var stream []byte
	for seq := range uint64(10) {
		stream = append(stream, message(p, 0, seq)...)
	}
	for at := range 128 {
		v := &verifier{joining: true, hunting: true}
		sum := feed(t, v, p, stream[at:], 10, []byte{1, 2, 3, 90, 4})
		first := (at + 63) / 64
		if sum != (tally{done: 10 - first}) {
			t.Fatalf("joined at byte %d: %+v", at, sum)
		}
	}
}

func TestMoreThanWasSent(t *testing.T) {
	for _, size := range []int{8, 64} {
		p := newPattern(1, size)
		b := append(message(p, 0, 0), message(p, 0, 1)...)
		if sum := feed(t, &verifier{}, p, b, 1, nil); sum.done != 1 || sum.wrong == 0 {
			t.Errorf("size %d: %+v", size, sum)
		}
	}
}

// FuzzVerify makes a stream in which some messages are flipped, dropped or repeated, cuts it anywhere, and wants each
// of these counted, once and as what it is.
func FuzzVerify(f *testing.F) {
	f.Add(uint64(1), uint16(48), []byte{0, 1, 2, 3, 0, 0}, []byte{5})
	f.Add(uint64(2), uint16(0), []byte{2, 2, 2}, []byte{})
	f.Add(uint64(3), uint16(1), []byte{3, 3, 1, 1, 0, 2, 0}, []byte{0, 0, 0, 0})
	f.Add(uint64(4), uint16(1000), []byte{0, 2, 1, 3, 0}, []byte{255, 1, 16})
	f.Fuzz(func(t *testing.T, seed uint64, extra uint16, ops, cuts []byte) {
		p := cached(seed, headerSize+int(extra)%2000)
		id := uint32(seed >> 7)
		limit := uint64(len(ops))
		var stream []byte
		var want tally
		dropped := 0
		for seq, op := range ops {
			m := message(p, id, uint64(seq))
			if op%4 == 1 {
				dropped++ // seen when a later message comes
				continue
			}
			if op%4 == 2 {
				// A flipped message looks the same as the first of those that were dropped before it, so it
				// cannot be told which of them it is; their number can.
				m[int(op/4)*31%len(m)] ^= 1 << (op % 8)
				want.wrong++
			} else {
				want.done++
			}
			want.lost, dropped = want.lost+dropped, 0
			stream = append(stream, m...)
			if op%4 == 3 {
				want.repeated++
				stream = append(stream, m...)
			}
		}
		got := feed(t, &verifier{id: id}, p, stream, limit, cuts)
		// What was dropped before a flipped header at the end of the stream cannot be known.
		if got.done != want.done || got.repeated != want.repeated || got.wrong != want.wrong || got.lost > want.lost {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if n := len(ops); got.lost != want.lost && n > 0 && ops[n-1]%4 != 2 && ops[n-1]%4 != 1 {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// FuzzNoise feeds anything at all: whatever comes, every byte is used up and nothing panics.
func FuzzNoise(f *testing.F) {
	f.Add(uint16(64), []byte("hello"), []byte{1})
	f.Add(uint16(1), []byte{0, 1, 2, 3}, []byte{})
	f.Fuzz(func(t *testing.T, size uint16, noise, cuts []byte) {
		p := cached(1, 1+int(size))
		limit := uint64(3)
		v := &verifier{}
		sum := feed(t, v, p, noise, limit, cuts)
		if v.next > limit || uint64(sum.done) > v.next {
			t.Errorf("%+v, next %d of %d", sum, v.next, limit)
		}
	})
}
