// Package proxyproto parses the header of the PROXY protocol, versions 1 and 2, by which a proxy tells a server the address of its
// client. The format is https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
//
// [Parse] is a pure function of the bytes received so far. It returns the header, or size 0 while bytes are missing, or an error as
// soon as no further bytes can complete a valid header.
//
//	parse.go   Parse, Header, and Quote for log lines
//	v1.go      version 1: a line of text
//	v2.go      version 2: binary, with TLVs and a checksum
package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

// MaxSize is the size, in bytes, of the largest header that Parse accepts. Version 2 allows 65,551 bytes. Real headers have about
// 50, and a few hundred with details of a TLS client. nginx has the same limit.
const MaxSize = 4096

// Header is the content of a PROXY header.
//
// Source is the client's address. It is invalid if the header names no TCP client: the proxy connects for itself (LOCAL), does not
// know the client (UNKNOWN, UNSPEC), or names a connection that is not TCP (AF_UNIX, DGRAM).
//
// Destination is the address that the client connected to. It is invalid if Source is, and if the client connected to a unix socket
// of the proxy. Its address family may differ from that of Source.
//
// IPv4-mapped IPv6 addresses are returned as IPv4 addresses. Addresses have no zone.
type Header struct {
	Source, Destination netip.AddrPort
}

// ErrMalformed is matched by every error of Parse.
var ErrMalformed = errors.New("malformed PROXY header")

const (
	begin1 = "PROXY "
	begin2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads the header at the beginning of b and returns its size in bytes. While b is only the beginning of a valid header, Parse
// returns size 0 and no error. As soon as no further bytes can make b a valid header, it returns an error that matches ErrMalformed.
// The error says what is wrong and ends with Quote(b).
func Parse(b []byte) (h Header, size int, err error) {
	switch {
	case startsLike(b, begin1):
		h, size, err = parse1(b)
	case startsLike(b, begin2):
		h, size, err = parse2(b)
	default:
		err = errors.New("it begins like neither version 1 nor version 2")
	}
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: %w: %s", ErrMalformed, err, Quote(b))
	}
	return h, size, nil
}

// Quote returns the beginning of b, quoted and escaped for a log line: the line of version 1, the first 64 bytes of version 2, or the
// first 16 bytes of anything else, which may contain a secret of the client.
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

// startsLike reports whether b begins with s, or is itself a beginning of s.
func startsLike(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}
