// Package proxyproto reads the header with which a proxy tells for which client it has connected: the PROXY protocol, versions 1
// and 2, of https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
//
// Parse is a pure function of the bytes that have come so far.
package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

// MaxSize is the size in bytes of the largest header that is accepted. The format of version 2 allows 65,551; what is
// sent has some 50 bytes, with what a proxy can tell of a TLS client some hundred. nginx draws the same line.
const MaxSize = 4096

// Header is what a header tells.
//
// Source is the client. It is invalid if the header tells of no TCP client: the proxy connects on its own account (LOCAL), does
// not know (UNKNOWN, UNSPEC), or speaks of something that is not a TCP connection (AF_UNIX, DGRAM).
//
// Destination is what the client connected to. It is invalid without a Source, and for a client that came to a unix
// socket of the proxy's. Its family may differ from Source's.
//
// IPv4-mapped addresses are given as IPv4 ones, and there are no zones.
type Header struct {
	Source, Destination netip.AddrPort
}

// ErrMalformed is what errors of Parse match.
var ErrMalformed = errors.New("malformed PROXY header")

const (
	begin1 = "PROXY "
	begin2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads the header that b begins with and returns its size in bytes. The size is 0, without an error, while b is the
// beginning of a header. What cannot become a header any more is an error at once. The error says what is wrong, and
// quotes what Quote does.
func Parse(b []byte) (h Header, size int, err error) {
	switch {
	case startsLike(b, begin1):
		h, size, err = parse1(b)
	case startsLike(b, begin2):
		h, size, err = parse2(b)
	default:
		err = errors.New("it begins like neither version")
	}
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: %w: %s", ErrMalformed, err, Quote(b))
	}
	return h, size, nil
}

// Quote returns the beginning of what has come in place of a header, escaped, for a log: a line of version 1, 64 bytes of
// version 2, and 16 bytes of anything else, which may be a client's secret.
func Quote(b []byte) string {
	most := 16
	switch {
	case startsLike(b, begin1):
		most = maxLine
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			most = min(most, end+1)
		}
	case startsLike(b, begin2):
		most = 64
	}
	if len(b) <= most {
		return fmt.Sprintf("%+q", b)
	}
	return fmt.Sprintf("%+q...", b[:most])
}

// startsLike reports whether b begins with s, as far as b goes.
func startsLike(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}
