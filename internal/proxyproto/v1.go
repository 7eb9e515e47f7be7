package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// maxLine is the size, in bytes, of the longest line, CR LF included.
const maxLine = 107

var errLong = fmt.Errorf("no end of line within %d bytes", maxLine)

// parse1 parses a line of version 1: "PROXY TCP4|TCP6 source destination port port", or "PROXY UNKNOWN anything". The line ends with
// CR LF.
func parse1(b []byte) (h Header, size int, err error) {
	if len(b) < len(begin1) {
		return h, 0, nil
	}
	text, end := b[len(begin1):], bytes.IndexAny(b[len(begin1):], "\r\n")
	if end < 0 {
		rest, err := missing(text)
		if err == nil && len(b)+rest > maxLine {
			err = errLong
		}
		return h, 0, err
	}
	size = len(begin1) + end + 2
	switch {
	case size > maxLine:
		return h, 0, errLong
	case text[end] == '\n':
		return h, 0, errors.New("the line ends with LF, want CR LF")
	case size <= len(b) && text[end+1] != '\n':
		return h, 0, errors.New("the line has a CR without LF, want CR LF")
	}
	if h, err = fields(text[:end]); err != nil || size > len(b) {
		return Header{}, 0, err
	}
	return h, size, nil
}

// names are the names of a line's fields, in order.
var names = [...]string{"protocol", "source", "destination", "source port", "destination port"}

// fields parses the fields of a complete line.
func fields(text []byte) (h Header, err error) {
	f := bytes.Split(text, space)
	if string(f[0]) == "UNKNOWN" {
		return h, nil
	}
	for i := range min(len(f), len(names)) {
		if err := check(f, i); err != nil {
			return h, err
		}
	}
	if len(f) != len(names) {
		return h, fmt.Errorf("%d fields after the protocol, want %d", len(f)-1, len(names)-1)
	}
	h.Source = endpoint(f[1], f[3])
	h.Destination = endpoint(f[2], f[4])
	return h, nil
}

var space = []byte(" ")

// check returns an error if field i is invalid. The field must be complete.
func check(f [][]byte, i int) error {
	ok, want := false, ""
	switch i {
	case 0:
		ok, want = string(f[0]) == "TCP4" || string(f[0]) == "TCP6", "TCP4, TCP6 or UNKNOWN"
	case 1:
		ok, want = isAddress(string(f[1]), string(f[0])), "an address of "+string(f[0])
	case 2:
		ok, want = isDestination(string(f[2])), "an IP address"
	default:
		ok, want = isPort(string(f[i])), "a number up to 65535"
	}
	if !ok {
		return fmt.Errorf("%s is %+q, want %s", names[i], f[i], want)
	}
	return nil
}

// isAddress reports whether s is an IP address of the protocol's family.
func isAddress(s, protocol string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == "" && a.Is4() == (protocol == "TCP4")
}

// isDestination reports whether s may be a destination: an IPv4 address, an IPv6 address, or the path of a unix socket. Its family may
// differ from the protocol. An nginx that has the client's address from another proxy writes the address of its own listening socket
// here.
func isDestination(s string) bool {
	return isAddress(s, "TCP4") || isAddress(s, "TCP6") || startsLike([]byte(unixPath), s) && len(s) >= len(unixPath)
}

const unixPath = "unix:"

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil && (s[0] != '0' || s == "0")
}

// endpoint combines an address and a port that check has accepted. For the path of a unix socket the result is invalid.
func endpoint(address, port []byte) netip.AddrPort {
	a, err := netip.ParseAddr(string(address))
	if err != nil {
		return netip.AddrPort{}
	}
	p, _ := strconv.ParseUint(string(port), 10, 16)
	return netip.AddrPortFrom(a.Unmap(), uint16(p))
}

// missing returns the least number of bytes, CR LF included, that complete a line whose end has not come yet. It returns an error if
// no bytes can complete it.
func missing(text []byte) (int, error) {
	f := bytes.Split(text, space)
	last := len(f) - 1
	if last > 0 && string(f[0]) == "UNKNOWN" {
		return len("\r\n"), nil
	}
	for i := range min(last, len(names)) {
		if err := check(f, i); err != nil {
			return 0, err
		}
	}
	if last >= len(names) {
		return 0, fmt.Errorf("more than %d fields after the protocol", len(names)-1)
	}
	for _, more := range completions[min(last, 3)] {
		g := append(f[:last:last], append(f[last][:len(f[last]):len(f[last])], more...))
		if last == 0 && string(g[0]) == "UNKNOWN" {
			return len(more) + len("\r\n"), nil
		}
		if check(g, last) == nil {
			return len(more) + len(shortest[last]), nil
		}
	}
	return 0, check(f, last)
}

// completions lists, by kind of field (protocol, source, destination, port), the endings that complete it. For every valid beginning of
// such a field, one of the endings makes a valid field. Shorter endings come first.
var completions = [4][]string{
	{"", "4", "P4", "CP4", "TCP4", "N", "WN", "OWN", "NOWN", "KNOWN", "NKNOWN", "UNKNOWN"},
	addressEnds,
	append(addressEnds[:len(addressEnds):len(addressEnds)], "x:", "ix:", "nix:", "unix:"),
	{"", "0"},
}

var addressEnds = []string{"", "0", ":", ".0", "::", ":0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0"}

// shortest has, for each field, the shortest rest of a line after it.
var shortest = [...]string{" :: :: 0 0\r\n", " :: 0 0\r\n", " 0 0\r\n", " 0\r\n", "\r\n"}
