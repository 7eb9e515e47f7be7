package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
)

// index tells where the packets of a session are in the file: for each the distance from the one before, and the length of its block, both in
// units of 4 bytes and as varints.
type index struct {
	b    []byte
	last int64 // where the last one begins
}

func (x *index) add(at, length int64) {
	x.b = binary.AppendUvarint(x.b, uint64(at-x.last)/4)
	x.b = binary.AppendUvarint(x.b, uint64(length)/4)
	x.last = at
}

// all returns where each packet begins, and the length of its block.
func (x *index) all() iter.Seq2[int64, int64] {
	return func(yield func(at, length int64) bool) {
		at := int64(0)
		for b := x.b; len(b) > 0; {
			distance, n := binary.Uvarint(b)
			length, m := binary.Uvarint(b[n:])
			b = b[n+m:]
			if at += int64(distance) * 4; !yield(at, int64(length)*4) {
				return
			}
		}
	}
}

// sides follows the sequence numbers of a session.
type sides struct {
	next  [2]uint32 // the sequence number that comes next: the client's, the server's
	known [2]bool   // whether that is known
}

// side returns the index of a side.
func side(client bool) int {
	if client {
		return 0
	}
	return 1
}

// follow returns what a packet tells: n events.
func (s *sides) follow(p *captured, client bool) (events [2]Event, n int) {
	side, seq, lost := side(client), p.seq, 0
	if p.flags&tcpSYN != 0 {
		s.next[side], s.known[side] = seq+1, true
		return events, 0
	}
	if s.known[side] {
		// What comes again, as the acknowledgement of a keep-alive would, is behind: the difference is negative.
		if lost = int(int32(seq - s.next[side])); lost < 0 {
			return events, 0
		}
	}
	event := Event{At: p.at, Client: client, Lost: lost}
	if size := uint32(len(p.payload)); size > 0 || lost > 0 && p.flags&(tcpFIN|tcpRST) == 0 {
		event.Data = p.payload
		events[n] = event
		n++
		seq += size
		event.Data, event.Lost = nil, 0
	}
	if p.flags&tcpFIN != 0 {
		event.Kind = Finished
		events[n] = event
		n++
		seq++
	} else if p.flags&tcpRST != 0 {
		event.Kind = Reset
		events[n] = event
		n++
	}
	s.next[side], s.known[side] = seq, true
	return events, n
}

// Events reads what the sides of the session did, in order, from the file. It may be called several times, by several goroutines at once. An
// error, of the file, is the last thing that it yields. It takes the memory of one packet.
func (s *Session) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var now sides
		var block []byte
		var p captured
		for at, length := range s.packets.all() {
			block = slices.Grow(block[:0], int(length))[:length]
			if err := s.recording.packetAt(at, block, &p); err != nil {
				yield(Event{}, fmt.Errorf("record: at byte %d: %w", at, err))
				return
			}
			events, n := now.follow(&p, p.src == s.Client)
			for _, e := range events[:n] {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// packetAt reads the packet whose block begins there. block has its length.
func (r *Recording) packetAt(at int64, block []byte, p *captured) error {
	if n, err := r.from.ReadAt(block, at); n < len(block) {
		return err
	}
	after := sort.Search(len(r.sections), func(i int) bool { return r.sections[i].begins > at })
	s := r.sections[after-1]
	if s.order.Uint32(block) != blockPacket || int64(s.order.Uint32(block[4:])) != int64(len(block)) {
		return errors.New("the file has changed since Open")
	}
	return s.packet(block[8:len(block)-4], p)
}
