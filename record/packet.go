package record

import (
	"encoding/binary"
	"net/netip"
)

// direction says which way a packet went.
type direction uint8

const (
	in  direction = iota // to us
	out                  // to the peer
)

func (d direction) other() direction { return 1 - d }

// The flags of TCP.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
)

const (
	mostPayload = 16 << 10 // bytes of a packet; an IP packet has less than 64 KiB
	mostComment = 512      // bytes of a comment

	headerIPv4 = 20
	headerIPv6 = 40
	headerTCP  = 20
	synOptions = 8 // the maximum segment size and the window scale

	packetHeader = 28 // of the block
	mostOptions  = 8 + 4 + mostComment + 4
	mostBlock    = packetHeader + headerIPv6 + headerTCP + synOptions + mostPayload + mostOptions + 4
)

var be = binary.BigEndian

// packet is one packet of a stream.
type packet struct {
	at       int64 // nanoseconds since 1970
	dir      direction
	src, dst netip.AddrPort // of one family
	seq, ack uint32
	flags    uint8
	id       uint16   // of IPv4
	bufs     [][]byte // the payload is n bytes of these, from skip on
	skip, n  int
	comment  string // "" for none; at most mostComment bytes
}

// size returns the length of the block in bytes.
func (p *packet) size() int {
	n := packetHeader + padded(p.length()) + 8 + 4 + 4
	if p.comment != "" {
		n += 4 + padded(len(p.comment))
	}
	return n
}

// length returns the length of the packet in bytes.
func (p *packet) length() int {
	n := headerIPv4 + headerTCP + p.n
	if p.src.Addr().Is6() {
		n += headerIPv6 - headerIPv4
	}
	if p.flags&tcpSYN != 0 {
		n += synOptions
	}
	return n
}

// append appends the block.
func (p *packet) append(b []byte) []byte {
	size, length := uint32(p.size()), p.length()
	b = le.AppendUint32(b, blockPacket)
	b = le.AppendUint32(b, size)
	b = le.AppendUint32(b, 0) // the interface
	b = le.AppendUint32(b, uint32(p.at>>32))
	b = le.AppendUint32(b, uint32(p.at))
	b = le.AppendUint32(b, uint32(length)) // captured
	b = le.AppendUint32(b, uint32(length)) // on the wire
	if p.src.Addr().Is6() {
		b = p.appendIPv6(b, length)
	} else {
		b = p.appendIPv4(b, length)
	}
	b = append(b, "\x00\x00\x00"[:padded(length)-length]...)
	b = le.AppendUint16(b, optFlags)
	b = le.AppendUint16(b, 4)
	if p.dir == in {
		b = le.AppendUint32(b, flagInbound)
	} else {
		b = le.AppendUint32(b, flagOutbound)
	}
	if p.comment != "" {
		b = appendOption(b, optComment, p.comment)
	}
	b = le.AppendUint32(b, optEnd)
	return le.AppendUint32(b, size)
}

func (p *packet) appendIPv4(b []byte, length int) []byte {
	src, dst := p.src.Addr().As4(), p.dst.Addr().As4()
	began := len(b)
	b = append(b, 0x45, 0) // version 4, 5 words; no class
	b = be.AppendUint16(b, uint16(length))
	b = be.AppendUint16(b, p.id)
	b = append(b, 0x40, 0, 64, 6, 0, 0) // do not fragment; hops; TCP; the checksum
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	be.PutUint16(b[began+10:], fold(sum(0, b[began:])))
	return p.appendTCP(b, sum(sum(0, src[:]), dst[:]), length-headerIPv4)
}

func (p *packet) appendIPv6(b []byte, length int) []byte {
	src, dst := p.src.Addr().As16(), p.dst.Addr().As16()
	b = append(b, 0x60, 0, 0, 0) // version 6
	b = be.AppendUint16(b, uint16(length-headerIPv6))
	b = append(b, 6, 64) // TCP; hops
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	return p.appendTCP(b, sum(sum(0, src[:]), dst[:]), length-headerIPv6)
}

// windowScale makes a window of 65,535 one of 1 GiB, so that no program that looks for full windows finds one.
const windowScale = 14

// appendTCP appends the header and the payload. addresses is their sum, length that of what is appended.
func (p *packet) appendTCP(b []byte, addresses uint64, length int) []byte {
	began := len(b)
	b = be.AppendUint16(b, p.src.Port())
	b = be.AppendUint16(b, p.dst.Port())
	b = be.AppendUint32(b, p.seq)
	b = be.AppendUint32(b, p.ack)
	words := byte(headerTCP / 4)
	if p.flags&tcpSYN != 0 {
		words += synOptions / 4
	}
	b = append(b, words<<4, p.flags, 0xff, 0xff, 0, 0, 0, 0) // the window, the checksum, no urgent data
	if p.flags&tcpSYN != 0 {
		b = append(b, 2, 4, 0xff, 0xd7, 1, 3, 3, windowScale) // segments of up to 65,495 bytes; nothing; the scale
	}
	b = p.appendPayload(b)
	be.PutUint16(b[began+16:], fold(sum(addresses, b[began:])+6+uint64(length)))
	return b
}

func (p *packet) appendPayload(b []byte) []byte {
	skip, n := p.skip, p.n
	for _, part := range p.bufs {
		if skip >= len(part) {
			skip -= len(part)
			continue
		}
		part = part[skip:]
		part = part[:min(len(part), n)]
		b = append(b, part...)
		skip, n = 0, n-len(part)
		if n == 0 {
			break
		}
	}
	return b
}

// sum adds the 16-bit words of b to a sum of RFC 1071, four at a time. The sum of less than 4 GiB does not overflow: see fold.
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 8 {
		v := be.Uint64(b)
		s += v>>32 + v&0xffffffff
		b = b[8:]
	}
	for len(b) >= 2 {
		s += uint64(be.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold makes a checksum of a sum. 2^16 is 1 modulo 2^16-1, so words of 32 bits may be added like those of 16.
func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
