package bench

import (
	"bytes"
	"encoding/binary"
)

// The bytes that are sent, and how every byte that comes back is checked.
//
// A stream is an endless sequence of messages of equal size. Its bytes depend only on the run's seed, the stream's id (the id of the
// connection that sends it) and the position. So they can be computed again at any point, and nothing that was sent has to be kept.
//
// A message of headerSize bytes or more begins with a header:
//
//	0  uint32  stream id
//	4  uint32  check: a hash of seed, id and sequence number
//	8  uint64  sequence number in the stream, from 0
//
// all little-endian. The rest, and the whole of a shorter message, is taken from a table of pseudo-random bytes, as if
// the stream were that table repeated from a place that the id decides. The table's length is a prime, so messages
// are not aligned with it and the same bytes return only after the whole table.
//
// With headers, a lost message can be distinguished from flipped bytes. Without headers there is only the position: a lost message shows
// as wrong bytes from there on, and a loss of exactly a multiple of tableSize bytes does not show at all.
const (
	headerSize = 16
	tableSize  = 262139 // a prime; small enough to stay in a core's cache
)

// pattern makes the streams of one run. Immutable, for any goroutine.
type pattern struct {
	seed  uint64
	size  int // of a message
	table [tableSize]byte
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func newPattern(seed uint64, size int) *pattern {
	p := &pattern{seed: mix(seed), size: size}
	var word [8]byte
	for i := 0; i < tableSize; i += len(word) {
		binary.LittleEndian.PutUint64(word[:], mix(p.seed+uint64(i)))
		copy(p.table[i:], word[:])
	}
	return p
}

// place returns the index in the table of byte off of message seq.
func (p *pattern) place(id uint32, seq uint64, off int) int {
	start := mix(p.seed ^ uint64(id)<<32)
	return int((start%tableSize + seq%tableSize*(uint64(p.size)%tableSize) + uint64(off)) % tableSize)
}

func (p *pattern) check(id uint32, seq uint64) uint32 {
	return uint32(mix(p.seed ^ uint64(id)*0x9e3779b97f4a7c15 ^ seq))
}

func (p *pattern) putHeader(b []byte, id uint32, seq uint64) {
	binary.LittleEndian.PutUint32(b, id)
	binary.LittleEndian.PutUint32(b[4:], p.check(id, seq))
	binary.LittleEndian.PutUint64(b[8:], seq)
}

// header returns the sequence number if b begins with a header of stream id.
func (p *pattern) header(b []byte, id uint32) (seq uint64, ok bool) {
	if binary.LittleEndian.Uint32(b) != id {
		return 0, false
	}
	seq = binary.LittleEndian.Uint64(b[8:])
	return seq, binary.LittleEndian.Uint32(b[4:]) == p.check(id, seq)
}

// fill writes message seq from its byte off on into b, as far as either reaches, and returns how many bytes it wrote.
func (p *pattern) fill(b []byte, id uint32, seq uint64, off int) int {
	b = b[:min(len(b), p.size-off)]
	n := 0
	if p.size >= headerSize && off < headerSize {
		if off == 0 && len(b) >= headerSize {
			p.putHeader(b, id, seq)
			n = headerSize
		} else {
			var h [headerSize]byte
			p.putHeader(h[:], id, seq)
			n = copy(b, h[off:])
		}
	}
	for at := p.place(id, seq, off+n); n < len(b); at = 0 {
		n += copy(b[n:], p.table[at:])
	}
	return n
}

// same reports whether b equals the bytes of message seq from off on, header excluded.
func (p *pattern) same(b []byte, id uint32, seq uint64, off int) bool {
	for at := p.place(id, seq, off); len(b) > 0; at = 0 {
		n := min(len(b), tableSize-at)
		if !bytes.Equal(b[:n], p.table[at:at+n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
