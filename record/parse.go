package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// file is a pcapng file as it is read: its packets, one after the other. Blocks and options that are not known are left out, so files that
// Wireshark or editcap have cut are read too, in either byte order.
type file struct {
	order      binary.ByteOrder
	rest       []byte
	offset     int
	interfaces []netInterface
	dropped    uint64
	truncated  bool // the file ends within a block
}

// netInterface is an interface of a section.
type netInterface struct {
	link  uint16
	ticks int64 // units of time in a second
}

// captured is a packet that was read.
type captured struct {
	at         time.Time
	outbound   bool
	comments   []string
	src, dst   netip.AddrPort
	seq, ack   uint32
	flags      uint8
	payload    []byte // refers to the file
	knownFlags bool   // outbound was told
}

var errNotOurs = errors.New("want a file of record.Create, or one that was cut from it")

// next returns the next packet, false at the end of the file.
func (f *file) next(p *captured) (bool, error) {
	for {
		kind, body, err := f.block()
		if err != nil || body == nil {
			return false, err
		}
		switch kind {
		case blockInterface:
			err = f.addInterface(body)
		case blockStatistics:
			if len(body) >= 12 {
				f.options(body[12:], func(code uint16, value []byte) {
					if code == optDropped && len(value) == 8 {
						f.dropped = max(f.dropped, f.order.Uint64(value))
					}
				})
			}
		case blockPacket:
			if err = f.packet(body, p); err == nil {
				return true, nil
			}
		}
		if err != nil {
			return false, fmt.Errorf("at byte %d: %w", f.offset, err)
		}
	}
}

// block returns the body of the next block, nil at the end.
func (f *file) block() (kind uint32, body []byte, err error) {
	if len(f.rest) < 12 {
		f.truncated = len(f.rest) > 0
		return 0, nil, nil
	}
	if le.Uint32(f.rest) == blockSection {
		f.order, f.interfaces = le, nil
		if be.Uint32(f.rest[8:]) == byteOrderMagic {
			f.order = be
		}
	} else if f.order == nil {
		return 0, nil, fmt.Errorf("not pcapng: %w", errNotOurs)
	}
	length := int(f.order.Uint32(f.rest[4:]))
	if length < 12 || length%4 != 0 {
		return 0, nil, fmt.Errorf("at byte %d: a block has a length of %d", f.offset, length)
	}
	if length > len(f.rest) {
		f.truncated = true
		return 0, nil, nil
	}
	if again := int(f.order.Uint32(f.rest[length-4:])); again != length {
		return 0, nil, fmt.Errorf("at byte %d: a block has a length of %d, and of %d at its end", f.offset, length, again)
	}
	kind, body = f.order.Uint32(f.rest), f.rest[8:length-4]
	f.rest = f.rest[length:]
	f.offset += length
	return kind, body, nil
}

// options calls each for the options of a block.
func (f *file) options(b []byte, each func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, n := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		if code == optEnd || 4+n > len(b) {
			return
		}
		each(code, b[4:4+n])
		b = b[min(4+padded(n), len(b)):]
	}
}

func (f *file) addInterface(body []byte) error {
	if len(body) < 8 {
		return errors.New("the block of an interface is too short")
	}
	i := netInterface{link: f.order.Uint16(body), ticks: 1_000_000}
	f.options(body[8:], func(code uint16, value []byte) {
		if code == optResolution && len(value) == 1 && value[0] <= 9 {
			i.ticks = 1
			for range value[0] {
				i.ticks *= 10
			}
		}
	})
	f.interfaces = append(f.interfaces, i)
	return nil
}

func (f *file) packet(body []byte, p *captured) error {
	if len(body) < 20 {
		return errors.New("the block of a packet is too short")
	}
	n := int(f.order.Uint32(body))
	if n >= len(f.interfaces) {
		return fmt.Errorf("a packet of interface %d, of %d", n, len(f.interfaces))
	}
	i := f.interfaces[n]
	if i.link != linkRaw {
		return fmt.Errorf("packets have the link type %d, want %d (raw IP): %w", i.link, linkRaw, errNotOurs)
	}
	ticks := int64(f.order.Uint32(body[4:]))<<32 | int64(f.order.Uint32(body[8:]))
	size := int(f.order.Uint32(body[12:]))
	if size < 0 || size > len(body)-20 {
		return errors.New("a packet is longer than its block")
	}
	*p = captured{at: time.Unix(ticks/i.ticks, ticks%i.ticks*(1_000_000_000/i.ticks)), comments: p.comments[:0]}
	if rest := 20 + padded(size); rest < len(body) {
		f.options(body[rest:], func(code uint16, value []byte) {
			switch {
			case code == optComment:
				p.comments = append(p.comments, string(value))
			case code == optFlags && len(value) == 4:
				direction := f.order.Uint32(value) & 3
				p.outbound, p.knownFlags = direction == flagOutbound, direction != 0
			}
		})
	}
	return p.parseIP(body[20 : 20+size])
}

// parseIP reads the headers.
func (p *captured) parseIP(b []byte) error {
	var src, dst netip.Addr
	var protocol byte
	switch {
	case len(b) >= headerIPv4 && b[0]>>4 == 4:
		header, length := int(b[0]&15)*4, int(be.Uint16(b[2:]))
		if header < headerIPv4 || length < header || length > len(b) {
			return errors.New("the header of an IPv4 packet has a wrong length")
		}
		src, dst, protocol = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9]
		b = b[header:length]
	case len(b) >= headerIPv6 && b[0]>>4 == 6:
		length := headerIPv6 + int(be.Uint16(b[4:]))
		if length > len(b) {
			return errors.New("the header of an IPv6 packet has a wrong length")
		}
		src, dst, protocol = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6]
		b = b[headerIPv6:length]
	default:
		return errors.New("a packet is neither IPv4 nor IPv6")
	}
	if protocol != 6 || len(b) < headerTCP {
		return fmt.Errorf("a packet is not TCP: %w", errNotOurs)
	}
	header := int(b[12]>>4) * 4
	if header < headerTCP || header > len(b) {
		return errors.New("the header of a TCP packet has a wrong length")
	}
	p.src, p.dst = netip.AddrPortFrom(src, be.Uint16(b)), netip.AddrPortFrom(dst, be.Uint16(b[2:]))
	p.seq, p.ack, p.flags, p.payload = be.Uint32(b[4:]), be.Uint32(b[8:]), b[13], b[header:]
	return nil
}

// remark is what a comment of Stream's says.
type remark struct {
	id     uint64
	dialed bool
	ended  bool
	reason string // "" for none
}

// parseComment reads a comment. ok is false for one of somebody else.
func parseComment(s string) (r remark, ok bool) {
	var how string
	if n, err := fmt.Sscanf(s, "session %d, %s", &r.id, &how); n != 2 || err != nil {
		return r, false
	}
	how = strings.TrimSuffix(how, ",")
	if how != "accepted" && how != "dialed" {
		return r, false
	}
	r.dialed = how == "dialed"
	_, end, ended := strings.Cut(s, ", has ended")
	r.ended = ended
	r.reason = strings.TrimPrefix(end, ": ")
	return r, true
}
