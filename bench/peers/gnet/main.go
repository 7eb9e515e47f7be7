// Command gnet serves echo or broadcast with plain github.com/panjf2000/gnet/v2. -reuseport chooses the second of its two
// ways of accepting: a listener per loop in place of an acceptor that deals connections out.
package main

import (
	"bytes"
	"flag"

	"github.com/panjf2000/gnet/v2"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

func main() {
	reusePort := flag.Bool("reuseport", false, "a listener for each loop, with SO_REUSEPORT")
	config := peer.Parse()
	base := base{config: config}
	var handler gnet.EventHandler = &echo{base}
	if !config.Echo {
		handler = &broadcast{base: base}
	}
	peer.Fail(gnet.Run(handler, "tcp://"+config.Addr, gnet.WithNumEventLoop(config.Loops), gnet.WithReusePort(*reusePort)))
}

type base struct {
	gnet.BuiltinEventEngine
	config peer.Config
}

// OnBoot is called when the first listener listens.
func (b *base) OnBoot(gnet.Engine) gnet.Action {
	b.config.Listening()
	return gnet.None
}

type echo struct{ base }

func (*echo) OnTraffic(c gnet.Conn) gnet.Action {
	data, _ := c.Next(-1)
	c.Write(data)
	return gnet.None
}

type broadcast struct {
	base
	room peer.Room[gnet.Conn]
}

func (b *broadcast) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	b.room.Join(c)
	return nil, gnet.None
}

func (b *broadcast) OnClose(c gnet.Conn, _ error) gnet.Action {
	b.room.Leave(c)
	return gnet.None
}

// OnTraffic uses AsyncWrite even for connections of its own loop, because it is the only call allowed for a connection that may belong to
// another loop.
func (b *broadcast) OnTraffic(c gnet.Conn) gnet.Action {
	data, _ := c.Next(-1)
	kept := bytes.Clone(data) // AsyncWrite holds on to it until the other loop has written
	for message := range b.config.Messages(kept) {
		b.room.Others(c, func(other gnet.Conn) { other.AsyncWrite(message, nil) })
	}
	return gnet.None
}
