package guide_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

var errKicked = errors.New("kicked")

// guarded ends the connection of a client that is rude, in order: the last words arrive.
type guarded struct{ session.Session }

func (g *guarded) OnRecv(data []byte) {
	if string(data) == "rude\n" {
		g.Send([]byte("good bye\n"))
		g.DisconnectWith(errKicked) // Disconnect, with a reason for the log
	}
}

func (g *guarded) OnDisconnected(net.Addr) {
	switch err := g.Err(); {
	case errors.Is(err, errKicked):
		fmt.Println("kicked")
	case errors.Is(err, session.ErrPeerClosed):
		fmt.Println("the client has finished")
	default:
		fmt.Println("ended:", err)
	}
}

func Example_ending() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(guarded) }))
	must(e.Start())

	fmt.Println(ask(l.Addr(), "rude"))
	stop(e)
	// Unordered output:
	// good bye
	// kicked
}

// stop gives every session ten seconds to end in order.
func stop(e *engine.Engine) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		fmt.Println("some sessions were aborted:", err)
	}
}

// upload counts what a client sends, and answers when the client has finished.
type upload struct {
	session.Session
	size int
}

func (u *upload) OnRecv(data []byte) { u.size += len(data) }

func (u *upload) OnHalfClose() { // the client's FIN; without this method the session would end here
	u.Send(fmt.Appendf(nil, "%d bytes", u.size))
	u.Disconnect()
}

func Example_halfClose() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(upload) }))
	must(e.Start())
	defer e.Close()

	c := value(net.Dial("tcp", l.Addr().String())).(*net.TCPConn)
	defer c.Close()
	c.Write(make([]byte, 1000))
	c.CloseWrite()
	fmt.Println(string(value(io.ReadAll(c))))
	// Output: 1000 bytes
}
