package main

import (
	"bufio"
	"bytes"
	"net/http"
	"sync"
)

// The bounds of a request, in bytes.
const (
	maxHead = 16 << 10
	maxBody = 1 << 20
)

// inbox cuts what a client sends into requests. It is no frame.Framer, which remembers nothing: then where a head ends, and how
// long a body is, would have to be found out again with every piece of a body. Here nothing is looked at twice, and bodies are
// not kept.
type inbox struct {
	head []byte // the beginning of a head
	body int64  // bytes of the last request's body that are still to come
}

// between reports whether the client is between two requests.
func (b *inbox) between() bool { return len(b.head) == 0 && b.body == 0 }

var headEnd = []byte("\r\n\r\n")

// next takes n bytes of data, and returns the request whose head ends with them, if one does. refused is the status of one that
// must not be followed by another, 0 otherwise.
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

// parse reads a head.
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
	case len(r.TransferEncoding) > 0: // chunks would have to be followed to their end
		return nil, http.StatusNotImplemented
	case r.ContentLength > maxBody:
		return nil, http.StatusRequestEntityTooLarge
	}
	return r, 0
}
