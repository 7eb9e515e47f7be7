package session

import (
	"errors"
	"fmt"
	"io"

	"github.com/servercore-go/servercore/pool"
)

// receiveLayered is Receive for a session with a layer.
func (s *Session) receiveLayered(l *layered, data []byte) {
	if s.severed {
		s.rare.Load().unread -= int32(len(data))
	}
	switch {
	case l.peerDone: // nothing that counts follows a last word
	case s.phase != phaseOpen:
		s.discardInput(l, data)
	case s.hasStash() || l.keeps():
		l.keep(data)
	default:
		if n := s.openInput(l, data); n < len(data) {
			l.keep(data[n:])
		}
	}
}

// keeps reports whether something waits to be opened, or inside the layer.
func (l *layered) keeps() bool { return l != nil && (l.inside || l.input != nil) }

// keep keeps wire bytes that cannot be opened now.
func (l *layered) keep(data []byte) {
	if l.input == nil {
		l.input, l.opened = pool.GetSize(len(data)), 0
	}
	l.input.B = append(l.input.B, data...)
}

// dropInput gives up what was kept.
func (l *layered) dropInput() {
	if l.input != nil {
		l.input.Release()
	}
	l.input, l.opened, l.inside = nil, 0, false
}

// openKept opens and delivers the next part of what was kept.
func (s *Session) openKept(l *layered) {
	var in []byte
	if l.input != nil {
		in = l.input.B[l.opened:]
	}
	n := s.openInput(l, in)
	if l.input == nil { // dropped meanwhile
		return
	}
	if l.opened += int32(n); int(l.opened) == len(l.input.B) {
		l.input.Release()
		l.input, l.opened = nil, 0
	}
}

// openInput opens wire bytes, and what the layer has inside, and delivers what comes out. It returns how many bytes it has used: less than all
// if delivery has to wait.
//
// What Open returns stays as it is until the turn is over, because the next part of the scratch memory is used each time: the queue may refer to it
// (I5). When that memory is used up, the rest waits for the next round of settle, which has had the queue written or copied.
func (s *Session) openInput(l *layered, in []byte) (used int) {
	plain := s.conn.Scratch().forLayers().plain
	for at := 0; ; {
		ended, room := s.roomToOpen(len(plain) - at)
		if ended {
			s.discardInput(l, in[used:])
			return len(in)
		}
		if room == 0 || s.hasStash() || len(plain)-at < pool.Page {
			return used
		}
		data, n, more, err, ok := s.callOpen(l, plain[at:at+room:at+room], in[used:])
		if !ok {
			return len(in)
		}
		used, l.inside = used+n, more
		if data != nil {
			if len(data) > 0 && &data[0] == &plain[at] {
				at += len(data)
				s.deliverOpened(plain[at-len(data):at], plain)
			} else {
				s.deliverOpened(data, nil)
			}
		}
		switch {
		case err != nil:
			s.endInput(l, err)
			return len(in)
		case !more && (used == len(in) || n == 0 && data == nil):
			return used
		}
	}
}

// roomToOpen returns how many bytes Open may return now, most at the most, and whether the end was decided. An application that answers each byte
// with no more than a byte never meets SendLimit (S7).
func (s *Session) roomToOpen(most int) (ended bool, room int) {
	limits := &s.loop.Limits
	s.mu.Lock()
	ended = s.ending || s.aborted
	waiting := s.waiting()
	s.mu.Unlock()
	switch {
	case ended || s.paused.Load() || limits.PauseAbove > 0 && waiting > limits.PauseAbove: // as in readyForPacket
		return ended, 0
	case !s.severed && !limits.unbounded():
		most = min(most, max(limits.SendLimit-waiting, 1))
	}
	r := s.rated()
	switch {
	case r == nil:
	case !s.rateAllows(1):
		return r.End, 0 // aborted
	case !r.End && s.framed() == nil: // a packet is not cut
		most = min(most, r.allowance())
	}
	return false, most
}

// deliverOpened delivers what Open has returned. lasting is as in deliver.
func (s *Session) deliverOpened(data, lasting []byte) {
	if s.timesSilence() {
		s.receivedAny, s.lastActive = true, s.conn.Now()
	}
	f := s.framed()
	if f == nil || f.sendOnly {
		if r := s.rated(); r == nil || !r.End || s.rateAllows(len(data)) {
			s.deliverMessage(f, data, lasting)
		}
		return
	}
	if n := s.deliverPackets(f, data, lasting); n < len(data) {
		s.stash(data[n:])
	}
}

// deliverMessage delivers a message of the layer's, or a piece of its stream. f is nil for that.
func (s *Session) deliverMessage(f *framed, data, lasting []byte) {
	if f != nil {
		if h, ok := s.handler.(TextReceiver); ok && s.openedText() {
			if s.beginDelivery(data, lasting) {
				s.callText(h, data)
			}
			return
		}
	}
	s.deliver(data, lasting)
}

// openedText reports whether the message that Open has returned last is text.
func (s *Session) openedText() bool {
	t, ok := s.layered().layer.(interface{ Text() bool })
	return ok && t.Text()
}

// endInput acts on an error of Open: the peer's last word, which is its FIN for the application; the same without the last word; or a fault that
// ends the session.
func (s *Session) endInput(l *layered, err error) {
	err = checkReason(err)
	l.dropInput()
	switch {
	case errors.Is(err, io.EOF):
		l.peerDone = true
		if err != io.EOF {
			s.mu.Lock()
			l.peerReason = fmt.Errorf("%w: %w", ErrPeerClosed, err)
			s.mu.Unlock()
		}
		s.takeFIN()
	case errors.Is(err, ErrTruncated):
		s.mu.Lock()
		l.peerReason = err
		s.mu.Unlock()
		l.peerDone = true
		s.takeFIN()
	case s.severed: // nothing can be said
		l.peerDone = true
		s.takeFIN()
	default:
		l.peerDone = true
		s.DisconnectWith(err)
	}
}

// discardInput opens wire bytes of which the application gets nothing any more: after our decision to end, for what the layer has to answer
// (E1), until its last word is due.
func (s *Session) discardInput(l *layered, in []byte) {
	if l.finished || l.peerDone {
		l.dropInput()
		return
	}
	if !l.discards {
		if l.discards = true; !s.callDiscard(l) {
			return
		}
	}
	plain := s.conn.Scratch().forLayers().plain
	for {
		data, n, more, err, ok := s.callOpen(l, plain, in)
		in = in[n:]
		switch {
		case !ok:
			return
		case err != nil:
			l.peerDone = true // also after a fault: the end is under way
			return
		case !more && (len(in) == 0 || n == 0 && data == nil):
			return
		}
	}
}

// noteTruncation notes that FIN has come without the peer's last word, if that is so. Everything before it was opened.
func (s *Session) noteTruncation(l *layered) {
	if l.peerDone {
		return
	}
	l.peerDone = true
	if err := s.callEnded(l); err != nil {
		err = checkReason(err)
		s.mu.Lock()
		l.peerReason = err
		s.mu.Unlock()
	}
}
