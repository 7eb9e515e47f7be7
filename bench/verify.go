package bench

// A verdict is the result of one step of a verifier.
type verdict struct {
	n int // bytes used up

	// done: message seq has come whole and right. With repeated it had come before, or had been skipped.
	done, repeated bool
	seq            uint64

	wrong, lost int // messages before the expected one that turned out wrong, or were skipped

	misfit bool // a WebSocket message of length bytes had not the length, or the type, of the one sent
	length int
}

// A verifier checks the bytes of one stream as they arrive, in pieces of any size. After wrong bytes it searches for the next header, at
// any offset, and goes on from there.
//
// Messages shorter than a header are compared by position only.
type verifier struct {
	id   uint32
	next uint64 // sequence number of the message expected; those before have their verdicts

	off     int  // bytes of the message under way that have come
	again   bool // the message under way is seq, an earlier one than next
	seq     uint64
	damaged bool // bytes of the message under way were wrong

	hunting bool // where messages begin is not known
	blamed  bool // in this hunt a message was called wrong
	joining bool // the stream is joined in its middle: the first header decides where
	held    int  // bytes in tail
	tail    [2*headerSize - 2]byte
}

// step checks bytes that have arrived, at least one, and returns after at most one verdict, which has used up verdict.n bytes. limit is
// the number of messages that were sent: no message with a higher number can come.
func (v *verifier) step(p *pattern, b []byte, limit uint64) verdict {
	if p.size < headerSize {
		return v.short(p, b, limit)
	}
	if v.hunting {
		return v.hunt(p, b, limit)
	}
	n := 0
	if v.off < headerSize {
		h := b
		if v.off > 0 || len(b) < headerSize {
			n = copy(v.tail[v.off:headerSize], b)
			v.off += n
			if v.off < headerSize {
				return verdict{n: n}
			}
			h = v.tail[:headerSize]
		} else {
			n, v.off = headerSize, headerSize
		}
		if seq, ok := p.header(h, v.id); !ok || seq != v.next || seq >= limit {
			// Look at these bytes again, without the assumption that a message begins here.
			v.hunting, v.blamed, v.held = true, false, 0
			had := headerSize - n
			v.off = 0
			if had > 0 {
				v.held, v.off = had, had
			}
			return v.hunt(p, b, limit)
		}
		v.seq = v.next
	}
	m := min(len(b)-n, p.size-v.off)
	if !p.same(b[n:n+m], v.id, v.seq, v.off) {
		v.hunting, v.blamed, v.damaged, v.held = true, false, true, 0
		w := v.hunt(p, b[n:], limit)
		w.n += n
		return w
	}
	return v.body(p, n, m)
}

// body counts m more bytes of the current message, and ends it after its last byte.
func (v *verifier) body(p *pattern, n, m int) verdict {
	v.off += m
	if v.off < p.size {
		return verdict{n: n + m}
	}
	v.off = 0
	w := verdict{n: n + m, done: true, seq: v.seq, repeated: v.again}
	if !v.again {
		v.next++
	}
	v.again = false
	return w
}

// hunt searches for a header of the stream in tail and b. It stops at the first one, or at the end of the current message, which is wrong
// then.
func (v *verifier) hunt(p *pattern, b []byte, limit uint64) verdict {
	if seq, n, ok := v.find(p, b, limit); ok {
		return v.resume(p, seq, n, v.off+n-headerSize)
	}
	n := min(len(b), p.size-v.off)
	v.keep(b[:n])
	v.off += n
	if v.off < p.size {
		return verdict{n: n}
	}
	again := v.again
	v.off, v.again, v.damaged = 0, false, false
	if v.joining {
		return verdict{n: n}
	}
	v.blamed = true
	if v.next < limit && !again {
		v.next++
	}
	return verdict{n: n, wrong: 1}
}

// find returns the first header that ends within b and before the end of the current message, and how many bytes of b it takes up to its
// end.
func (v *verifier) find(p *pattern, b []byte, limit uint64) (seq uint64, n int, ok bool) {
	b = b[:min(len(b), p.size-v.off)]
	// First the headers that begin in the tail.
	var joint [2*headerSize - 2 + headerSize - 1]byte
	j := copy(joint[:], v.tail[:v.held])
	j += copy(joint[j:], b[:min(len(b), headerSize-1)])
	for i := 0; i < v.held && i+headerSize <= j; i++ {
		if seq, ok := p.header(joint[i:], v.id); ok && seq < limit {
			return seq, i + headerSize - v.held, true
		}
	}
	for i := 0; i+headerSize <= len(b); i++ {
		if seq, ok := p.header(b[i:], v.id); ok && seq < limit {
			return seq, i + headerSize, true
		}
	}
	return 0, 0, false
}

// keep stores the last bytes, which may be the beginning of a header.
func (v *verifier) keep(b []byte) {
	const most = headerSize - 1
	if len(b) >= most {
		v.held = copy(v.tail[:], b[len(b)-most:])
		return
	}
	if drop := v.held + len(b) - most; drop > 0 {
		v.held = copy(v.tail[:], v.tail[drop:v.held])
	}
	v.held += copy(v.tail[v.held:], b)
}

// resume leaves the hunt at the header of message seq, whose last byte is the n-th of the bytes at hand. garbage is
// how many bytes stand between the beginning of the expected message and that header; negative if bytes are missing.
func (v *verifier) resume(p *pattern, seq uint64, n, garbage int) verdict {
	w := verdict{n: n}
	damaged := v.damaged || garbage != 0
	v.hunting, v.damaged, v.off, v.seq, v.held = false, false, headerSize, seq, 0
	switch {
	case v.joining:
		v.joining, v.next = false, seq
	case damaged && !v.blamed && !v.again:
		w.wrong = 1
		if seq > v.next {
			w.lost, v.next = int(seq-v.next)-1, seq
		}
	case seq > v.next:
		w.lost, v.next = int(seq-v.next), seq
	}
	v.again = seq < v.next
	if p.size == headerSize { // there is no byte left whose arrival would end it
		whole := v.body(p, n, 0)
		whole.wrong, whole.lost = w.wrong, w.lost
		return whole
	}
	return w
}

// short checks messages without a header.
func (v *verifier) short(p *pattern, b []byte, limit uint64) verdict {
	if v.next >= limit { // more than was sent
		return verdict{n: len(b), wrong: 1}
	}
	n := min(len(b), p.size-v.off)
	v.damaged = v.damaged || !p.same(b[:n], v.id, v.next, v.off)
	v.seq = v.next
	if v.off+n < p.size || !v.damaged {
		return v.body(p, 0, n)
	}
	v.off, v.damaged = 0, false
	v.next++
	return verdict{n: n, wrong: 1}
}
