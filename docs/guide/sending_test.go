package guide_test

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

const highWater = 256 << 10

// download sends a large file and holds little more than highWater of it in its queue.
type download struct {
	session.Session
	rest []byte
}

func (d *download) OnConnected(net.Addr) { d.more() }

func (d *download) OnWritable(writable bool) {
	if writable { // the queue has fallen below LowWater
		d.more()
	}
}

func (d *download) more() {
	for len(d.rest) > 0 && d.Pending() <= highWater {
		n := min(len(d.rest), 16<<10)
		if d.Send(d.rest[:n]) != nil {
			return // the session is ending
		}
		d.rest = d.rest[n:]
	}
	if len(d.rest) == 0 {
		d.Disconnect() // after everything that was sent
	}
}

func Example_onWritable() {
	file := make([]byte, 8<<20)
	e := value(engine.New(engine.Options{HighWater: highWater}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &download{rest: file} }))
	must(e.Start())
	defer e.Close()

	c := value(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	fmt.Println(io.Copy(io.Discard, c))
	// Output: 8388608 <nil>
}

func Example_sendLimit() {
	e := value(engine.New(engine.Options{SendLimit: 64 << 10}))
	connected := make(chan *session.Session)
	events := session.Events{OnConnected: func(s *session.Session, _ net.Addr) { connected <- s }}
	l := value(e.Listen("tcp", "127.0.0.1:0", events.Factory()))
	must(e.Start())
	defer e.Close()
	c := value(net.Dial("tcp", l.Addr().String())) // and reads nothing
	defer c.Close()
	s := <-connected

	message := make([]byte, 32<<10)
	var err error
	for err == nil {
		err = s.Send(message) // from a goroutine that is not the session's: allowed
	}
	fmt.Println(errors.Is(err, session.ErrSendLimit), s.Pending() <= 64<<10, s.Err())
	// Output: true true <nil>
}

func Example_sendBuffer() {
	e := value(engine.New(engine.Options{}))
	events := session.Events{OnConnected: func(s *session.Session, _ net.Addr) {
		b := pool.Get() // one reference, ours
		b.B = fmt.Appendf(b.B, "session %s, no copy\n", "one")
		s.SendBuffer(b) // the reference is the session's now, also if this fails
		s.Disconnect()
	}}
	l := value(e.Listen("tcp", "127.0.0.1:0", events.Factory()))
	must(e.Start())
	defer e.Close()

	c := value(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	fmt.Print(string(value(io.ReadAll(c))))
	// Output: session one, no copy
}
