package websocket

import (
	"bufio"
	"net/http"
	"sync/atomic"
)

// asked is the request of an upgrade that was accepted. A parsed request has some 1.5 KB, most of which is its header's map, and few applications
// look at it after the upgrade: so what is kept is the header as it came, which is parsed again for the first caller of Layer.Request.
type asked struct {
	head    string // with the empty line; "" if the request was there from the beginning
	request atomic.Pointer[http.Request]
}

// get returns the request, the same each time. Any goroutine.
func (a *asked) get(prepare func(*http.Request)) *http.Request {
	if r := a.request.Load(); r != nil {
		return r
	}
	r, err := parseRequest([]byte(a.head))
	if err != nil { // it was parsed before
		return nil
	}
	if prepare != nil {
		prepare(r)
	}
	a.request.CompareAndSwap(nil, r)
	return a.request.Load()
}

// parseRequest returns the request that begins with head. Its body is empty: the bytes of a body are not here.
func parseRequest(head []byte) (r *http.Request, err error) {
	err = readHead(head, func(b *bufio.Reader) (err error) {
		r, err = http.ReadRequest(b)
		return err
	})
	if err == nil {
		r.Body = http.NoBody // b is not r's
	}
	return r, err
}
