package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

// v2 builds a header of version 2.
func v2(command, family byte, body ...[]byte) string {
	all := bytes.Join(body, nil)
	b := append([]byte(begin2), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(all))), all...))
}

func tlv(kind byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	return append(b, value...)
}

// summed is v2 with a checksum between the addresses and after.
func summed(command, family byte, addresses []byte, after []byte) string {
	b := []byte(v2(command, family, addresses, tlv(typeCRC32C, "\x00\x00\x00\x00"), after))
	at := fixed2 + len(addresses) + 3
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, castagnoli))
	return string(b)
}

var (
	four = []byte{192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 80}
	six  = append(append(append([]byte{0x20, 1, 0xd, 0xb8, 15: 1}, 0x20, 1, 0xd, 0xb8), []byte{11: 2}...), 0xff, 0xff, 0, 1)
)

var whole = []struct{ name, header, source, destination string }{
	{"v1 tcp4", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n", "192.0.2.1:12345", "198.51.100.2:80"},
	{"v1 tcp6", "PROXY TCP6 2001:db8::1 2001:db8::2 65535 1\r\n", "[2001:db8::1]:65535", "[2001:db8::2]:1"},
	{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1\r\n", "192.0.2.1:0", "[::1]:1"},
	{"v1 longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"v1 mixed, as nginx has it", "PROXY TCP6 2001:db8::1 127.0.0.1 1111 7843\r\n", "[2001:db8::1]:1111", "127.0.0.1:7843"},
	{"v1 mixed the other way", "PROXY TCP4 192.0.2.1 ::1 1111 7843\r\n", "192.0.2.1:1111", "[::1]:7843"},
	{"v1 mixed, mapped", "PROXY TCP4 192.0.2.1 ::ffff:127.0.0.1 1111 7843\r\n", "192.0.2.1:1111", "127.0.0.1:7843"},
	{"v1 to a unix socket", "PROXY TCP4 192.0.2.1 unix:/run/nginx.sock 1111 0\r\n", "192.0.2.1:1111", ""},
	{"v1 to a unix socket without a path", "PROXY TCP6 ::1 unix: 1111 0\r\n", "[::1]:1111", ""},
	{"v1 upper case", "PROXY TCP6 2001:DB8::A 1:2:3:4:5:6:1.2.3.4 1 1\r\n", "[2001:db8::a]:1", "[1:2:3:4:5:6:102:304]:1"},
	{"v1 longest of all", longest + " 1 1\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:6f6f:6f6f]:1", "[ffff:ffff:ffff:ffff:ffff:ffff:6f6f:6f0b]:1"},
	{"v1 unknown", "PROXY UNKNOWN\r\n", "", ""},
	{"v1 unknown, addresses", "PROXY UNKNOWN 192.0.2.1 x  \x00\xff\r\n", "", ""},
	{"v1 unknown, more", "PROXY UNKNOWN " + strings.Repeat("f", maxLine-16) + "\r\n", "", ""},
	{"v2 tcp4", v2(proxied, 0x11, four), "192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 tcp6", v2(proxied, 0x21, six), "[2001:db8::1]:65535", "[2001:db8::2]:1"},
	{"v2 TLVs", v2(proxied, 0x11, four, tlv(1, "h2"), tlv(2, "example.org"), tlv(4, ""), tlv(0xea, "\x01vpce")),
		"192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 largest", v2(proxied, 0x11, four, tlv(4, strings.Repeat("x", MaxSize-fixed2-len(four)-3))), "192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 checksum", summed(proxied, 0x21, six, tlv(5, "id")), "[2001:db8::1]:65535", "[2001:db8::2]:1"},
	{"v2 local", v2(local, 0x11, four), "", ""},
	{"v2 local, no addresses", v2(local, 0), "", ""},
	{"v2 local, nonsense", v2(local, 0xff, []byte("anything")), "", ""},
	{"v2 local, largest", v2(local, 0xff, make([]byte, MaxSize-fixed2)), "", ""},
	{"v2 local, addresses missing", v2(local, 0x21, four), "", ""},
	{"v2 local, checksum", summed(local, 0, nil, tlv(4, "")), "", ""},
	{"v2 local, addresses and checksum", summed(local, 0x21, six, nil), "", ""},
	{"v2 local, a TLV cut off behind a checksum", v2(local, 0, tlv(typeCRC32C, "abcd"), []byte{1, 0}), "", ""},
	{"v2 unspec", v2(proxied, 0), "", ""},
	{"v2 unspec, stream", v2(proxied, 0x01), "", ""},
	{"v2 unspec, TLVs", v2(proxied, 0, tlv(2, "example.org"), tlv(5, "id")), "", ""},
	{"v2 unspec, checksum", summed(proxied, 0, nil, tlv(5, "id")), "", ""},
	{"v2 unix", v2(proxied, 0x31, make([]byte, 216)), "", ""},
	{"v2 unix datagrams, checksum", summed(proxied, 0x32, make([]byte, 216), nil), "", ""},
	{"v2 udp", v2(proxied, 0x12, four), "", ""},
	{"v2 udp of IPv6", v2(proxied, 0x22, six, tlv(4, "x")), "", ""},
	{"v2 no transport", v2(proxied, 0x10, four), "", ""},
	{"v2 mapped", v2(proxied, 0x21, append(append(append(mapped[:12:12], 192, 0, 2, 1), six[16:32]...), 0, 1, 0, 2)), "192.0.2.1:1", "[2001:db8::2]:2"},
	{"v2 mapped destination", v2(proxied, 0x21, append(append(append(six[:16:16], mapped[:12]...), 192, 0, 2, 1), 0, 1, 0, 2)), "[2001:db8::1]:1", "192.0.2.1:2"},
}

var mapped = []byte{10: 0xff, 11: 0xff, 15: 0}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// A header is complete at its last byte and not before, and Parse ignores the bytes after it.
func TestWholeHeaders(t *testing.T) {
	for _, tt := range whole {
		all := tt.header + "GET / HTTP/1.1\r\n\r\n"
		for n := range len(all) + 1 {
			h, size, err := Parse([]byte(all[:n]))
			want := Header{}
			switch {
			case err != nil:
				t.Errorf("%s: after %d bytes: %v, want no error", tt.name, n, err)
			case n < len(tt.header):
				if size != 0 || h != want {
					t.Errorf("%s: after %d of %d bytes Parse returns a header of %d bytes", tt.name, n, len(tt.header), size)
				}
			case size != len(tt.header) || text(h.Source) != tt.source || text(h.Destination) != tt.destination:
				t.Errorf("%s: %d bytes, %q, %q, want %d, %q, %q", tt.name, size, text(h.Source), text(h.Destination),
					len(tt.header), tt.source, tt.destination)
			}
			if t.Failed() {
				break
			}
		}
	}
}

// Malformed headers, cut at the byte that makes them so: good is the beginning of a valid header, and good with the first byte of bad
// is not. says is a part of the error.
var malformedHeaders = []struct{ good, bad, says string }{
	{"", "G", "neither version 1 nor version 2"},
	{"PROX", "X", "neither version 1 nor version 2"},
	{"", "proxy TCP4", "neither version 1 nor version 2"},
	{"PROXY", "\r\n", "neither version 1 nor version 2"},
	{begin2[:11], "x", "neither version 1 nor version 2"},

	{"PROXY ", "\r\n", `protocol is "", want TCP4, TCP6 or UNKNOWN`},
	{"PROXY ", " TCP4", `protocol is "", want`},
	{"PROXY U", "DP4", `protocol is "UD`},
	{"PROXY TCP", "5 ", `protocol is "TCP5`},
	{"PROXY TCP", " ", `protocol is "TCP", want`},
	{"PROXY TCP4", "\r\n", "0 fields after the protocol, want 4"},
	{"PROXY TCP4", "6", `protocol is "TCP46"`},
	{"PROXY UNKNOWN", "S\r\n", `protocol is "UNKNOWNS"`},
	{"PROXY UNKNOWN", "\n", "the line ends with LF, want CR LF"},
	{"PROXY UNKNOWN 1.2.3.4", "\n\r\n", "the line ends with LF, want CR LF"},
	{"PROXY UNKNOWN\r", "\r\n", "a CR without LF"},
	{"PROXY UNKNOWN ::1\r", "x\r\n", "a CR without LF"},
	{"PROXY UNKNOWN " + strings.Repeat("f", maxLine-16), "f", "no end of line within 107 bytes"},

	{"PROXY UNKNOWN " + strings.Repeat("f", maxLine-16), "f\r\n", "no end of line within 107 bytes"},
	{"PROXY UNKNOWN " + strings.Repeat("f", maxLine-16), strings.Repeat("f", MaxSize) + "\r\n", "no end of line within 107 bytes"},

	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 1", "\n", "the line ends with LF, want CR LF"},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r", "GET", "a CR without LF"},
	{"PROXY TCP4 ", ":", `source is ":`},
	{"PROXY TCP4 ", " 1.2.3.4", `source is "", want`},
	{"PROXY TCP4 1.2.3.0", "4 ", `source is "1.2.3.04", want an address of TCP4`},
	{"PROXY TCP4 1.2.3.25", "6 ", `source is "1.2.3.256"`},
	{"PROXY TCP4 1.2.3", " ", `source is "1.2.3"`},
	{"PROXY TCP4 1.2.3.4", ".", `source is "1.2.3.4.`},
	{"PROXY TCP4 1.", ".", `source is "1.."`},
	{"PROXY TCP4 1.2.3.4", "\r\n", "1 fields after the protocol, want 4"},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1", "\r\n", "3 fields after the protocol, want 4"},
	{"PROXY TCP4 1.2.3.4 ", " ", `destination is "", want an IP address`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 1", " ", "more than 4 fields after the protocol"},
	{"PROXY TCP6 1", ".2.3.4", `source is "1.`},
	{"PROXY TCP6 ::1:", ":", `source is "::1::`},
	{"PROXY TCP6 1234", "5", `source is "12345`},
	{"PROXY TCP6 1:2:3:4:5:6:7:8", ":", `source is "1:2:3:4:5:6:7:8:`},
	{"PROXY TCP6 ::1:2:3:4:5:6:7", ":8 ", `source is "::1:2:3:4:5:6:7:`},
	{"PROXY TCP6 1:2:3:4:5:6:7", " ", `source is "1:2:3:4:5:6:7", want an address of TCP6`},
	{"PROXY TCP6 fe80::1", "%eth0 ::1 1 1\r\n", `source is "fe80::1%`},
	{"PROXY TCP6 ", "unix:/x", `source is "u`},
	{"PROXY TCP6 ::1 fe80::1", "%e", `destination is "fe80::1%`},
	{"PROXY TCP6 ::1 1.2.3.", "x", `destination is "1.2.3.x`},
	{"PROXY TCP6 ::1 unix", " 1 0\r\n", `destination is "unix", want an IP address`},
	{"PROXY TCP6 ::1 un", "x", `destination is "unx`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 ", " 1", `source port is "", want a number up to 65535`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 6553", "6 1\r\n", `source port is "65536`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 ", "+1 1\r\n", `source port is "+`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 0", "1\r\n", `destination port is "01`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 1", "x\r\n", `destination port is "1x`},
	{"PROXY TCP4 1.2.3.4 1.2.3.4 1 ", "\r\n", `destination port is "", want`},
	{longest, "1", "no end of line within 107 bytes"},
	{longest + " 1", "1", "no end of line within 107 bytes"},
	{longest + " 1 1", "1", "no end of line within 107 bytes"},
	{"PROXY TCP6 ::1 unix:" + strings.Repeat("x", maxLine-26), "x", "no end of line within 107 bytes"},

	{begin2, "\x11", "version 1, command 1, want version 2"},
	{begin2, "\x31", "version 3, command 1, want version 2"},
	{begin2, "\x22", "version 2, command 2, want"},
	{begin2 + "\x21", "\x41", "family 4, transport 1, want at most 3 and 2"},
	{begin2 + "\x21", "\x13", "family 1, transport 3, want at most 3 and 2"},
	{begin2 + "\x21", "\x03", "family 0, transport 3"},
	{begin2 + "\x21", "\xf0", "family 15, transport 0"},
	{begin2 + "\x21\x11\x00", "\x0b", "the addresses have 11 bytes, want 12 for family 1"},
	{begin2 + "\x21\x21\x00", "\x23", "the addresses have 35 bytes, want 36 for family 2"},
	{begin2 + "\x21\x22\x00", "\x0c", "the addresses have 12 bytes, want 36 for family 2"},
	{begin2 + "\x21\x31\x00", "\xd7", "the addresses have 215 bytes, want 216 for family 3"},
	{begin2 + "\x21\x11", "\x10\x00", "the header has 4112 bytes or more, at most 4096 are accepted"},
	{begin2 + "\x21\x11\x0f", "\xf1", "the header has 4097 bytes or more"},
	{begin2 + "\x20\x00\x0f", "\xf1", "the header has 4097 bytes or more"},
	{v2(proxied, 0x11, four, []byte{1, 0})[:15], "\x0e", "2 bytes after the last TLV"},
	{v2(proxied, 0x11, four, []byte{1, 0, 0, 1})[:fixed2+12+2], "\x00", "1 bytes after the last TLV"},
	{v2(proxied, 0x11, four, []byte{1, 0, 2, 'x'})[:fixed2+12+2], "\x02x", "a TLV has 2 bytes, only 1 are left"},
	{v2(proxied, 0, []byte{1, 1, 2, 'x'})[:fixed2+1], "\x01\x02x", "a TLV has 258 bytes, only 1 are left"},
	{v2(proxied, 0x21, six, tlv(4, "xx"), []byte{1, 0, 2, 'x'})[:fixed2+36+5+2], "\x02x", "a TLV has 2 bytes, only 1 are left"},
	{v2(proxied, 0x11, four, tlv(3, "abcdefg"))[:fixed2+12+2], "\x03", "the checksum has 3 bytes"},
	{v2(proxied, 0x11, four, tlv(3, "abcdefg"))[:fixed2+12+2], "\x07", "the checksum has 7 bytes"},
	{v2(proxied, 0x11, four, tlv(3, "abcdefg"))[:fixed2+12+1], "\x01", "the checksum has 256 bytes"},
	{v2(proxied, 0x11, four, tlv(3, "abc"))[:fixed2+12], "\x03\x00\x03abc", "the checksum has 3 bytes"},
	{v2(proxied, 0x11, four, tlv(3, "abcdef"))[:fixed2+12], "\x03\x00\x04abcdef", "2 bytes after the last TLV"},
	{v2(proxied, 0x11, four, tlv(3, "abcd"))[:fixed2+12+6], "d", "the header says 0x61626364"},
	{summed(proxied, 0x11, four, tlv(3, "abcd"))[:fixed2+12+7], "\x03\x00\x04abcd", "two checksums"},
	{v2(proxied, 0, tlv(3, "\x00\x00\x00\x00"))[:fixed2+6], "\x00", "the checksum is 0x"},
	{v2(proxied, 0x31, make([]byte, 216), tlv(3, "\x00\x00\x00\x00"))[:fixed2+216+6], "\x00", "the checksum is 0x"},
	{v2(local, 0, tlv(3, "\x00\x00\x00\x00"))[:fixed2+6], "\x00", "the checksum is 0x"},
	{v2(local, 0x11, four, tlv(3, "\x00\x00\x00\x00"))[:fixed2+12+6], "\x00", "the checksum is 0x"},
}

// longest leaves room for ports of one digit.
const longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:111.111.111.111 ffff:ffff:ffff:ffff:ffff:ffff:111.111.111.11"

// Parse refuses a malformed header at the first byte that cannot belong to a valid one.
func TestMalformedHeaders(t *testing.T) {
	for _, tt := range malformedHeaders {
		for n := range len(tt.good) + 1 {
			if h, size, err := Parse([]byte(tt.good[:n])); err != nil || size != 0 || h != (Header{}) {
				t.Errorf("%q: %+v, %d bytes, error %v, want more bytes first", tt.good[:n], h, size, err)
				break
			}
		}
		for n := range len(tt.bad) {
			all := tt.good + tt.bad[:n+1]
			h, size, err := Parse([]byte(all))
			if !errors.Is(err, ErrMalformed) || size != 0 || h != (Header{}) {
				t.Errorf("%q: %+v, %d bytes, error %v, want ErrMalformed", all, h, size, err)
			}
			if n == len(tt.bad)-1 && err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q: error %q, want it to say %s", all, err, tt.says)
			}
		}
	}
}

// The checksum detects the change of any bit, except in the type of the checksum's own TLV. A change of one bit turns PROXY into LOCAL,
// and another turns TCP4 into UNSPEC.
func TestChecksumGuardsEveryBit(t *testing.T) {
	for header, sum := range map[string]int{
		summed(proxied, 0x11, four, tlv(5, "id")): fixed2 + 12,
		summed(proxied, 0x21, six, nil):           fixed2 + 36,
	} {
		for i := range len(header) * 8 {
			b := []byte(header)
			b[i/8] ^= 1 << (i % 8)
			if h, size, err := Parse(b); err == nil && size > 0 && i/8 != sum {
				t.Errorf("with bit %d of byte %d changed, Parse(%q) is %+v, %d bytes, want an error", i%8, i/8, header, h, size)
			}
		}
	}
}

// Quote is bounded, and quotes only 16 bytes of what is no PROXY header.
func TestQuote(t *testing.T) {
	for _, tt := range []struct{ b, want string }{
		{"", `""`},
		{"GET / HTTP/1.1\r\n", `"GET / HTTP/1.1\r\n"`},
		{"GET / HTTP/1.1\r\nAuthorization: secret", `"GET / HTTP/1.1\r\n"...`},
		{"PROXY TCP4 \xff\u00e4\r\nsecret", `"PROXY TCP4 \xff\u00e4\r\n"...`},
		{"PROXY TCP5\nsecret\n", `"PROXY TCP5\n"...`},
		{"PROXY " + strings.Repeat("x", maxLine-6), `"PROXY ` + strings.Repeat("x", maxLine-6) + `"`},
		{"PROXY " + strings.Repeat("x", maxLine-5), `"PROXY ` + strings.Repeat("x", maxLine-6) + `"...`},
		{"PROXY " + strings.Repeat("x", 200) + "\r\n", `"PROXY ` + strings.Repeat("x", maxLine-6) + `"...`},
		{begin2 + strings.Repeat("\x00", 52), `"\r\n\r\n\x00\r\nQUIT\n` + strings.Repeat(`\x00`, 52) + `"`},
		{begin2 + strings.Repeat("\x00", 53), `"\r\n\r\n\x00\r\nQUIT\n` + strings.Repeat(`\x00`, 52) + `"...`},
	} {
		if got := Quote([]byte(tt.b)); got != tt.want {
			t.Errorf("Quote(%q) is %s, want %s", tt.b, got, tt.want)
		}
	}
	if _, _, err := Parse([]byte("PROXY TCP6 ::1 x")); err == nil ||
		err.Error() != `malformed PROXY header: destination is "x", want an IP address: "PROXY TCP6 ::1 x"` {
		t.Errorf("error %v", err)
	}
}

// completable reports whether some bytes after b make b a valid header.
func completable(b []byte) bool {
	if startsLike(b, begin2) && !startsLike(b, begin1) {
		return completable2(b)
	}
	for _, end := range append(completions[2], completions[0]...) {
		for _, line := range []string{" ::1 ::1 0 0\r\n", " 1.1.1.1 :: 0 0\r\n"} {
			for from := range len(line) {
				if _, size, err := Parse([]byte(string(b) + end + line[from:])); err == nil && size > 0 {
					return true
				}
			}
		}
	}
	_, size, err := Parse([]byte(begin1 + "UNKNOWN\r\n"))
	return len(b) < len(begin1) && startsLike(b, begin1) && err == nil && size > 0
}

// completable2 is completable for version 2. Zeros are valid TLVs; a wrong checksum counts as completable.
func completable2(b []byte) bool {
	all := append(bytes.Clone(b), []byte(begin2 + "\x21\x11\x00\x0c")[min(len(b), fixed2):]...)
	switch { // make the length large enough for every family
	case len(b) == 14:
		all[15] = 0xfc
	case len(b) == 15 && b[14] == 0:
		all[15] = 0xfc
	case len(b) == 15:
		all[15] = 0
	}
	size := fixed2 + int(binary.BigEndian.Uint16(all[14:]))
	for _, more := range []string{"", "\x04", "\x00\x04"} { // the length of a checksum
		more += strings.Repeat("\x00", max(size-len(all), 0))
		_, _, err := Parse(append(bytes.Clone(all), more...))
		if err == nil || strings.Contains(err.Error(), "the checksum is") || strings.Contains(err.Error(), "after the last TLV") {
			return true
		}
	}
	return false
}

// Further bytes never contradict what Parse has said of the beginning, and Parse never waits for what cannot become a header.
func FuzzParse(f *testing.F) {
	for _, tt := range whole {
		f.Add([]byte(tt.header+"more"), 7)
	}
	f.Add([]byte("PROXY TCP4 1.2.3.4"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		h, size, err := Parse(b)
		if size < 0 || size > len(b) || size > MaxSize || err != nil && (size != 0 || h != (Header{}) || !errors.Is(err, ErrMalformed)) {
			t.Fatalf("%d of %d bytes, %v", size, len(b), err)
		}
		if size == 0 && err == nil && len(b) >= MaxSize {
			t.Fatalf("undecided after %d bytes", len(b))
		}
		if size == 0 && err == nil && !completable(b) {
			t.Fatalf("Parse waits for more bytes after %q, which cannot become a header", b)
		}
		if h.Destination.IsValid() && !h.Source.IsValid() || h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" {
			t.Fatalf("addresses %v and %v", h.Source, h.Destination)
		}
		cut = min(max(cut, 0), len(b))
		first, n, e := Parse(b[:cut])
		switch {
		case e != nil && err == nil:
			t.Fatalf("%d bytes are malformed (%v), %d are not", cut, e, len(b))
		case n > 0 && (n != size || first != h):
			t.Fatalf("%d bytes: a header of %d, %d bytes: of %d", cut, n, len(b), size)
		case size > 0 && cut >= size && n != size:
			t.Fatalf("Parse of %d bytes returns no header, though they hold one of %d bytes", cut, size)
		}
	})
}

// Parse returns the addresses that a sender has written, in both versions.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{5, 6, 7, 8}, uint16(9), uint16(10), []byte("tlv"))
	f.Add(six[:16], six[16:32], uint16(0), uint16(65535), []byte(nil))
	f.Fuzz(func(t *testing.T, src, dst []byte, sport, dport uint16, value []byte) {
		a, ok := netip.AddrFromSlice(src)
		b, ok2 := netip.AddrFromSlice(dst)
		if !ok || !ok2 || a.Is4() != b.Is4() || len(value) > 1000 {
			return
		}
		source, destination := netip.AddrPortFrom(a, sport), netip.AddrPortFrom(b, dport)
		want := Header{netip.AddrPortFrom(a.Unmap(), sport), netip.AddrPortFrom(b.Unmap(), dport)}
		kind, family := "TCP6", byte(0x21)
		if a.Is4() {
			kind, family = "TCP4", 0x11
		}
		line := strings.Join([]string{"PROXY", kind, a.String(), b.String(), portText(sport), portText(dport)}, " ") + "\r\n"
		addresses := binary.BigEndian.AppendUint16(append(a.AsSlice(), b.AsSlice()...), source.Port())
		addresses = binary.BigEndian.AppendUint16(addresses, destination.Port())
		for _, header := range []string{line, summed(proxied, family, addresses, tlv(0xe0, string(value)))} {
			h, size, err := Parse([]byte(header))
			if err != nil || size != len(header) || h != want {
				t.Fatalf("%q: %+v, %d, %v, want %+v, %d", header, h, size, err, want, len(header))
			}
		}
	})
}

func portText(p uint16) string {
	_, port, _ := strings.Cut(netip.AddrPortFrom(netip.IPv4Unspecified(), p).String(), ":")
	return port
}
