// Package proxyproto reads the header with which a proxy tells for whom it has connected: the PROXY protocol, versions 1
// and 2, of https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
//
// Parse is a pure function of the bytes that have come so far. It allocates nothing but errors.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
)

// MaxSize is the size in bytes of the largest header that is accepted. The format of version 2 allows 65,551; what is
// sent has some 50 bytes, with what a proxy can tell of a TLS client some hundred. nginx draws the same line.
const MaxSize = 4096

// Header is what a header tells. Both addresses are invalid if it tells of none: the proxy connects on its own account
// (LOCAL), does not know (UNKNOWN, UNSPEC), or speaks of something that is not a TCP connection. IPv4-mapped addresses are
// IPv4 ones, and there are no zones.
type Header struct {
	Source, Destination netip.AddrPort
}

// ErrMalformed is what errors of Parse match.
var ErrMalformed = errors.New("malformed PROXY header")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

const (
	begin1 = "PROXY "
	begin2 = "\r\n\r\n\x00\r\nQUIT\n"

	maxLine = 107 // of version 1, its end included
	fixed2  = 16  // bytes of version 2 before the addresses
)

// Parse reads the header that b begins with and returns its size in bytes. The size is 0, without an error, while b is too short to
// tell. Whatever can not become a header any more is an error at once.
func Parse(b []byte) (h Header, size int, err error) {
	switch {
	case startsLike(b, begin1):
		return parse1(b)
	case startsLike(b, begin2):
		return parse2(b)
	}
	return h, 0, malformed("it begins with neither version's signature")
}

// startsLike reports whether b begins with s, as far as it goes.
func startsLike(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

// parse1 reads a line: PROXY TCP4|TCP6 source destination port port, or PROXY UNKNOWN anything.
func parse1(b []byte) (h Header, size int, err error) {
	end := bytes.Index(b[:min(len(b), maxLine)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxLine {
			return h, 0, malformed("no end of line within %d bytes", maxLine)
		}
		return h, 0, nil
	}
	size = end + 2
	if end < len(begin1) {
		return h, 0, malformed("an empty line")
	}
	kind, rest, _ := bytes.Cut(b[len(begin1):end], []byte(" "))
	switch string(kind) {
	case "UNKNOWN":
		return h, size, nil
	case "TCP4", "TCP6":
	default:
		return h, 0, malformed("protocol %q", kind)
	}
	fields := bytes.Split(rest, []byte(" "))
	if len(fields) != 4 {
		return h, 0, malformed("%d fields, want 4", len(fields))
	}
	six := string(kind) == "TCP6"
	if h.Source, err = endpoint(fields[0], fields[2], six); err == nil {
		h.Destination, err = endpoint(fields[1], fields[3], six)
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, size, nil
}

func endpoint(address, port []byte, six bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(string(address))
	if err != nil || a.Is6() != six || a.Zone() != "" {
		return netip.AddrPort{}, malformed("address %q", address)
	}
	p, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, malformed("port %q", port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// Commands, families and transports of version 2.
const (
	local, proxied         = 0, 1
	unspec, inet4, inet6   = 0, 1, 2
	unixSocket, lastFamily = 3, 3
	stream, lastTransport  = 1, 2
)

// addressSize is how many bytes the addresses of a family take.
var addressSize = [lastFamily + 1]int{inet4: 2*4 + 4, inet6: 2*16 + 4, unixSocket: 2 * 108}

// parse2 reads the binary header: signature, version and command, family and transport, length, addresses, TLVs.
func parse2(b []byte) (h Header, size int, err error) {
	if len(b) > 12 && (b[12]>>4 != 2 || b[12]&15 > proxied) {
		return h, 0, malformed("version %d, command %d", b[12]>>4, b[12]&15)
	}
	if len(b) < fixed2 {
		return h, 0, nil
	}
	size = fixed2 + int(binary.BigEndian.Uint16(b[14:]))
	if size > MaxSize {
		return h, 0, malformed("%d bytes, at most %d are accepted", size, MaxSize)
	}
	command, family, transport := b[12]&15, b[13]>>4, b[13]&15
	if command == local || b[13]>>4 == unspec { // the rest is to be skipped, whatever it says
		if len(b) < size {
			return h, 0, nil
		}
		return h, size, nil
	}
	if family > lastFamily || transport > lastTransport {
		return h, 0, malformed("family %d, transport %d", family, transport)
	}
	want := addressSize[family]
	if size < fixed2+want {
		return h, 0, malformed("%d bytes of addresses, family %d has %d", size-fixed2, family, want)
	}
	if len(b) < size {
		return h, 0, nil
	}
	if err := checkTLVs(b[:size], fixed2+want); err != nil {
		return h, 0, err
	}
	if transport != stream {
		return h, size, nil
	}
	a := b[fixed2:]
	port := func(at int) uint16 { return binary.BigEndian.Uint16(a[at:]) }
	switch family {
	case inet4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), port(8))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:])), port(10))
	case inet6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a)).Unmap(), port(32))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[16:])).Unmap(), port(34))
	}
	return h, size, nil
}

const typeCRC32C = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTLVs checks that what follows the addresses is whole, and the checksum if there is one.
func checkTLVs(header []byte, at int) error {
	for at < len(header) {
		if len(header)-at < 3 {
			return malformed("%d bytes after the last TLV", len(header)-at)
		}
		kind, n := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		if at += 3; n > len(header)-at {
			return malformed("a TLV of %d bytes, %d are left", n, len(header)-at)
		}
		if kind == typeCRC32C {
			if n != 4 {
				return malformed("a checksum of %d bytes", n)
			}
			// It was made with zeroes in its own place.
			sum := crc32.Update(crc32.Checksum(header[:at], castagnoli), castagnoli, []byte{0, 0, 0, 0})
			if sum = crc32.Update(sum, castagnoli, header[at+4:]); sum != binary.BigEndian.Uint32(header[at:]) {
				return malformed("the checksum is wrong")
			}
		}
		at += n
	}
	return nil
}
