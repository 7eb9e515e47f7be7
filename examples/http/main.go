// Command http is a server that says hello by HTTP/1.1: keep-alive, pipelining, bounded requests, and a time by which a request must be
// whole. It shows how a protocol sits on the engine; for a web server take net/http.
//
//	go run ./examples/http
//	curl -i localhost:8080
//	wrk -c 100 -t 2 -d 10s http://localhost:8080/
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// visitor is one connection. Its packets are whole requests, their bodies included: the listener's framer is requests. The answers to
// requests that came together leave in one write.
type visitor struct {
	session.Session
	patience time.Duration
	since    time.Time // when it connected, or its last request was whole
	in       bytes.Reader
	buffered *bufio.Reader
	reply    []byte
}

func (v *visitor) OnConnected(net.Addr) {
	v.since = time.Now()
	v.AfterFunc(v.patience, v.check)
}

// check ends who has let too much time pass since its last request: idle, or a byte now and then, is the same.
func (v *visitor) check() {
	left := v.patience - time.Since(v.since)
	if left > 0 {
		v.AfterFunc(left, v.check)
		return
	}
	v.answer(http.StatusRequestTimeout, "too slow\n", true, false)
}

func (v *visitor) OnRecv(request []byte) {
	v.since = time.Now()
	v.in.Reset(request)
	v.buffered.Reset(&v.in)
	r, err := http.ReadRequest(v.buffered)
	switch {
	case len(request) >= maxRequest:
		v.answer(http.StatusRequestEntityTooLarge, "the request is too long\n", true, false)
	case err != nil:
		v.answer(http.StatusBadRequest, "that is no request\n", true, false)
	case len(r.TransferEncoding) > 0: // the framer would have to know its chunks
		v.answer(http.StatusNotImplemented, "no transfer encodings here\n", true, false)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		v.answer(http.StatusMethodNotAllowed, "GET or HEAD\n", r.Close, false)
	default:
		v.answer(http.StatusOK, "Hello, World!\n", r.Close, r.Method == http.MethodHead)
	}
}

// answer sends a response. The last one is followed by the end.
func (v *visitor) answer(status int, body string, last, headOnly bool) {
	v.reply = fmt.Appendf(v.reply[:0], "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n", status,
		http.StatusText(status), len(body))
	connection := "keep-alive" // clients of HTTP/1.0 want to hear it
	if last {
		connection = "close"
	}
	v.reply = append(v.reply, "Connection: "+connection+"\r\n"...)
	v.reply = append(v.reply, "\r\n"...)
	if !headOnly {
		v.reply = append(v.reply, body...)
	}
	if v.Send(v.reply) != nil || last {
		v.Disconnect() // what was sent before still arrives
	}
}

// maxRequest bounds a request, its body included, in bytes.
const maxRequest = 64 << 10

// requests is a frame.Framer: it cuts the stream into requests.
type requests struct{}

// Split finds the first request. What is none, or is too long, is a packet as well: OnRecv answers it and hangs up.
func (r requests) Split(data []byte) (packet []byte, n int, err error) { return r.SplitFrom(data, 0) }

// SplitFrom is Split where there was no whole request in the first bytes; their headers may be whole, and the body not.
func (requests) SplitFrom(data []byte, scanned int) (packet []byte, n int, err error) {
	const end = "\r\n\r\n"
	head := bytes.Index(data[max(0, scanned-len(end)+1):], []byte(end))
	switch {
	case head >= 0:
		head += max(0, scanned-len(end)+1)
	case scanned >= len(end): // whole before?
		head = bytes.Index(data, []byte(end))
	}
	if n = len(data); head >= 0 {
		n = head + len(end) + length(data[:head+len(end)])
	}
	switch {
	case n > maxRequest || len(data) >= maxRequest:
		n = min(len(data), maxRequest)
	case head < 0 || n > len(data):
		return nil, 0, nil
	}
	return data[:n:n], n, nil
}

// length returns the length of the body that a head announces, 0 if it does not do so properly: then it is not answered by more
// than an error.
func length(head []byte) int {
	if !bytes.Contains(bytes.ToLower(head), []byte("content-length")) {
		return 0
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil || r.ContentLength < 0 {
		return 0
	}
	_ = r.Body.Close()
	return int(min(r.ContentLength, maxRequest))
}

// Append sends answers as they are.
func (requests) Append(dst, payload []byte) ([]byte, error) { return append(dst, payload...), nil }

func serve(addr string, patience time.Duration) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	l, err := e.Listen("tcp", addr, func() session.Handler {
		return &visitor{patience: patience, buffered: bufio.NewReaderSize(nil, 16)}
	}, engine.Framed(requests{}))
	return e, l, err
}

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	patience := flag.Duration("patience", 10*time.Second, "time a client has for each request, from its last one on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, _, err := serve(*addr, *patience)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("http on %s", *addr)
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
