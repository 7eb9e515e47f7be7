package reactor_test

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/internal/reactor"
)

// echo answers what it reads. The Context of a connection is the number of bytes that it has brought.
type echo struct {
	reactor.Base[int]
	loop     *reactor.Loop[int]
	listener int
	accepted []int
}

func (e *echo) OnTraffic(c *reactor.Conn[int], data []byte) {
	c.Context += len(data)
	_, _ = c.Write([][]byte{data})
}

func (e *echo) OnRelease(c *reactor.Conn[int]) { fmt.Println("released after", c.Context, "bytes") }

func (e *echo) accept() bool {
	fd, _, err := reactor.Accept(e.listener)
	if err != nil {
		return false
	}
	e.accepted = append(e.accepted, fd)
	return true
}

func (e *echo) OnTurn(time.Duration) (more bool) {
	for _, fd := range e.accepted {
		c := e.loop.NewConn(fd)
		if err := e.loop.Register(c); err != nil {
			c.Close(true)
			continue
		}
		e.loop.Open(c, nil)
	}
	e.accepted = nil
	return false
}

func (e *echo) OnShutdown(error) {
	for _, c := range e.loop.Conns() {
		c.Close(false)
		c.Release()
	}
}

// An echo server, without a session in sight.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	e := &echo{}
	if e.listener, err = reactor.Duplicate(listener.(syscall.Conn)); err != nil {
		panic(err)
	}
	defer syscall.Close(e.listener)
	if e.loop, err = reactor.New(reactor.Config[int]{Handler: e, Clock: reactor.NewClock()}); err != nil {
		panic(err)
	}
	if err := e.loop.Listen(e.listener, e.accept); err != nil {
		panic(err)
	}
	go e.loop.Run()

	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(client, "hello")
	answer := make([]byte, len("hello"))
	_, err = io.ReadFull(client, answer)
	fmt.Printf("%s, %v\n", answer, err)

	e.loop.Halt()
	e.loop.Close()
	client.Close()
	// Output:
	// hello, <nil>
	// released after 5 bytes
}
