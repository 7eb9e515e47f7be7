// Command http is an HTTP/1.1 server with one answer. It has keep-alive, pipelining, limits for requests, and a time limit until a
// request is complete. It shows how to implement a protocol on the engine; for a web server use net/http.
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

// client is one connection. The answers to requests that arrive together leave in one write, in the order of the requests.
type client struct {
	session.Session
	inbox
	patience time.Duration
	since    time.Time // time of the connect, or of the last complete request
	over     bool      // the last answer was sent
	reply    []byte
}

func (c *client) OnConnected(net.Addr) {
	c.since = time.Now()
	c.AfterFunc(c.patience, c.check)
}

// check ends the session if its last request is too long ago. IdleTimeout alone would not end a client that sends a byte now and then.
// One timer per session is enough: it is not moved with each request; when it fires, check finds out how much time is left.
func (c *client) check() {
	left := c.patience - time.Since(c.since)
	switch {
	case left > 0:
		c.AfterFunc(left, c.check)
	case c.between():
		c.Disconnect()
	default:
		c.answer(http.StatusRequestTimeout, "too slow\n", true, false)
	}
}

// OnRecv brings 64 KiB at most. Their answers have seven times as many bytes at most, for which there is room between PauseAbove and
// SendLimit.
func (c *client) OnRecv(data []byte) {
	for len(data) > 0 && !c.over {
		r, n, refused := c.next(data)
		data = data[n:]
		switch {
		case refused != 0:
			c.answer(refused, http.StatusText(refused)+"\n", true, false)
		case r == nil:
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			c.answer(http.StatusMethodNotAllowed, "GET or HEAD\n", r.Close, false)
		default:
			c.answer(http.StatusOK, "Hello, World!\n", r.Close, r.Method == http.MethodHead)
		}
		if c.between() {
			c.since = time.Now()
		}
	}
}

// answer sends a response. After the last one it disconnects.
func (c *client) answer(status int, body string, last, headOnly bool) {
	connection := "keep-alive" // HTTP/1.0 clients need the header
	if last {
		connection = "close"
	}
	c.reply = fmt.Appendf(c.reply[:0], "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n",
		status, http.StatusText(status), len(body), connection)
	if !headOnly {
		c.reply = append(c.reply, body...)
	}
	if c.Send(c.reply) != nil || last {
		c.over = true
		c.Disconnect() // what was sent before still arrives
	}
}

func serve(addr string, patience time.Duration) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	l, err := e.Listen("tcp", addr, func() session.Handler { return &client{patience: patience} })
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
