package websocket

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/servercore-go/servercore/pool"
)

// maxHead is the most bytes of a request's or an answer's header. net/http's default is 1 MiB: a handshake is held before anybody is known.
const maxHead = 16 << 10

// handshake is what a layer has until the upgrade is done and its own bytes are out.
type handshake struct {
	head    *pool.Buffer        // what has come of the header, nil if nothing
	out     []byte              // what Own is to bring
	prepare func(*http.Request) // before Options.Check
	dial    *dial               // a client's, nil for a server's

	notUpgrade *http.Request // of a request that is not an upgrade, with the bytes it was read from
	raw        []byte
}

func (h *handshake) drop() {
	if h.head != nil {
		h.head.Release()
		h.head = nil
	}
}

// collect returns the header once it is complete, with the empty line at its end, and how much of in belongs to it. The header is valid
// until drop.
func (h *handshake) collect(in []byte) (head []byte, used int, ok bool) {
	if h.head == nil {
		if n := headEnd(in, 0); n > 0 {
			return in[:n], n, true
		}
	}
	had := 0
	if h.head != nil {
		had = len(h.head.B)
	}
	used = min(len(in), maxHead+1-had) // a byte more tells that it is too long
	h.head = grow(h.head, had+used, maxHead+1)
	h.head.B = append(h.head.B, in[:used]...)
	if n := headEnd(h.head.B, max(0, had-3)); n > 0 {
		return h.head.B[:n], n - had, true
	}
	return h.head.B, used, false
}

// headEnd returns the length of the header in b, 0 if the empty line at its end has not come. It looks from that byte on. Lines end with
// LF, or CR and LF, as net/http takes them.
func headEnd(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			return 0
		}
		switch i += next; {
		case i+1 < len(b) && b[i+1] == '\n':
			return i + 2
		case i+2 < len(b) && b[i+1] == '\r' && b[i+2] == '\n':
			return i + 3
		}
	}
	return 0
}

// headReader lets net/http read a header.
type headReader struct {
	bytes    bytes.Reader
	buffered *bufio.Reader
}

var headReaders = sync.Pool{New: func() any {
	return &headReader{buffered: bufio.NewReaderSize(nil, pool.Page)}
}}

// readHead calls read with a reader of head.
func readHead(head []byte, read func(*bufio.Reader) error) error {
	r := headReaders.Get().(*headReader)
	defer headReaders.Put(r)
	r.bytes.Reset(head)
	r.buffered.Reset(&r.bytes)
	err := read(r.buffered)
	r.bytes.Reset(nil)
	r.buffered.Reset(nil)
	return err
}

// openHandshake takes a part of the header. It leaves what stands behind it.
func (l *Layer) openHandshake(in []byte) (used int, err error) {
	h := l.handshake
	head, used, complete := h.collect(in)
	switch {
	case h.dial != nil:
		if complete || len(head) > maxHead || !startsLikeHTTP(head) {
			err = l.openAnswer(head, complete)
		}
	case len(head) > maxHead && l.config.PassHTTP && head[0] >= 'A' && head[0] <= 'Z': // no upgrade is so long; net/http has a bound of its own
		h.raw = bytes.Clone(head)
		err = ErrNotUpgrade
	case len(head) > maxHead:
		err = l.refuse(refusef(http.StatusRequestHeaderFieldsTooLarge, "the header has more than %d bytes", maxHead))
	case len(head) > 0 && (head[0] < 'A' || head[0] > 'Z'): // TLS, or anything else: it will not become HTTP
		err = l.refuse(refusef(http.StatusBadRequest, "this is not HTTP/1.1"))
	case complete:
		err = l.openRequest(head)
	default:
		return used, nil
	}
	if err != nil || complete {
		h.drop()
	}
	return used, err
}

// openRequest answers a request.
func (l *Layer) openRequest(head []byte) error {
	r, err := parseRequest(head)
	if err != nil { // also for two Hosts
		return l.refuse(refusef(http.StatusBadRequest, "the request is malformed: %v", err))
	}
	if l.config.PassHTTP && !isUpgrade(r, l.config.Path) {
		l.handshake.notUpgrade, l.handshake.raw = r, bytes.Clone(head)
		return ErrNotUpgrade
	}
	if prepare := l.handshake.prepare; prepare != nil && l.config.Check != nil {
		prepare(r)
	}
	if refused := l.accept(r); refused != nil {
		return l.refuse(refused)
	}
	if l.config.Check == nil { // nobody has seen r
		l.asked = &asked{head: string(head)}
	}
	return nil
}

// NotUpgrade returns the request of a connection that Open has refused with ErrNotUpgrade, and the bytes it came in: a server of HTTP must
// be given them before what is still to be read. The request's body is empty. Of a header with more than 16 KiB r is nil, and buffered is
// its beginning.
func (l *Layer) NotUpgrade() (r *http.Request, buffered []byte, ok bool) {
	if l.handshake == nil || l.handshake.raw == nil {
		return nil, nil, false
	}
	return l.handshake.notUpgrade, l.handshake.raw, true
}

// refusal is an answer that is not 101.
type refusal struct {
	status int
	text   string
	header http.Header
	cause  error // of Options.Check
}

func refusef(status int, format string, args ...any) *refusal {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

func (r *refusal) err() error {
	return &HandshakeError{Status: r.status, Text: r.text, Header: r.header, Err: r.cause}
}

// refuse makes the refusal due. The connection ends behind it.
func (l *Layer) refuse(r *refusal) error {
	text := r.text + "\n"
	var lines strings.Builder
	r.header.Write(&lines) // a Builder takes everything
	l.handshake.out = fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", r.status, http.StatusText(r.status), lines.String(), len(text), text)
	l.due |= dueHandshake
	return r.err()
}

var _ io.ByteReader = (*input)(nil) // without it, flate reads ahead
