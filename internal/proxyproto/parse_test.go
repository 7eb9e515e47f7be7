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

// v2 makes a header of version 2 by hand.
func v2(command, family byte, body ...[]byte) string {
	all := bytes.Join(body, nil)
	b := append([]byte(begin2), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(all))), all...))
}

func tlv(kind byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	return append(b, value...)
}

// summed is v2 with a checksum before what else follows the addresses.
func summed(family byte, addresses []byte, after []byte) string {
	b := []byte(v2(proxied, family, addresses, tlv(typeCRC32C, "\x00\x00\x00\x00"), after))
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
	{"v1 unknown", "PROXY UNKNOWN\r\n", "", ""},
	{"v1 unknown, more", "PROXY UNKNOWN " + strings.Repeat("f", maxLine-16) + "\r\n", "", ""},
	{"v2 tcp4", v2(proxied, 0x11, four), "192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 tcp6", v2(proxied, 0x21, six), "[2001:db8::1]:65535", "[2001:db8::2]:1"},
	{"v2 TLVs", v2(proxied, 0x11, four, tlv(1, "h2"), tlv(2, "example.org"), tlv(4, ""), tlv(0xea, "\x01vpce")),
		"192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 largest", v2(proxied, 0x11, four, tlv(4, strings.Repeat("x", MaxSize-fixed2-len(four)-3))), "192.0.2.1:12345", "198.51.100.2:80"},
	{"v2 checksum", summed(0x21, six, tlv(5, "id")), "[2001:db8::1]:65535", "[2001:db8::2]:1"},
	{"v2 local", v2(local, 0x11, four), "", ""},
	{"v2 local, nonsense", v2(local, 0xff, []byte("anything")), "", ""},
	{"v2 unspec", v2(proxied, 0), "", ""},
	{"v2 unix", v2(proxied, 0x31, make([]byte, 216)), "", ""},
	{"v2 udp", v2(proxied, 0x12, four), "", ""},
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// However the pieces of a header come, it is whole at its last byte, and what follows is not looked at.
func TestWholeHeaders(t *testing.T) {
	for _, tt := range whole {
		all := tt.header + "GET / HTTP/1.1\r\n\r\n"
		for n := range len(all) + 1 {
			h, size, err := Parse([]byte(all[:n]))
			want := Header{}
			switch {
			case err != nil:
				t.Errorf("%s: %d bytes: %v", tt.name, n, err)
			case n < len(tt.header):
				if size != 0 || h != want {
					t.Errorf("%s: %d of %d bytes are taken for a header of %d", tt.name, n, len(tt.header), size)
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

func TestMalformedHeaders(t *testing.T) {
	long := v2(proxied, 0x11, four, make([]byte, MaxSize))
	for name, header := range map[string]string{
		"another protocol":     "G",
		"nearly":               "PROXX",
		"v1 lower case":        "proxy TCP4",
		"v1 protocol":          "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
		"v1 no protocol":       "PROXY \r\n",
		"v1 families differ":   "PROXY TCP4 ::1 ::1 1 1\r\n",
		"v1 TCP6 with IPv4":    "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
		"v1 zone":              "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
		"v1 leading zero":      "PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n",
		"v1 port":              "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
		"v1 port with zeroes":  "PROXY TCP4 1.2.3.4 1.2.3.4 1 01\r\n",
		"v1 port with sign":    "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
		"v1 two spaces":        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
		"v1 too few":           "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
		"v1 too many":          "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
		"v1 too long":          "PROXY UNKNOWN " + strings.Repeat("f", maxLine-15) + "\r\n",
		"v1 without end":       "PROXY " + strings.Repeat("x", maxLine),
		"v2 version":           begin2 + "\x11",
		"v2 command":           begin2 + "\x22",
		"v2 family":            v2(proxied, 0x41)[:fixed2],
		"v2 transport":         v2(proxied, 0x13)[:fixed2],
		"v2 short":             v2(proxied, 0x21, four)[:fixed2],
		"v2 too long":          long[:fixed2],
		"v2 local too long":    v2(local, 0, make([]byte, MaxSize))[:fixed2],
		"v2 piece of a TLV":    v2(proxied, 0x11, four, []byte{1, 0}),
		"v2 TLV too long":      v2(proxied, 0x11, four, []byte{1, 0, 2, 'x'}),
		"v2 size of checksum":  v2(proxied, 0x11, four, tlv(3, "abc")),
		"v2 wrong checksum":    v2(proxied, 0x11, four, tlv(3, "abcd")),
		"v2 signature cut off": begin2[:11] + "x",
	} {
		if h, size, err := Parse([]byte(header)); !errors.Is(err, ErrMalformed) || size != 0 || h != (Header{}) {
			t.Errorf("%s: %+v, %d bytes, error %v, want ErrMalformed", name, h, size, err)
		}
	}
}

// Parse of a piece never says anything that more bytes contradict, and never more than the bytes hold.
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
		if h.Source.IsValid() != h.Destination.IsValid() || h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" {
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
			t.Fatalf("%d bytes hold a header of %d and are not taken for one", cut, size)
		}
	})
}

// What a sender may write is read as it was meant, in both versions.
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
		for _, header := range []string{line, summed(family, addresses, tlv(0xe0, string(value)))} {
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
