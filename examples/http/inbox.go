package main

import (
	"bufio"
	"bytes"
	"net/http"
	"sync"
)

// Limits of a request, in bytes.
const (
	maxHead = 16 << 10
	maxBody = 1 << 20
)

// inbox splits the stream of a client into requests. It is not a frame.Framer, because a framer keeps no state and would have to parse
// the head again for every piece of a body. An inbox looks at each byte once, and does not keep bodies.
type inbox struct {
	head []byte // an incomplete head
	body int64  // bytes of the last request's body that have not arrived
}

// between reports whether the client is between two requests.
func (b *inbox) between() bool { return len(b.head) == 0 && b.body == 0 }

var headEnd = []byte("\r\n\r\n")

// next takes n bytes of data. It returns a request if its head ends with these bytes. refused is the HTTP status for a request that ends
// the connection, 0 for any other.
func (b *inbox) next(data []byte) (r *http.Request, n, refused int) {
	if b.body > 0 {
		n = int(min(b.body, int64(len(data))))
		b.body -= int64(n)
		return nil, n, 0
	}
	had := len(b.head)
	head := data
	if had > 0 {
		b.head = append(b.head, data[:min(len(data), maxHead-had)]...)
		head = b.head
	}
	from := max(0, had-len(headEnd)+1)
	end := bytes.Index(head[from:min(len(head), maxHead)], headEnd)
	switch {
	case end >= 0:
		end += from + len(headEnd)
	case len(head) >= maxHead:
		return nil, len(data), http.StatusRequestHeaderFieldsTooLarge
	case had == 0:
		b.head = append(b.head, data...)
		return nil, len(data), 0
	default:
		return nil, len(data), 0
	}
	r, refused = parse(head[:end])
	b.head = nil
	if refused == 0 {
		b.body = r.ContentLength
	}
	return r, end - had, refused
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

// parse parses a head.
func parse(head []byte) (r *http.Request, refused int) {
	buffered := readers.Get().(*bufio.Reader)
	defer readers.Put(buffered)
	buffered.Reset(bytes.NewReader(head))
	r, err := http.ReadRequest(buffered)
	switch {
	case err != nil:
		return nil, http.StatusBadRequest
	case r.ProtoMajor != 1:
		return nil, http.StatusHTTPVersionNotSupported
	case len(r.TransferEncoding) > 0: // chunked bodies are not supported
		return nil, http.StatusNotImplemented
	case r.ContentLength > maxBody:
		return nil, http.StatusRequestEntityTooLarge
	}
	return r, 0
}
