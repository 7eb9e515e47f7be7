// Command ours is the reference server (cmd/echoserver) for the workloads that need what it has no flag for: -message, with which each message
// of a broadcast is a Broadcast of its own; -frame, an echo of packets with a length field; and -deflate. All other workloads use the
// reference server itself.
package main

import (
	"flag"
	"net"
	"os"
	"runtime/debug"

	"github.com/servercore-go/servercore/bench/peers/peer"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

var (
	config peer.Config
	room   session.Group
)

func main() {
	framed := flag.Int("frame", 0, "echo: cut the stream into packets of so many `bytes` with a length field; see framer. 0: no packets")
	config = peer.Parse(peer.WebSocket, peer.Deflate)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(15) // as in the reference server
	}
	room.EndSlow = true // a hole in a member's stream would be worse
	e, err := engine.New(engine.Options{Loops: config.Loops})
	if err != nil {
		peer.Fail(err)
	}
	var options []engine.Option
	if config.WebSocket != "" {
		options = append(options, engine.WebSocket(engine.WebSocketOptions{Path: config.WebSocket, Compression: config.Deflate}))
	}
	if *framed > 0 {
		options = append(options, engine.Framed(framer(*framed)))
	}
	factory := func() session.Handler { return new(echo) }
	if !config.Echo {
		factory = func() session.Handler { return new(member) }
	}
	if _, err := e.Listen("tcp", config.Addr, factory, options...); err != nil {
		peer.Fail(err)
	}
	if err := e.Start(); err != nil {
		peer.Fail(err)
	}
	config.Listening()
	<-e.Done()
	peer.Fail(e.Err())
}

// netbenchHeader is the size, in bytes, of the header of netbench's messages.
const netbenchHeader = 16

// framer cuts netbench's messages of that size. Its header ends with a number in 8 bytes, little-endian, of which the upper two are 0: a length
// field that says how many bytes come besides those that every message has.
func framer(size int) frame.Framer {
	return frame.LengthField{LengthFieldOffset: netbenchHeader - 2, LengthFieldLength: 2, LengthAdjustment: size - netbenchHeader}
}

type echo struct{ session.Session }

func (e *echo) OnRecv(data []byte) { e.Send(data) }

// OnText answers a text message of a WebSocket with text.
func (e *echo) OnText(text []byte) { e.SendText(text) }

type member struct{ session.Session }

func (m *member) OnConnected(net.Addr) { room.Join(m) }

func (m *member) OnRecv(data []byte) {
	for message := range config.Messages(data) {
		room.Broadcast(message, m)
	}
}
