// Command gws serves WebSocket echo or broadcast with github.com/lxzan/gws: a goroutine for each connection, which calls the handler.
package main

import (
	"errors"
	"net"

	"github.com/lxzan/gws"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

var room peer.Room[*gws.Conn]

func main() {
	config := peer.Parse(peer.WebSocket, peer.Deflate)
	if config.WebSocket == "" {
		peer.Fail(errors.New("-ws is missing: this program speaks WebSocket only"))
	}
	var handler gws.Event = echo{}
	if !config.Echo {
		handler = broadcast{}
	}
	// ParallelEnabled, which its documentation recommends, would let the replies of one connection overtake each other.
	server := gws.NewServer(handler, &gws.ServerOption{
		ReadMaxPayloadSize: peer.MostMessage,
		PermessageDeflate:  gws.PermessageDeflate{Enabled: config.Deflate},
	})
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		peer.Fail(err)
	}
	config.Listening()
	peer.Fail(server.RunListener(listener))
}

// pongs answers pings, which the library leaves to the handler.
type pongs struct{ gws.BuiltinEventHandler }

func (pongs) OnPing(c *gws.Conn, payload []byte) { c.WritePong(payload) }

type echo struct{ pongs }

func (echo) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.WriteMessage(m.Opcode, m.Bytes()) // an error ends the connection by itself
}

type broadcast struct{ pongs }

func (broadcast) OnOpen(c *gws.Conn) { room.Join(c) }

func (broadcast) OnClose(c *gws.Conn, _ error) { room.Leave(c) }

// OnMessage uses a Broadcaster, which frames and compresses once, and queues for each member.
func (broadcast) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	b := gws.NewBroadcaster(m.Opcode, m.Bytes())
	defer b.Close()
	room.Others(c, func(other *gws.Conn) { b.Broadcast(other) })
}
