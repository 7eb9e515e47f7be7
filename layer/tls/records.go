package tls

import (
	"bytes"

	"github.com/servercore-go/servercore/pool"
)

// Sizes of the record layer, in bytes (RFC 8446 section 5.1, RFC 5246 section 6.2.3).
const (
	headerSize = 5
	maxPlain   = 16 << 10
	maxPayload = 16<<10 + 2<<10 // of a TLS 1.2 record, the longest; of TLS 1.3 it is 16 KiB + 256
	maxRecord  = headerSize + maxPayload
)

// The types of records and of the one handshake message that are looked at.
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeClientHello = 1
)

// maxHello is the longest ClientHello that crypto/tls takes, without its header of 4 bytes.
const maxHello = 64 << 10

// What a client may send in its handshake, in bytes: a ClientHello (64 KiB at most, twice if the server asks for another key), its last flight,
// and the headers of records. crypto/tls would buffer a certificate of 256 KiB also from a client that was not asked for one.
const (
	mostInput           = 160 << 10
	mostWithCertificate = mostInput + 320<<10
)

// records finds the borders of records in a stream that comes in pieces. The zero value stands at a border.
type records struct {
	header [headerSize]byte
	got    int8 // bytes of the header that were seen; 0 at a border
	left   int  // bytes of the payload that are missing, once the header is whole
}

// next takes bytes of the header, or bytes of the payload, and returns their number. end: the record is whole.
func (r *records) next(b []byte) (n int, payload, end bool) {
	if r.got < headerSize {
		n = copy(r.header[r.got:], b)
		r.got += int8(n)
		if r.got < headerSize {
			return n, false, false
		}
		r.left = int(r.header[3])<<8 | int(r.header[4])
	} else {
		n, payload = min(r.left, len(b)), true
		r.left -= n
	}
	if end = r.left == 0; end {
		r.got = 0
	}
	return n, payload, end
}

// valid reports whether crypto/tls will wait for the payload of the record under way. It refuses others by their header.
func (r *records) valid() bool { return r.got < headerSize || r.header[1] == 3 && r.left <= maxPayload }

// pass goes over b. It returns how many records became whole, and counts one that is not valid as whole: crypto/tls has to see it.
func (r *records) pass(b []byte) (whole int) {
	for len(b) > 0 {
		n, _, end := r.next(b)
		if b = b[n:]; end || !r.valid() {
			whole++
		}
	}
	return whole
}

// take copies bytes of src to p. It copies whole records, at most the given number, or as much as fits of the first one. So the buffer of
// crypto/tls that p is a part of holds no beginning of a record behind a whole one: it drains, and need not grow for the rest.
func (r *records) take(p, src []byte, most int) (n, whole int) {
	src = src[:min(len(p), len(src))]
	if r.got == 0 { // the same as below, without the bookkeeping
		for whole < most && len(src) >= n+headerSize {
			end := n + headerSize + int(src[n+3])<<8 + int(src[n+4])
			if end > len(src) {
				break
			}
			n = end
			whole++
		}
		if whole > 0 {
			return copy(p, src[:n]), whole
		}
	}
	w := *r
	for at := 0; at < len(src) && whole < most; {
		k, _, end := w.next(src[at:])
		at += k
		if end {
			n = at
			whole++
		}
	}
	if whole == 0 {
		n, *r = len(src), w
	} else {
		*r = records{}
	}
	copy(p, src[:n])
	return n, whole
}

// pieceSize is the most that crypto/tls reads without a larger buffer: it asks for a header, and for bytes.MinRead more (conn.go,
// readFromUntil).
const pieceSize = bytes.MinRead

// splitHello cuts the whole record of a ClientHello into several (RFC 8446 section 5.1 allows that), equal and a power of two in number.
// crypto/tls keeps two buffers for as long as the connection lives: one as large as the largest record, one for handshake messages that
// doubles as it grows. The first one stays at its least, the second one becomes as large as the message. It saves 1.5 to 2 KB per session.
// b is released if another buffer is returned.
func splitHello(b *pool.Buffer) *pool.Buffer {
	size := int(b.B[3])<<8 | int(b.B[4])
	if b.B[0] != typeHandshake || size > maxPlain || len(b.B) < headerSize+size {
		return b
	}
	pieces := 1
	for size > pieces*pieceSize {
		pieces *= 2
	}
	if pieces == 1 {
		return b
	}
	version, payload, rest := b.B[1:3], b.B[headerSize:headerSize+size], b.B[headerSize+size:]
	split := pool.GetSize(len(b.B) + pieces*headerSize)
	for most := (size + pieces - 1) / pieces; len(payload) > 0; {
		n := min(most, len(payload))
		split.B = append(split.B, typeHandshake, version[0], version[1], byte(n>>8), byte(n))
		split.B = append(split.B, payload[:n]...)
		payload = payload[n:]
	}
	split.B = append(split.B, rest...)
	b.Release()
	return split
}

// hello finds the end of a ClientHello in the records that carry it, or the reason why none will come.
type hello struct {
	records records
	prefix  [4]byte // of the message: its type and length
	have    int     // bytes of the message so far
}

// pass goes over b, and reports whether crypto/tls has work to do: the message is whole, or it will be refused.
func (h *hello) pass(b []byte) (due bool) {
	r := &h.records
	for len(b) > 0 {
		n, payload, end := r.next(b)
		if payload {
			if h.have < len(h.prefix) {
				copy(h.prefix[h.have:], b[:n])
			}
			h.have += n
		} else if r.got == headerSize && (r.header[0] != typeHandshake || !r.valid()) {
			return true
		}
		if b = b[n:]; end && (!payload || h.isWhole()) { // crypto/tls refuses an empty record
			r.pass(b)
			return true
		}
	}
	return false
}

func (h *hello) isWhole() bool {
	if h.have < len(h.prefix) {
		return false
	}
	size := int(h.prefix[1])<<16 | int(h.prefix[2])<<8 | int(h.prefix[3])
	return h.prefix[0] != typeClientHello || size > maxHello || h.have >= len(h.prefix)+size
}
