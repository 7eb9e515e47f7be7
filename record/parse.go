package record

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// file is a pcapng file as it is read: its packets, one after the other, a block at a time. Blocks and options that are not known are left out,
// so files that Wireshark or editcap have cut are read too, in either byte order.
type file struct {
	from      io.ReaderAt
	size      int64 // of the file
	in        *bufio.Reader
	at        int64      // where the block that was read begins
	offset    int64      // where the next one begins
	body      []byte     // of the block that was read; used again for the next
	sections  []*section // the last one is that of the block
	dropped   uint64
	truncated bool // the file ends within a block
}

// section is a part of a file, with a byte order and interfaces of its own. A file has one; two files behind each other have two.
type section struct {
	begins     int64
	order      binary.ByteOrder
	interfaces []netInterface
}

// What a file may make its reader allocate. A file of ours has one section with one interface, and blocks of 17 KiB at most.
const (
	readBuffer     = 256 << 10
	mostRead       = 1 << 20 // bytes of a block that is read; others are skipped
	mostSections   = 1 << 16
	mostInterfaces = 1 << 12 // of a section
	mostSessions   = 1 << 20
)

func newFile(from io.ReaderAt, size int64) *file {
	return &file{from: from, size: size, in: bufio.NewReaderSize(io.NewSectionReader(from, 0, size), readBuffer)}
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
	payload    []byte // refers to the block
	knownFlags bool   // outbound was told
}

var errNotOurs = errors.New("want a file of record.Create, or one that was cut from it")

// next returns the next packet, which is valid until the next call; false at the end of the file.
func (f *file) next(p *captured) (bool, error) {
	for {
		kind, err := f.block()
		if err != nil || kind == 0 {
			return false, err
		}
		s := f.sections[len(f.sections)-1]
		switch kind {
		case blockInterface:
			err = s.addInterface(f.body)
		case blockStatistics:
			if len(f.body) >= 12 {
				s.options(f.body[12:], func(code uint16, value []byte) {
					if code == optDropped && len(value) == 8 {
						f.dropped = max(f.dropped, s.order.Uint64(value))
					}
				})
			}
		case blockPacket:
			if err = s.packet(f.body, p); err == nil {
				return true, nil
			}
		}
		if err != nil {
			return false, fmt.Errorf("at byte %d: %w", f.at, err)
		}
	}
}

// block reads the next block and returns its kind, 0 at the end. Of those that nobody asks for it skips the body.
func (f *file) block() (kind uint32, err error) {
	f.at = f.offset
	head, err := f.in.Peek(12)
	if len(head) < 12 {
		f.truncated = len(head) > 0
		return 0, ended(err)
	}
	if le.Uint32(head) == blockSection {
		order := binary.ByteOrder(le)
		if be.Uint32(head[8:]) == byteOrderMagic {
			order = be
		}
		if len(f.sections) == mostSections {
			return 0, fmt.Errorf("at byte %d: it has more than %d sections", f.at, mostSections)
		}
		f.sections = append(f.sections, &section{begins: f.at, order: order})
	} else if len(f.sections) == 0 {
		return 0, fmt.Errorf("not pcapng: %w", errNotOurs)
	}
	order := f.sections[len(f.sections)-1].order
	kind = order.Uint32(head)
	length := int64(order.Uint32(head[4:]))
	if length < 12 || length%4 != 0 {
		return 0, fmt.Errorf("at byte %d: a block has a length of %d", f.at, length)
	}
	if length > f.size-f.at {
		f.truncated = true
		return 0, nil
	}
	f.body = f.body[:0]
	f.offset += length
	if kind != blockInterface && kind != blockStatistics && kind != blockPacket {
		f.skip(length - 4)
	} else if err := f.readBody(length); err != nil {
		return 0, err
	}
	var end [4]byte
	if _, err := io.ReadFull(f.in, end[:]); err != nil {
		f.truncated = true
		return 0, ended(err)
	}
	if again := int64(order.Uint32(end[:])); again != length {
		return 0, fmt.Errorf("at byte %d: a block has a length of %d, and of %d at its end", f.at, length, again)
	}
	return kind, nil
}

// readBody reads the body of a block of that length.
func (f *file) readBody(length int64) error {
	if length > mostRead {
		return fmt.Errorf("at byte %d: a block has a length of %d, want %d at most: %w", f.at, length, mostRead, errNotOurs)
	}
	f.skip(8)
	f.body = slices.Grow(f.body, int(length-12))[:length-12]
	if _, err := io.ReadFull(f.in, f.body); ended(err) != nil {
		return err
	}
	return nil
}

// skip leaves out that many bytes, which the file has.
func (f *file) skip(n int64) {
	if n <= int64(f.in.Buffered()) {
		_, _ = f.in.Discard(int(n))
		return
	}
	f.in.Reset(io.NewSectionReader(f.from, f.offset-4, f.size-f.offset+4)) // behind the body of a block
}

// ended returns err, nil if it says that the file ends: it may have become shorter meanwhile.
func ended(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// options calls each for the options of a block.
func (s *section) options(b []byte, each func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, n := s.order.Uint16(b), int(s.order.Uint16(b[2:]))
		if code == optEnd || 4+n > len(b) {
			return
		}
		each(code, b[4:4+n])
		b = b[min(4+padded(n), len(b)):]
	}
}

func (s *section) addInterface(body []byte) error {
	if len(body) < 8 {
		return errors.New("the block of an interface is too short")
	}
	if len(s.interfaces) == mostInterfaces {
		return fmt.Errorf("a section has more than %d interfaces", mostInterfaces)
	}
	i := netInterface{link: s.order.Uint16(body), ticks: 1_000_000}
	s.options(body[8:], func(code uint16, value []byte) {
		if code == optResolution && len(value) == 1 && value[0] <= 9 {
			i.ticks = 1
			for range value[0] {
				i.ticks *= 10
			}
		}
	})
	s.interfaces = append(s.interfaces, i)
	return nil
}

func (s *section) packet(body []byte, p *captured) error {
	if len(body) < 20 {
		return errors.New("the block of a packet is too short")
	}
	n := int(s.order.Uint32(body))
	if n >= len(s.interfaces) {
		return fmt.Errorf("a packet of interface %d, of %d", n, len(s.interfaces))
	}
	i := s.interfaces[n]
	if i.link != linkRaw {
		return fmt.Errorf("packets have the link type %d, want %d (raw IP): %w", i.link, linkRaw, errNotOurs)
	}
	ticks := int64(s.order.Uint32(body[4:]))<<32 | int64(s.order.Uint32(body[8:]))
	size := int(s.order.Uint32(body[12:]))
	if size < 0 || size > len(body)-20 {
		return errors.New("a packet is longer than its block")
	}
	*p = captured{at: time.Unix(ticks/i.ticks, ticks%i.ticks*(1_000_000_000/i.ticks)), comments: p.comments[:0]}
	if rest := 20 + padded(size); rest < len(body) {
		s.options(body[rest:], func(code uint16, value []byte) {
			switch {
			case code == optComment:
				p.comments = append(p.comments, string(value))
			case code == optFlags && len(value) == 4:
				direction := s.order.Uint32(value) & 3
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
	r.reason = cut(strings.TrimPrefix(end, ": "))
	return r, true
}
