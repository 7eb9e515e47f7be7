package bench

// framed checks the bytes of one WebSocket message after another. A message ends where its last frame does, so there is nothing to search
// for, and a message of another length is noticed when it ends. A message that the server has sent, right or wrong, is the answer to one
// that was sent: to the one that its header names, or else to the next.
type framed struct {
	off     int // bytes of the message that have come
	seq     uint64
	known   bool // seq: the header has come and is right
	damaged bool // bytes were wrong
	tail    [headerSize]byte
}

// piece checks bytes of a message. limit is the number of messages that were sent.
func (f *framed) piece(p *pattern, v *verifier, b []byte, limit uint64) {
	at := f.off
	f.off += len(b)
	if f.damaged || at >= p.size {
		return
	}
	b = b[:min(len(b), p.size-at)]
	if !f.known {
		n, whole := f.header(p, v, b, at, limit)
		if !whole {
			return
		}
		b, at = b[n:], at+n
	}
	f.damaged = f.damaged || !p.same(b, v.id, f.seq, at)
}

// header takes the header from the beginning of a message, whose byte at is the first of b. It returns how many bytes of b it has used up.
func (f *framed) header(p *pattern, v *verifier, b []byte, at int, limit uint64) (n int, whole bool) {
	if p.size < headerSize {
		f.seq, f.known, f.damaged = v.next, true, v.next >= limit
		return 0, true
	}
	h := b
	if n = headerSize; at > 0 || len(b) < headerSize {
		n = copy(f.tail[at:], b)
		if h = f.tail[:]; at+n < headerSize {
			return n, false
		}
	}
	seq, ok := p.header(h, v.id)
	f.seq, f.known = seq, ok && seq < limit
	f.damaged = !f.known
	return n, f.known
}

// end ends a message. ofKind reports whether it is text or binary as the messages that were sent.
func (f *framed) end(p *pattern, v *verifier, limit uint64, ofKind bool) (w verdict) {
	m := *f
	*f = framed{}
	if v.joining {
		if !m.known { // of before the stream
			return w
		}
		v.joining, v.hunting, v.next = false, false, m.seq
	}
	seq := v.next
	if m.known {
		seq = m.seq
	}
	w.seq = seq
	if w.repeated = seq < v.next; !w.repeated && seq < limit {
		w.lost, v.next = int(seq-v.next), seq+1
	}
	switch {
	case m.off != p.size || !ofKind:
		w.misfit, w.length = true, m.off
	case m.damaged || !m.known:
		w.wrong = 1
	default:
		w.done = true
		return w
	}
	w.repeated = false // a message has one kind of error
	return w
}
