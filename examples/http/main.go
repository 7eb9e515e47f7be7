// Command http is a server that says hello by HTTP/1.1: keep-alive, pipelining, bounded requests, and a time by which a request must be
// whole. It shows how a protocol sits on the engine; for a web server take net/http.
//
//	go run ./examples/http
//	curl -i localhost:8080
//	wrk -c 100 -t 2 -d 10s http://localhost:8080/
package main

import (
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

// visitor is one connection. The answers to requests that came together leave in one write, in the order of the requests.
type visitor struct {
	session.Session
	inbox
	patience time.Duration
	since    time.Time // when it connected, or its last request was whole
	over     bool      // its last answer was given
	reply    []byte
}

func (v *visitor) OnConnected(net.Addr) {
	v.since = time.Now()
	v.AfterFunc(v.patience, v.check)
}

// check ends who has let too much time pass since its last request: a byte now and then, which satisfies IdleTimeout, does not
// help. One timer per session is enough: it is not moved with each request, but finds out how much time is left when it is due.
func (v *visitor) check() {
	left := v.patience - time.Since(v.since)
	switch {
	case left > 0:
		v.AfterFunc(left, v.check)
	case v.between():
		v.Disconnect()
	default:
		v.answer(http.StatusRequestTimeout, "too slow\n", true, false)
	}
}

// OnRecv brings 64 KiB at the most. What they ask for is seven times as much at the most, for which there is room between PauseAbove and
// SendLimit.
func (v *visitor) OnRecv(data []byte) {
	for len(data) > 0 && !v.over {
		r, n, refused := v.next(data)
		data = data[n:]
		switch {
		case refused != 0:
			v.answer(refused, http.StatusText(refused)+"\n", true, false)
		case r == nil:
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			v.answer(http.StatusMethodNotAllowed, "GET or HEAD\n", r.Close, false)
		default:
			v.answer(http.StatusOK, "Hello, World!\n", r.Close, r.Method == http.MethodHead)
		}
		if v.between() {
			v.since = time.Now()
		}
	}
}

// answer sends a response. The last one is followed by the end.
func (v *visitor) answer(status int, body string, last, headOnly bool) {
	connection := "keep-alive" // clients of HTTP/1.0 want to hear it
	if last {
		connection = "close"
	}
	v.reply = fmt.Appendf(v.reply[:0], "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n",
		status, http.StatusText(status), len(body), connection)
	if !headOnly {
		v.reply = append(v.reply, body...)
	}
	if v.Send(v.reply) != nil || last {
		v.over = true
		v.Disconnect() // what was sent before still arrives
	}
}

func serve(addr string, patience time.Duration) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	l, err := e.Listen("tcp", addr, func() session.Handler { return &visitor{patience: patience} })
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
