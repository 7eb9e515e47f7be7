package websocket

// Open takes wire bytes, as session.Layer says. Before the upgrade is done it takes the header alone. data is not nil for an empty message.
// more is true if data lies in the layer's memory: the next call, which needs no input, gives that memory back. An error is final: it is
// repeated, and later input is discarded. It is one of
//
//	a *HandshakeError, ErrNotUpgrade   the upgrade was refused; Own brings the answer
//	a *ProtocolError                   Finish sends its code
//	one that matches io.EOF            the peer's close frame, with a *session.CloseError for errors.As
func (l *Layer) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	l.release()
	dst = dst[:len(dst):len(dst)]
	if l.failure != nil {
		l.rest()
		return nil, len(in), false, *l.failure
	}
	if !l.is(established) {
		for used < len(in) && err == nil && !l.is(established) {
			var n int
			n, err = l.openHandshake(in[used:])
			used += n
		}
		if err != nil {
			l.remember(err)
		}
		return nil, used, false, err
	}
	for used < len(in) {
		data, n, err := l.openFrame(dst, in[used:])
		used += n
		if err != nil {
			l.fail(err)
			return nil, len(in), false, err
		}
		if data != nil {
			more = l.work != nil && l.work.delivered != nil
			l.rest()
			return data, used, more, nil
		}
	}
	l.rest()
	return nil, used, false, nil
}

// remember keeps what Open repeats from now on.
func (l *Layer) remember(err error) { l.failure = &err }

// fail ends receiving.
func (l *Layer) fail(err error) {
	l.remember(err)
	if w := l.work; w != nil {
		l.release()
		w.message.drop()
		w.message, w.inFrame, w.headLen = message{}, false, 0
	}
	l.rest()
}

// openFrame takes a part of one frame from in: at least a byte, at most up to the frame's end. data is the message that ends there.
func (l *Layer) openFrame(dst, in []byte) (data []byte, used int, err error) {
	w := l.work
	if w == nil || !w.inFrame {
		h, n, complete, err := l.openHeader(in)
		if err != nil || !complete {
			return nil, n, err
		}
		used, in = n, in[n:]
		if h.op&bitControl == 0 {
			if data, done, err := l.beginData(dst, in, h); done || err != nil {
				return data, used + int(h.payload), err
			}
		}
		w = l.needWork()
		w.inFrame, w.frame, w.left, w.controlLen = true, h, h.payload, 0
	}
	piece := in[:min(int64(len(in)), w.left)]
	used += len(piece)
	data, err = l.openPayload(dst, piece)
	return data, used, err
}

// openHeader takes a header, or the beginning of one.
func (l *Layer) openHeader(in []byte) (h header, used int, complete bool, err error) {
	w, head, kept := l.work, in, 0
	if w != nil && w.headLen > 0 {
		kept = int(w.headLen)
		head = w.head[:kept+copy(w.head[kept:], in)]
	}
	if len(head) >= 2 {
		if err := l.checkStart(head[0], head[1]); err != nil {
			return header{}, len(in), false, err
		}
	}
	h, n, err := parseHeader(head)
	switch {
	case err != nil:
		return header{}, len(in), false, err
	case n == 0: // shorter than a header can be, so all of in was looked at
		w = l.needWork()
		w.headLen = uint8(copy(w.head[:], head))
		return header{}, len(in), false, nil
	case kept > 0:
		w.headLen = 0
	}
	return h, n - kept, true, nil
}

// checkStart looks at the first two bytes of a frame: all that RFC 6455, section 5, and RFC 7692, section 6, forbid but for the length.
func (l *Layer) checkStart(first, second byte) error {
	op, fin, open := first&maskOpcode, first&bitFin != 0, l.work != nil && l.work.message.open
	switch {
	case first&bitsRSV23 != 0:
		return protocolErrorf("a frame has reserved bits set: its first byte is %#x", first)
	case first&bitRSV1 != 0 && (!l.compression() || op != opText && op != opBinary):
		return protocolErrorf("a frame with opcode %#x has the bit of a compressed message set", op)
	case second&bitMask == 0 && !l.config.client:
		return protocolErrorf("a client's frame is not masked")
	case second&bitMask != 0 && l.config.client:
		return protocolErrorf("a server's frame is masked")
	}
	switch op {
	case opContinuation:
		if !open {
			return protocolErrorf("a frame continues a message that has not begun")
		}
	case opText, opBinary:
		if open {
			return protocolErrorf("a message begins before the last one has ended")
		}
	case opClose, opPing, opPong:
		if !fin {
			return protocolErrorf("a control frame is fragmented")
		}
		if second&maskLength > maxControl {
			return protocolErrorf("a control frame has more than %d bytes", maxControl)
		}
	default:
		return protocolErrorf("a frame has the reserved opcode %#x", op)
	}
	return nil
}

// beginData begins a data frame. It returns at once a message that lies in in whole and in one frame, not compressed.
func (l *Layer) beginData(dst, in []byte, h header) (data []byte, done bool, err error) {
	first := h.op != opContinuation
	if l.is(discarding) {
		if first {
			l.needWork().message = message{open: true}
		}
		return nil, false, nil
	}
	had, compressed := 0, h.rsv1
	if !first {
		had, compressed = len(l.work.message.bytes()), l.work.message.compressed
	}
	if err := l.checkSize(h, had, compressed); err != nil {
		return nil, false, err
	}
	if first && h.fin && !compressed && h.payload <= int64(len(in)) {
		data, err = l.wholeMessage(dst, in[:h.payload], h)
		return data, true, err
	}
	if first {
		l.needWork().message = message{open: true, text: h.op == opText, compressed: compressed}
	}
	return nil, false, nil
}

// openPayload takes a piece of the payload of the frame under way, and ends the frame if it is the last one.
func (l *Layer) openPayload(dst, piece []byte) (data []byte, err error) {
	w := l.work
	control := w.frame.op&bitControl != 0
	switch {
	case control:
		if w.frame.masked {
			w.frame.key = xor(w.control[w.controlLen:], piece, w.frame.key)
		} else {
			copy(w.control[w.controlLen:], piece)
		}
		w.controlLen += uint8(len(piece))
	case l.is(discarding):
	default:
		l.set(progress)
		if err := w.addPayload(piece); err != nil {
			return nil, err
		}
	}
	if w.left -= int64(len(piece)); w.left > 0 {
		return nil, nil
	}
	w.inFrame = false
	switch {
	case control:
		return nil, l.openControl(w.frame.op, w.control[:w.controlLen])
	case !w.frame.fin:
		return nil, nil
	case l.is(discarding):
		w.message = message{}
		return nil, nil
	}
	return l.endMessage(dst)
}
