package sendqueue

import "github.com/servercore-go/servercore/pool"

// Wire is what a layer has made of a queue's bytes and the kernel has not taken, together with how many of the application's bytes each piece
// of it carries. The zero value is empty, and holds no memory.
type Wire struct {
	queue Queue
	units Packets
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
	w.queue.scratch, w.queue.size = m, len(b)
}

// Add notes a unit: so many bytes of the wire, behind those of the units before, carry that many of the application's.
func (w *Wire) Add(wire, payload int) { w.units.Add(wire, payload) }

// Gather returns what leaves next, in the slices of m. They are valid until Sent.
func (w *Wire) Gather(m *Scratch) [][]byte { return w.queue.Gather(m, WriteBudget) }

// Sent removes the first n bytes. It returns how many of the application's bytes are out with them: those of the units that are out whole.
func (w *Wire) Sent(n int) (payload int) {
	w.queue.Consume(n)
	_, payload = w.units.Sent(n)
	return payload
}

// Reclaim ends the loan of Fill: what was not taken moves to memory of the wire's own.
func (w *Wire) Reclaim() { w.queue.Reclaim() }

// Size returns how many bytes have not left.
func (w *Wire) Size() int { return w.queue.size }

// Waiting returns the bytes of the units that are not out whole, as limits count them: the application's bytes in those are not out either.
func (w *Wire) Waiting() int { return w.queue.size + w.units.partly() }

// Payload returns how many of the application's bytes are not out.
func (w *Wire) Payload() int { return w.units.Payload() }

// Held returns the memory that is held, in bytes, without what is lent.
func (w *Wire) Held() int { return w.queue.held + w.units.Held() }

// Drop empties the wire and returns how many of the application's bytes will not leave.
func (w *Wire) Drop() (payload int) {
	w.queue.Drop()
	return w.units.Drop()
}

// Segments calls f for each segment of the wire and of what describes its units, as Queue.Segments does. It is for checks of the accounts.
func (w *Wire) Segments(f func(buf *pool.Buffer, overhead int, shared bool)) {
	w.queue.Segments(f)
	if t := w.units.Tokens(); t != nil {
		t.Segments(f)
	}
}
