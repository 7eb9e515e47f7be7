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
// With WSText all bytes are ASCII: those of the table have their lowest seven bits only, and the header is written in groups of seven bits:
// 5 bytes of id, 4 of check, 7 of sequence number. That is enough for 2^49 messages.
//
// With WebSocket, fill writes messages as masked frames. Masking costs nothing then: there is a second table that is masked already, and the
// key of each frame is the one that fits its place in it. So keys are four, in turn. A server has to unmask all the same.
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
	size  int  // of a message
	text  bool // all bytes are ASCII
	table [tableSize]byte

	// With WebSocket:
	head   int     // bytes of a frame before its payload; 0 without WebSocket
	lead   []byte  // those before the key
	mask   [4]byte // the key of a frame whose place in the table is a multiple of 4
	masked []byte  // the table four times, masked: then the mask begins anew too
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

// pattern returns the pattern of a plan.
func (p *Plan) pattern() *pattern {
	q := newPattern(p.Seed, p.Size)
	if p.WSText {
		q.text = true
		for i := range q.table {
			q.table[i] &= 0x7f
		}
	}
	if p.WS != "" {
		q.frame()
	}
	return q
}

// frame makes fill write frames.
func (p *pattern) frame() {
	first := byte(finBit | opBinary)
	if p.text {
		first = finBit | opText
	}
	switch {
	case p.size <= 125:
		p.lead = []byte{first, maskBit | byte(p.size)}
	case p.size < 1<<16:
		p.lead = binary.BigEndian.AppendUint16([]byte{first, maskBit | 126}, uint16(p.size))
	default:
		p.lead = binary.BigEndian.AppendUint64([]byte{first, maskBit | 127}, uint64(p.size))
	}
	p.head = len(p.lead) + len(p.mask)
	binary.LittleEndian.PutUint32(p.mask[:], uint32(mix(^p.seed)))
	p.masked = make([]byte, len(p.mask)*tableSize)
	for i := range p.masked {
		p.masked[i] = p.table[i%tableSize] ^ p.mask[i%len(p.mask)]
	}
}

// wire returns the size of a message as it is sent.
func (p *pattern) wire() int { return p.head + p.size }

// place returns the index in the table of byte off of message seq.
func (p *pattern) place(id uint32, seq uint64, off int) int {
	start := mix(p.seed ^ uint64(id)<<32)
	return int((start%tableSize + seq%tableSize*(uint64(p.size)%tableSize) + uint64(off)) % tableSize)
}

func (p *pattern) check(id uint32, seq uint64) uint32 {
	return uint32(mix(p.seed ^ uint64(id)*0x9e3779b97f4a7c15 ^ seq))
}

func (p *pattern) putHeader(b []byte, id uint32, seq uint64) {
	if p.text {
		putSevens(b[:5], uint64(id))
		putSevens(b[5:9], uint64(p.check(id, seq)))
		putSevens(b[9:headerSize], seq)
		return
	}
	binary.LittleEndian.PutUint32(b, id)
	binary.LittleEndian.PutUint32(b[4:], p.check(id, seq))
	binary.LittleEndian.PutUint64(b[8:], seq)
}

// putSevens writes the lowest bits of x, seven in each byte.
func putSevens(b []byte, x uint64) {
	for i := range b {
		b[i] = byte(x) & 0x7f
		x >>= 7
	}
}

// textHeader is header for text.
func (p *pattern) textHeader(b []byte, id uint32) (seq uint64, ok bool) {
	for i, c := range b[9:headerSize] {
		seq |= uint64(c&0x7f) << (7 * i)
	}
	var want [headerSize]byte
	p.putHeader(want[:], id, seq)
	return seq, bytes.Equal(b[:headerSize], want[:])
}

// header returns the sequence number if b begins with a header of stream id.
func (p *pattern) header(b []byte, id uint32) (seq uint64, ok bool) {
	if p.text {
		return p.textHeader(b, id)
	}
	if binary.LittleEndian.Uint32(b) != id {
		return 0, false
	}
	seq = binary.LittleEndian.Uint64(b[8:])
	return seq, binary.LittleEndian.Uint32(b[4:]) == p.check(id, seq)
}

// fill writes message seq as it is sent, from its byte off on, into b, as far as either reaches, and returns how many bytes it wrote.
func (p *pattern) fill(b []byte, id uint32, seq uint64, off int) int {
	if p.head == 0 {
		return p.payload(b, id, seq, off)
	}
	b = b[:min(len(b), p.wire()-off)]
	place, n := p.place(id, seq, 0), 0
	if off < p.head {
		var h [mostHead]byte
		copy(h[:], p.lead)
		for i := range p.mask {
			h[len(p.lead)+i] = p.maskAt(place + i)
		}
		n = copy(b, h[off:p.head])
	}
	off += n - p.head // in the payload from here on
	if p.size >= headerSize && off < headerSize && n < len(b) {
		var h [headerSize]byte
		p.putHeader(h[:], id, seq)
		for i := range h {
			h[i] ^= p.maskAt(place + i)
		}
		k := copy(b[n:], h[off:])
		n, off = n+k, off+k
	}
	for at := (place + off) % len(p.masked); n < len(b); at = 0 {
		n += copy(b[n:], p.masked[at:])
	}
	return n
}

func (p *pattern) maskAt(i int) byte { return p.mask[i%len(p.mask)] }

// payload is fill without frames.
func (p *pattern) payload(b []byte, id uint32, seq uint64, off int) int {
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
