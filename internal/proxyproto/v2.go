package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// fixed2 is the number of bytes before the addresses: signature, version and command, family and transport, length.
const fixed2 = 16

// Commands, families and transports of version 2.
const (
	local, proxied         = 0, 1
	inet4, inet6           = 1, 2
	unixSocket, lastFamily = 3, 3
	stream, lastTransport  = 1, 2
)

// addressSize is the number of bytes of both addresses, by family.
var addressSize = [lastFamily + 1]int{inet4: 2*4 + 4, inet6: 2*16 + 4, unixSocket: 2 * 108}

// parse2 parses the binary header: signature, version and command, family and transport, length, addresses, TLVs.
func parse2(b []byte) (h Header, size int, err error) {
	if len(b) > 12 && (b[12]>>4 != 2 || b[12]&15 > proxied) {
		return h, 0, fmt.Errorf("version %d, command %d, want version 2, command 0 (LOCAL) or 1 (PROXY)", b[12]>>4, b[12]&15)
	}
	if len(b) < 14 {
		return h, 0, nil
	}
	command, family, transport := b[12]&15, b[13]>>4, b[13]&15
	if command == proxied && (family > lastFamily || transport > lastTransport) {
		return h, 0, fmt.Errorf("family %d, transport %d, want at most %d and %d", family, transport, lastFamily, lastTransport)
	}
	tlvs := fixed2 // offset of the first TLV
	if family <= lastFamily {
		tlvs += addressSize[family]
	}
	least, most := bounds(b)
	switch {
	case least > MaxSize:
		return h, 0, fmt.Errorf("the header has %d bytes or more, at most %d are accepted", least, MaxSize)
	case command == local:
		if len(b) < most {
			return h, 0, nil
		}
		return h, most, checkLocal(b[:most], tlvs)
	case most < tlvs:
		return h, 0, fmt.Errorf("the addresses have %d bytes, want %d for family %d", most-fixed2, tlvs-fixed2, family)
	case least < most:
		return h, 0, nil
	}
	sum, err := walk(b, tlvs, most)
	if err != nil || len(b) < most {
		return h, 0, err
	}
	if transport == stream {
		h = addresses(b[fixed2:tlvs], family)
	}
	return h, most, verify(b[:most], sum)
}

// bounds returns the smallest and the largest size, in bytes, that the header can have. They differ while b holds only a part of the
// length field.
func bounds(b []byte) (least, most int) {
	switch len(b) {
	case 14:
		return fixed2, fixed2 + 0xffff
	case 15:
		least = fixed2 + int(b[14])<<8
		return least, least + 0xff
	}
	least = fixed2 + int(binary.BigEndian.Uint16(b[14:]))
	return least, least
}

// addresses parses IPv4 and IPv6 addresses with their ports. For other families the result is empty.
func addresses(a []byte, family byte) (h Header) {
	port := func(at int) uint16 { return binary.BigEndian.Uint16(a[at:]) }
	switch family {
	case inet4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), port(8))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:])), port(10))
	case inet6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a)).Unmap(), port(32))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[16:])).Unmap(), port(34))
	}
	return h
}

const typeCRC32C = 3

// walk checks the TLVs between offsets at and size, as far as b holds them. It returns the offset of the checksum, 0 if there is none.
func walk(b []byte, at, size int) (sum int, err error) {
	for at < size {
		left := size - at - 3
		if left < 0 {
			return 0, fmt.Errorf("%d bytes after the last TLV", size-at)
		}
		if at >= len(b) {
			return sum, nil
		}
		begin := b[at:min(at+3, len(b))] // type and length
		least, most := 0, 0xffff         // bounds of the length, from the bytes that b holds
		if len(begin) > 1 {
			least = int(begin[1]) << 8
			most = least + 0xff
		}
		if len(begin) > 2 {
			least += int(begin[2])
			most = least
		}
		if begin[0] == typeCRC32C {
			if sum > 0 {
				return 0, errors.New("the header has two checksums, want one at most")
			}
			if least > 4 || most < 4 {
				return 0, fmt.Errorf("the checksum has %d bytes, want 4", least)
			}
			least, most = 4, 4
			sum = at + 3
		}
		if least > left {
			return 0, fmt.Errorf("a TLV has %d bytes, only %d are left", least, left)
		}
		if rest := left - least; least == most && 0 < rest && rest < 3 {
			return 0, fmt.Errorf("%d bytes after the last TLV", rest)
		}
		if len(begin) < 3 {
			return sum, nil
		}
		at += 3 + least
	}
	return sum, nil
}

// checkLocal verifies the checksum of a LOCAL header, if it has one. The receiver must ignore the addresses and the family of such a
// header, and so malformed TLVs too. But a checksum must be right: a change of one bit turns PROXY into LOCAL.
func checkLocal(header []byte, tlvs int) error {
	sum, err := walk(header, tlvs, len(header))
	if err != nil {
		return nil
	}
	return verify(header, sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verify checks the checksum at offset at; 0 stands for no checksum. The sender has computed it with zeros in its own place.
func verify(header []byte, at int) error {
	if at == 0 {
		return nil
	}
	sum := crc32.Update(crc32.Checksum(header[:at], castagnoli), castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, header[at+4:])
	if stated := binary.BigEndian.Uint32(header[at:]); sum != stated {
		return fmt.Errorf("the checksum is 0x%08x, the header says 0x%08x", sum, stated)
	}
	return nil
}
