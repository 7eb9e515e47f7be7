package session

import (
	"encoding/binary"
	"sync"

	"github.com/servercore-go/servercore/pool"
)

// run is equal packets in a row.
type run struct {
	wire    int // bytes of each on the way
	payload int // of them what the application has sent
	count   int // of packets, 0 for none
}

// sizes are those of the packets queued, in their order. The first run and the last are at hand. Those between them are in the
// tokens, a byte or two for most packets and none for one that is like the one before it: a queue of tiny packets must not hold several times
// its bytes for what describes them.
//
// A token is two bits and the size on the way, as one uvarint: bit 0 says that a varint follows, by how much the rest of the packet
// besides its payload differs from the one before, bit 1 that a uvarint follows, how many packets are like this.
type sizes struct {
	first, last run
	tokens      queue
	pushed      run // the last one that went to the tokens
	popped      run // the last one that came from there
	left        int // bytes of the first packet that have left
	payload     int // the sum of those queued
}

var sizesPool = sync.Pool{New: func() any { return new(sizes) }}

const (
	tokenFrame = 1 << iota // a varint follows
	tokenCount             // a uvarint follows
	tokenBits  = 2
)

// describe notes a packet that was queued.
func (f *framed) describe(wire, payload int) {
	q := f.sizes
	if q == nil {
		q = sizesPool.Get().(*sizes)
		f.sizes = q
	}
	q.payload += payload
	switch {
	case q.last.count > 0 && q.last.wire == wire && q.last.payload == payload:
		q.last.count++
		return
	case q.last.count > 0 && q.first.count == 0 && q.tokens.size == 0:
		q.first = q.last
	case q.last.count > 0:
		q.encode(q.last)
	}
	q.last = run{wire, payload, 1}
}

func (q *sizes) encode(r run) {
	var memory [3 * binary.MaxVarintLen64]byte
	head := uint64(r.wire) << tokenBits
	frame := (r.wire - r.payload) - (q.pushed.wire - q.pushed.payload)
	if frame != 0 {
		head |= tokenFrame
	}
	if r.count > 1 {
		head |= tokenCount
	}
	b := binary.AppendUvarint(memory[:0], head)
	if frame != 0 {
		b = binary.AppendVarint(b, int64(frame))
	}
	if r.count > 1 {
		b = binary.AppendUvarint(b, uint64(r.count))
	}
	q.pushed = r
	q.tokens.push(b, pool.Page) // in pages
}

func (q *sizes) decode() run {
	head, _ := binary.ReadUvarint(q)
	r := run{wire: int(head >> tokenBits), count: 1}
	frame := int64(q.popped.wire - q.popped.payload)
	if head&tokenFrame != 0 {
		more, _ := binary.ReadVarint(q)
		frame += more
	}
	if head&tokenCount != 0 {
		count, _ := binary.ReadUvarint(q)
		r.count = int(count)
	}
	r.payload = r.wire - int(frame)
	q.popped = r
	return r
}

// ReadByte implements io.ByteReader: it takes the next byte of the tokens.
func (q *sizes) ReadByte() (byte, error) {
	t := q.tokens.head
	b := t.buf.B[t.off]
	q.tokens.consume(1)
	return b, nil
}

// sent notes that n bytes have left and returns how many packets are out with them, and the payload of these.
func (f *framed) sent(n int) (packets, payload int) {
	q := f.sizes
	if q == nil {
		return 0, 0
	}
	q.left += n
	for {
		if q.first.count == 0 {
			switch {
			case q.tokens.size > 0:
				q.first = q.decode()
			case q.last.count > 0:
				q.first, q.last = q.last, run{}
			default:
				f.forget()
				return packets, payload
			}
		}
		r := &q.first
		out := r.count
		if r.wire > 0 {
			out = min(out, q.left/r.wire)
		}
		r.count -= out
		q.left -= out * r.wire
		q.payload -= out * r.payload
		packets, payload = packets+out, payload+out*r.payload
		if r.count > 0 {
			return packets, payload
		}
	}
}

// forget drops what there is of sizes and returns the payload that was queued.
func (f *framed) forget() (payload int) {
	q := f.sizes
	if q == nil {
		return 0
	}
	payload = q.payload
	q.tokens.drop()
	*q = sizes{}
	f.sizes = nil
	sizesPool.Put(q)
	return payload
}

// pending returns the payload that is queued.
func (f *framed) pending() int {
	if f.sizes == nil {
		return 0
	}
	return f.sizes.payload
}

// described returns the memory of the tokens. f may be nil.
func (f *framed) described() int {
	if f == nil || f.sizes == nil {
		return 0
	}
	return f.sizes.tokens.held
}

// excess returns how much more of it there is than an eighth of the bytes queued, and two pages.
func (f *framed) excess(queued int) int {
	return max(0, f.described()-2*pool.Page-queued/8)
}
