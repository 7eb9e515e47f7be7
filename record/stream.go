package record

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Stream records one session. Its methods are called one at a time, as the session's callbacks are. They copy what they are given, wait for
// nothing, and do nothing once recording has ended.
type Stream struct {
	w          *Writer
	id         uint64
	dialed     bool
	unix       string            // the path of a unix socket, "" for none
	addr       [2]netip.AddrPort // who sends in each direction
	next       [2]uint32         // sequence number of the next byte in each direction
	acked      [2]uint32         // what each side has acknowledged last
	finished   [2]bool           // FIN was sent
	waitingFIN bool              // the peer's FIN is to be recorded at the end
	broken     bool              // the connection takes nothing more
	over       bool
	packets    uint16

	// Under the Writer's mu.
	lost   int    // records left out since the last one that was not
	toldIn uint64 // the chunk that has the session's number last
}

// ackEvery is how many bytes one side may send before the other acknowledges them without sending anything itself.
const ackEvery = 1 << 20

// Begin begins to record a session. It returns nil for a session that is not to be recorded. engine.Record calls it.
func (w *Writer) Begin(i Info) *Stream {
	if !w.admits(i) {
		return nil
	}
	s := &Stream{w: w, id: i.ID, dialed: i.Dialed}
	s.addr[in], s.addr[out] = s.addresses(i)
	first := uint32(i.ID) * 2654435761 // Knuth's multiplier: sessions that follow each other on the same ports begin apart
	s.next[in], s.next[out] = first, first+1<<31
	client := in
	if i.Dialed {
		client = out
	}
	w.mu.Lock()
	w.stats.Sessions++
	w.mu.Unlock()
	comment := s.name()
	if s.unix != "" {
		comment += ", on a unix socket, so the addresses are made up: " + s.unix
	}
	s.put(client, tcpSYN, i.Since, cut(comment))
	s.next[client]++
	s.put(client.other(), tcpSYN|tcpACK, i.Since, "")
	s.next[client.other()]++
	s.put(client, tcpACK, i.Since, "")
	return s
}

// addresses returns the addresses to record, both of one family.
func (s *Stream) addresses(i Info) (remote, local netip.AddrPort) {
	remote, ok := addrPort(i.Remote)
	local, too := addrPort(i.Local)
	if !ok || !too {
		for _, a := range []net.Addr{i.Local, i.Remote} {
			if u, ok := a.(*net.UnixAddr); ok && u.Name != "" {
				s.unix = u.Name
			}
		}
		if s.unix == "" {
			s.unix = "without a path"
		}
		server := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 0, 1}), 1)
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i.ID >> 8), byte(i.ID)}), 1024+uint16(i.ID>>16%60_000))
		if i.Dialed {
			return server, client
		}
		return client, server
	}
	if remote.Addr().Is4() != local.Addr().Is4() { // a PROXY header may tell so
		remote = netip.AddrPortFrom(netip.AddrFrom16(remote.Addr().As16()), remote.Port())
		local = netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port())
	}
	return remote, local
}

// addrPort returns the address of TCP, IPv4 as IPv4, without a zone.
func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil {
		return netip.AddrPort{}, false
	}
	ip, ok := netip.AddrFromSlice(t.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(t.Port)), ok
}

// put makes a packet without a payload.
func (s *Stream) put(d direction, flags uint8, at time.Time, comment string) {
	s.packets++
	p := packet{dir: d, src: s.addr[d], dst: s.addr[d.other()], seq: s.next[d], ack: s.next[d.other()], flags: flags, id: s.packets, comment: comment}
	if flags&tcpACK == 0 {
		p.ack = 0
	} else {
		s.acked[d] = p.ack
	}
	s.w.put(s, &p, at)
}

// Received records bytes that came. at is when they did; zero stands for now.
func (s *Stream) Received(at time.Time, data []byte) {
	one := [1][]byte{data}
	s.data(in, at, one[:], len(data))
}

// Sent records that the first n bytes of bufs have left.
func (s *Stream) Sent(at time.Time, bufs [][]byte, n int) { s.data(out, at, bufs, n) }

// data makes the packets of n bytes.
func (s *Stream) data(d direction, at time.Time, bufs [][]byte, n int) {
	if s.over || s.finished[d] {
		return
	}
	for off := 0; off < n; off += mostPayload {
		size := min(n-off, mostPayload)
		s.packets++
		p := packet{dir: d, src: s.addr[d], dst: s.addr[d.other()], seq: s.next[d], ack: s.next[d.other()], flags: tcpACK, id: s.packets,
			bufs: bufs, skip: off, n: size}
		if off+size == n {
			p.flags |= tcpPSH
		}
		s.w.put(s, &p, at)
		s.next[d] += uint32(size)
		s.acked[d] = p.ack
		if s.next[d]-s.acked[d.other()] >= ackEvery {
			s.put(d.other(), tcpACK, at, "")
		}
	}
}

// fin records a FIN.
func (s *Stream) fin(d direction, comment string) {
	s.put(d, tcpFIN|tcpACK, time.Time{}, comment)
	s.next[d]++
	s.finished[d] = true
}

// PeerFinished records the peer's FIN: nothing more comes.
func (s *Stream) PeerFinished() {
	if !s.over && !s.finished[in] {
		s.fin(in, "")
	}
}

// PeerFinishedLater is PeerFinished for a FIN that has overtaken bytes that are still to be recorded: it is recorded at the end.
func (s *Stream) PeerFinishedLater() { s.waitingFIN = true }

// Finished records our FIN: nothing more leaves.
func (s *Stream) Finished() {
	if !s.over && !s.finished[out] {
		s.fin(out, "")
	}
}

// Broken notes that the connection has failed. Bytes may still come that were received before. Closed records it as the peer's reset, also where
// the peer is silent or cannot be reached: neither side has finished. What has broken the connection is told by the reason that Closed gets.
func (s *Stream) Broken(err error) { s.broken = true }

// Closed records the end. reset says that we have reset the connection. reason is why the session has ended, for the comment; nil for none.
func (s *Stream) Closed(reset bool, reason error) {
	if s.over {
		return
	}
	if s.waitingFIN {
		s.PeerFinished()
	}
	comment := s.name() + ", has ended"
	if reason != nil {
		comment = cut(comment + ": " + reason.Error())
	}
	switch {
	case s.broken:
		s.put(in, tcpRST|tcpACK, time.Time{}, comment)
	case reset:
		s.put(out, tcpRST|tcpACK, time.Time{}, comment)
	case !s.finished[out]:
		s.fin(out, comment)
		if s.finished[in] {
			s.put(in, tcpACK, time.Time{}, "")
		}
	case s.acked[in] != s.next[out]: // the peer has our FIN
		s.put(in, tcpACK, time.Time{}, comment)
	default: // we have the peer's
		s.put(out, tcpACK, time.Time{}, comment)
	}
	s.over = true
}

// name is what the comments about a session begin with. parseComment reads it.
func (s *Stream) name() string {
	if s.dialed {
		return fmt.Sprintf("session %d, dialed", s.id)
	}
	return fmt.Sprintf("session %d, accepted", s.id)
}

// mostTold bounds the length of what tell returns, in bytes.
const mostTold = 128

// tell returns a comment for a packet that may be the first one that a reader has.
func (s *Stream) tell() string {
	if s.lost > 0 {
		return fmt.Sprintf("%s, %d records before this one were left out", s.name(), s.lost)
	}
	return s.name()
}

// cut returns s as a comment.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > mostComment {
		s = strings.ToValidUTF8(s[:mostComment-3], "") + "..."
	}
	return s
}
