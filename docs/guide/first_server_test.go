package guide_test

import (
	"fmt"
	"net"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// counter is one connection. Its fields need no lock: all callbacks of a session run one after the other.
type counter struct {
	session.Session
	calls int
}

func (c *counter) OnRecv(data []byte) {
	c.calls++
	c.Send(fmt.Appendf(nil, "%d: %s", c.calls, data))
}

func Example_state() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) }))
	must(e.Start())
	defer e.Close()

	fmt.Println(ask(l.Addr(), "hello"))
	// Output: 1: hello
}

func Example_functions() {
	e := value(engine.New(engine.Options{}))
	events := session.Events{
		OnConnected: func(s *session.Session, remote net.Addr) { s.Send([]byte("welcome\n")) },
		OnRecv:      func(s *session.Session, data []byte) { s.Send(data) },
	}
	l := value(e.Listen("tcp", "127.0.0.1:0", events.Factory()))
	must(e.Start())
	defer e.Close()

	fmt.Println(ask(l.Addr(), "hello"))
	// Output: welcome
}
