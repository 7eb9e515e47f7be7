package sendqueue

import (
	"sync"

	"github.com/servercore-go/servercore/pool"
)

// Wire is what a layer has made of a queue's bytes and the kernel has not taken, together with how many of the application's bytes each piece
// of it carries. The zero value is empty, and an empty wire holds no memory.
type Wire struct{ body *wireBody }

// wireBody is what a wire has while it is not empty.
type wireBody struct {
	queue Queue
	units Packets
}

var bodyPool = sync.Pool{New: func() any { return new(wireBody) }}

// need returns the body, and takes one if there is none.
func (w *Wire) need() *wireBody {
	if w.body == nil {
		w.body = bodyPool.Get().(*wireBody)
	}
	return w.body
}

// rest gives the body back, which holds nothing any more.
func (w *Wire) rest() {
	*w.body = wireBody{}
	bodyPool.Put(w.body)
	w.body = nil
}

// MakeWireScratch returns scratch memory for wires, with room for that many bytes and an eighth more.
func MakeWireScratch(size int) Scratch {
	return Scratch{memory: make([]byte, 0, size+size/8), slices: make([][]byte, 0, 16)}
}

// Memory returns the memory of m, empty, for the bytes that Fill is given.
func (m *Scratch) Memory() []byte { return m.memory }

// Fill makes b the content of an empty wire. b may be the memory of m. It is lent until Reclaim.
func (w *Wire) Fill(m *Scratch, b []byte) {
	m.b, m.off, m.echo, m.input = b, 0, false, nil
	q := &w.need().queue
	q.lend(m)
	q.size = len(b)
}

// Add notes a unit: so many bytes of the wire, behind those of the units before, carry that many of the application's.
func (w *Wire) Add(wire, payload int) { w.need().units.Add(wire, payload) }

// Gather returns what leaves next, in the slices of m. They are valid until Sent.
func (w *Wire) Gather(m *Scratch) [][]byte {
	if w.body == nil {
		return nil
	}
	return w.body.queue.Gather(m, WriteBudget)
}

// Mark marks the end of the wire, as Queue.Mark does.
func (w *Wire) Mark(number uint32) {
	if w.body != nil {
		w.body.queue.Mark(number)
	}
}

// Marked is as of Queue.
func (w *Wire) Marked() bool { return w.body != nil && w.body.queue.Marked() }

// Sent removes the first n bytes. It returns how many of the application's bytes are out with them: those of the units that are out whole. It
// returns the number of a mark that leaves with them, too.
func (w *Wire) Sent(n int) (payload int, mark uint32, passed bool) {
	if w.body == nil {
		return 0, 0, false
	}
	mark, passed = w.body.queue.Consume(n)
	_, payload = w.body.units.Sent(n)
	return payload, mark, passed
}

// Reclaim ends the loan of Fill: what was not taken moves to memory of the wire's own.
func (w *Wire) Reclaim() {
	if w.body == nil {
		return
	}
	w.body.queue.Reclaim()
	if w.body.queue.size == 0 && w.body.units.isEmpty() {
		w.rest()
	}
}

// Size returns how many bytes have not left.
func (w *Wire) Size() int {
	if w.body == nil {
		return 0
	}
	return w.body.queue.size
}

// Waiting returns the bytes of the units that are not out whole, as limits count them: the application's bytes in those are not out either.
func (w *Wire) Waiting() int {
	if w.body == nil {
		return 0
	}
	return w.body.queue.size + w.body.units.partly()
}

// Payload returns how many of the application's bytes are not out.
func (w *Wire) Payload() int {
	if w.body == nil {
		return 0
	}
	return w.body.units.Payload()
}

// Held returns the memory that is held, in bytes, without what is lent.
func (w *Wire) Held() int {
	if w.body == nil {
		return 0
	}
	return w.body.queue.Held() + w.body.units.Held()
}

// Drop empties the wire and returns how many of the application's bytes will not leave.
func (w *Wire) Drop() (payload int) {
	if w.body == nil {
		return 0
	}
	w.body.queue.Drop()
	payload = w.body.units.Drop()
	w.rest()
	return payload
}

// Segments calls f for each segment of the wire and of what describes its units, as Queue.Segments does. It is for checks of the accounts.
func (w *Wire) Segments(f func(buf *pool.Buffer, overhead int, shared bool)) {
	if w.body == nil {
		return
	}
	w.body.queue.Segments(f)
	if t := w.body.units.Tokens(); t != nil {
		t.Segments(f)
	}
}
