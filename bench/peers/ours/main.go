// Command ours is the broadcast mode of the reference server (cmd/echoserver) with a flag -message, with which each message is a
// Broadcast of its own. All other workloads use the reference server itself.
package main

import (
	"errors"
	"net"

	"github.com/servercore-go/servercore/bench/peers/peer"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

var (
	config peer.Config
	room   session.Group
)

func main() {
	config = peer.Parse()
	room.EndSlow = true // a hole in a member's stream would be worse
	if config.Echo {
		peer.Fail(errors.New("this program knows -mode broadcast only; use cmd/echoserver for -mode echo"))
	}
	e, err := engine.New(engine.Options{Loops: config.Loops})
	if err != nil {
		peer.Fail(err)
	}
	if _, err := e.Listen("tcp", config.Addr, func() session.Handler { return new(member) }); err != nil {
		peer.Fail(err)
	}
	if err := e.Start(); err != nil {
		peer.Fail(err)
	}
	config.Listening()
	<-e.Done()
	peer.Fail(e.Err())
}

type member struct{ session.Session }

func (m *member) OnConnected(net.Addr) { room.Join(m) }

func (m *member) OnRecv(data []byte) {
	for message := range config.Messages(data) {
		room.Broadcast(message, m)
	}
}
