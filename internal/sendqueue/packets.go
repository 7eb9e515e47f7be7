package sendqueue

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/servercore-go/servercore/pool"
)

// Packets has the sizes of the packets that stand in a queue, in their order. A session with a framer needs them to tell which packets
// have left whole, and how much payload they had. The zero value has none, and holds no memory. One packet, of which nothing has left, needs
// no list: that is how an echo and a Broadcast find the queue as a rule.
type Packets struct {
	list          *packetList
	wire, payload uint32 // of the only packet, while there is no list; wire is 0 if there is none
}

// packetRun is equal packets in a row.
type packetRun struct {
	wire    int // bytes of each as it travels
	payload int // of them what the application has sent
	count   int // of packets, 0 for none
}

// packetList holds the first run and the last as they are. Those between them are in tokens: a byte or two for most runs, so that a queue
// of tiny packets does not hold several times its bytes for their sizes.
//
// A token is one uvarint: the size as it travels, and two bits below it. Bit 0 says that a varint follows: by how much the frame (the size
// as it travels less the payload) differs from the one before. Bit 1 says that a uvarint follows: how many packets are like this.
type packetList struct {
	first, last packetRun
	tokens      Queue
	pushed      packetRun // the last one that went to the tokens
	popped      packetRun // the last one that came from there
	left        int       // bytes of the first packet that have left
	payload     int       // the sum of those queued
}

var listPool = sync.Pool{New: func() any { return new(packetList) }}

const (
	tokenFrame = 1 << iota // a varint follows
	tokenCount             // a uvarint follows
	tokenBits  = 2
)

// Add notes a packet that was queued: its size as it travels, and its payload.
func (p *Packets) Add(wire, payload int) {
	l := p.list
	if l == nil {
		if p.wire == 0 && wire > 0 && uint64(wire|payload) <= math.MaxUint32 {
			p.wire, p.payload = uint32(wire), uint32(payload)
			return
		}
		l = p.needList()
	}
	l.payload += payload
	switch {
	case l.last.count > 0 && l.last.wire == wire && l.last.payload == payload:
		l.last.count++
		return
	case l.last.count > 0 && l.first.count == 0 && l.tokens.size == 0:
		l.first = l.last
	case l.last.count > 0:
		l.encode(l.last)
	}
	l.last = packetRun{wire, payload, 1}
}

// needList makes a list of the only packet, or an empty one. There is none yet.
func (p *Packets) needList() *packetList {
	l := listPool.Get().(*packetList)
	if p.wire > 0 {
		l.last = packetRun{int(p.wire), int(p.payload), 1}
		l.payload = int(p.payload)
	}
	*p = Packets{list: l}
	return l
}

// isEmpty reports whether there are none.
func (p *Packets) isEmpty() bool { return p.list == nil && p.wire == 0 }

// encode appends a run to the tokens.
func (l *packetList) encode(r packetRun) {
	var memory [3 * binary.MaxVarintLen64]byte
	head := uint64(r.wire) << tokenBits
	frame := (r.wire - r.payload) - (l.pushed.wire - l.pushed.payload)
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
	l.pushed = r
	l.tokens.Push(b, pool.Page) // in pages
}

// decode takes the next run from the tokens.
func (l *packetList) decode() packetRun {
	head, _ := binary.ReadUvarint(l)
	r := packetRun{wire: int(head >> tokenBits), count: 1}
	frame := int64(l.popped.wire - l.popped.payload)
	if head&tokenFrame != 0 {
		more, _ := binary.ReadVarint(l)
		frame += more
	}
	if head&tokenCount != 0 {
		count, _ := binary.ReadUvarint(l)
		r.count = int(count)
	}
	r.payload = r.wire - int(frame)
	l.popped = r
	return r
}

// ReadByte implements io.ByteReader: it takes the next byte of the tokens.
func (l *packetList) ReadByte() (byte, error) {
	t := l.tokens.chain.head
	b := t.buf.B[t.off]
	l.tokens.Consume(1)
	return b, nil
}

// Sent notes that n bytes have left. It returns how many packets are out whole with them, and the payload of these.
func (p *Packets) Sent(n int) (packets, payload int) {
	l := p.list
	switch {
	case l != nil:
	case p.wire == 0 || n == 0:
		return 0, 0
	case n >= int(p.wire):
		return 1, p.Drop()
	default:
		l = p.needList()
	}
	l.left += n
	for {
		r := p.next()
		if r == nil {
			p.Drop()
			return packets, payload
		}
		out := r.count
		if r.wire > 0 {
			out = min(out, l.left/r.wire)
		}
		r.count -= out
		l.left -= out * r.wire
		l.payload -= out * r.payload
		packets, payload = packets+out, payload+out*r.payload
		if r.count > 0 {
			return packets, payload
		}
	}
}

// next returns the first run, nil if there is none. There is a list.
func (p *Packets) next() *packetRun {
	l := p.list
	switch {
	case l.first.count > 0:
	case l.tokens.size > 0:
		l.first = l.decode()
	case l.last.count > 0:
		l.first, l.last = l.last, packetRun{}
	default:
		return nil
	}
	return &l.first
}

// Rest returns how many bytes are left of a packet that has left in part, 0 if the next byte begins one.
func (p *Packets) Rest() int {
	l := p.list
	if l == nil || l.left == 0 {
		return 0
	}
	return p.next().wire - l.left
}

// partly returns how many bytes have left of a packet that is not out whole.
func (p *Packets) partly() int {
	if p.list == nil {
		return 0
	}
	return p.list.left
}

// Drop forgets all packets and returns the payload that was queued.
func (p *Packets) Drop() (payload int) {
	l := p.list
	if l == nil {
		payload = int(p.payload)
		*p = Packets{}
		return payload
	}
	payload = l.payload
	l.tokens.Drop()
	*l = packetList{}
	p.list = nil
	listPool.Put(l)
	return payload
}

// Payload returns the payload of the packets that are not out whole, in bytes.
func (p *Packets) Payload() int {
	if p.list == nil {
		return int(p.payload)
	}
	return p.list.payload
}

// Held returns the memory of the tokens, in bytes.
func (p *Packets) Held() int {
	if p.list == nil {
		return 0
	}
	return p.list.tokens.Held()
}

// Excess returns how much more memory the tokens hold than two pages and an eighth of the bytes queued. Limits count it as queued.
func (p *Packets) Excess(queued int) int {
	return max(0, p.Held()-2*pool.Page-queued/8)
}

// Tokens returns the queue of the tokens, nil if there is none. It is for checks of the accounts.
func (p *Packets) Tokens() *Queue {
	if p.list == nil {
		return nil
	}
	return &p.list.tokens
}
