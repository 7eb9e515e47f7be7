package guide_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// bot sends a message, waits for the answer, and leaves.
type bot struct {
	session.Session
	answered *sync.WaitGroup
}

func (b *bot) OnConnected(net.Addr) { b.Send([]byte("hello\n")) }

func (b *bot) OnRecv(data []byte) { b.Disconnect() }

func (b *bot) OnDisconnected(net.Addr) { b.answered.Done() }

func Example_bots() {
	server := value(engine.New(engine.Options{}))
	l := value(server.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) }))
	must(server.Start())
	defer server.Close()

	swarm := value(engine.New(engine.Options{})) // no listener: for Dial alone
	must(swarm.Start())
	defer swarm.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // bounds the dialling, not the sessions
	defer cancel()
	var answered sync.WaitGroup
	for range 500 {
		answered.Add(1)
		value(swarm.Dial(ctx, "tcp", l.Addr().String(), func() session.Handler { return &bot{answered: &answered} }))
	}
	answered.Wait()
	fmt.Println(swarm.Stats().Dialed, "bots,", swarm.Stats().DialErrors, "failed attempts")
	// Output: 500 bots, 0 failed attempts
}

// link is a connection between two servers that must last.
type link struct {
	session.Session
	connected chan<- struct{}
}

func (k *link) OnConnected(net.Addr) { k.connected <- struct{}{} }

func Example_reconnect() {
	server := value(net.Listen("tcp", "127.0.0.1:0"))
	defer server.Close()
	e := value(engine.New(engine.Options{}))
	must(e.Start())
	defer e.Close()

	connected := make(chan struct{}, 1)
	second := make(chan net.Conn, 1)
	go func() {
		value(server.Accept()).Close() // the first connection is lost
		second <- value(server.Accept())
	}()
	value(e.Dial(context.Background(), "tcp", server.Addr().String(),
		func() session.Handler { return &link{connected: connected} },
		engine.Reconnect(engine.Policy{BaseDelay: 20 * time.Millisecond})))
	<-connected
	<-connected
	defer (<-second).Close()
	fmt.Println("connected again, by a new session")
	// Output: connected again, by a new session
}
