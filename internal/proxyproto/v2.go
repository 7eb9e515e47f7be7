package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// fixed2 is how many bytes version 2 has before the addresses.
const fixed2 = 16

// Commands, families and transports of version 2.
const (
	local, proxied         = 0, 1
	inet4, inet6           = 1, 2
	unixSocket, lastFamily = 3, 3
	stream, lastTransport  = 1, 2
)

// addressSize is how many bytes the addresses of a family take.
var addressSize = [lastFamily + 1]int{inet4: 2*4 + 4, inet6: 2*16 + 4, unixSocket: 2 * 108}

// parse2 reads the binary header: signature, version and command, family and transport, length, addresses, TLVs.
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
	tlvs := fixed2 // where they begin
	if family <= lastFamily {
		tlvs += addressSize[family]
	}
	least, most := bounds(b)
	switch {
	case least > MaxSize:
		return h, 0, fmt.Errorf("a header of %d bytes or more, at most %d are accepted", least, MaxSize)
	case command == local:
		if len(b) < most {
			return h, 0, nil
		}
		return h, most, checkLocal(b[:most], tlvs)
	case most < tlvs:
		return h, 0, fmt.Errorf("%d bytes of addresses, family %d has %d", most-fixed2, family, tlvs-fixed2)
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

// bounds returns how small and how large the header can be, by as much of its length as has come: the same twice if all has.
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

// addresses reads those of TCP; other families have none.
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

// walk checks the TLVs of a header of that size, which begin at that place, as far as b has come. It returns where the checksum is, 0 if
// there is none.
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
		least, most := 0, 0xffff         // of the length, by what has come
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
				return 0, errors.New("two checksums")
			}
			if least > 4 || most < 4 {
				return 0, fmt.Errorf("a checksum of %d bytes", least)
			}
			least, most = 4, 4
			sum = at + 3
		}
		if least > left {
			return 0, fmt.Errorf("a TLV of %d bytes, %d are left", least, left)
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

// checkLocal checks what of a LOCAL header is to be checked. Its receiver has to ignore addresses and family, and so whatever
// follows if it makes no sense. But a checksum that is there has to be right: one bit makes PROXY out of LOCAL.
func checkLocal(header []byte, tlvs int) error {
	sum, err := walk(header, tlvs, len(header))
	if err != nil {
		return nil
	}
	return verify(header, sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verify checks the checksum at that place of the header, if there is one. It was made with zeroes in its own place.
func verify(header []byte, at int) error {
	if at == 0 {
		return nil
	}
	sum := crc32.Update(crc32.Checksum(header[:at], castagnoli), castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, header[at+4:])
	if told := binary.BigEndian.Uint32(header[at:]); sum != told {
		return fmt.Errorf("the checksum is 0x%08x, the header says 0x%08x", sum, told)
	}
	return nil
}
