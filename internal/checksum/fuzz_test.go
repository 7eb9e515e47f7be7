package checksum

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// FuzzOpen opens any bytes, as they are and as records with right CRCs and numbers. The receiver checks what Open promises.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint64(1), false, false)
	f.Add(record8(kindProbe, 1, "p"), uint64(2), true, false)
	f.Add([]byte{2, 3, 'a', 'b', 'c', 3, 1, 'p', 5, 0}, uint64(3), false, true)
	f.Add([]byte{2, 3, 'a', 'b', 'c', 2, 0, 2, 200}, uint64(4), true, true)
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, framing, valid bool) {
		shape := Sealing
		if framing {
			shape = Framing
		}
		random := rand.New(rand.NewPCG(seed, 0))
		_, to := newPair(t, shape, false)
		if valid {
			in = asRecords(in, framing)
		}
		r := &receiver{end: to, room: func() int { return random.IntN(40) }}
		r.feedCut(t, in, random, 1+random.IntN(2000))
		if len(r.all()) > len(in) {
			t.Errorf("%d bytes out of %d", len(r.all()), len(in))
		}
		if err := to.Ended(); (err == nil) != to.PeerDone() {
			t.Errorf("Ended: %v", err)
		}
		own := to.Own(nil, true)
		if to.Pending() || len(own) > 2*(MaxPayload+Overhead) {
			t.Errorf("Own made %d bytes, pending %v", len(own), to.Pending())
		}
	})
}

// asRecords makes records of a client: each byte of in that is a kind is followed by a length and so many bytes.
func asRecords(in []byte, framing bool) (wire []byte) {
	number := uint32(1)
	for len(in) >= 2 {
		k, n := kind(in[0]), min(int(in[1]), len(in)-2)
		if framing && k == kindData {
			wire = appendRecord(wire, k, 0, in[2:2+n])
		} else {
			wire = appendRecord(wire, k, number, in[2:2+n])
			number++
		}
		in = in[2+n:]
	}
	return wire
}

// FuzzDamage seals plain, changes the stream, and opens it: what comes out is what was sealed, up to the damage.
func FuzzDamage(f *testing.F) {
	f.Add([]byte("some bytes of the application"), uint64(1), uint8(0), false)
	f.Add([]byte("some bytes of the application"), uint64(2), uint8(1), false)
	f.Add([]byte("some bytes of the application"), uint64(3), uint8(2), true)
	f.Add([]byte("some bytes of the application"), uint64(4), uint8(3), true)
	f.Fuzz(func(t *testing.T, plain []byte, seed uint64, how uint8, framing bool) {
		shape := Sealing
		if framing {
			shape = Framing
		}
		random := rand.New(rand.NewPCG(seed, 1))
		from, to := newPair(t, shape, true)
		var wire []byte
		var starts []int
		for rest := plain; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 3000))
			starts = append(starts, len(wire))
			wire = from.send(t, wire, rest[:n])
			rest = rest[n:]
		}
		from.Finish(nil)
		wire = from.Own(wire, true)
		whole := len(wire)
		damaged := how%4 > 0 && len(starts) > 0
		if damaged {
			wire = damage(wire, starts, how%4, random)
		}
		r := &receiver{end: to, room: func() int { return random.IntN(2000) }}
		r.feedCut(t, wire, random, 1+random.IntN(2000))
		if !damaged {
			if !bytes.Equal(r.all(), plain) || r.err != io.EOF {
				t.Fatalf("%d bytes of %d, error %v", len(r.all()), len(plain), r.err)
			}
			return
		}
		noticed := r.err != nil && r.err != io.EOF || to.Ended() != nil
		if !noticed && !(framing && how%4 == 3) { // a lost message has no number
			t.Fatalf("the damage (%d) of %d bytes to %d was not noticed", how%4, whole, len(wire))
		}
		if !bytes.HasPrefix(plain, r.all()) && !(framing && how%4 == 3) {
			t.Fatalf("%d bytes that were not sealed so", len(r.all()))
		}
	})
}

// damage flips a bit (1), cuts the end off (2), or leaves out what was sealed in one call (3).
func damage(wire []byte, starts []int, how uint8, random *rand.Rand) []byte {
	switch how {
	case 1:
		wire[random.IntN(len(wire))] ^= 1 << random.IntN(8)
	case 2:
		wire = wire[:random.IntN(len(wire))]
	case 3:
		i := random.IntN(len(starts))
		end := len(wire) - Overhead // the last word
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		wire = append(wire[:starts[i]], wire[end:]...)
	}
	return wire
}
