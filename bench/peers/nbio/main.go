// Command nbio serves echo or broadcast with github.com/lesismal/nbio: over TCP, TLS (tls.go) or WebSocket (websocket.go).
package main

import (
	"github.com/lesismal/nbio"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

func main() {
	config := peer.Parse(peer.TLS, peer.WebSocket)
	if config.WebSocket != "" {
		serveWebSocket(&config)
	}
	engine := nbio.NewEngine(nbio.Config{
		Network: "tcp",
		Addrs:   []string{config.Addr},
		NPoller: config.Loops,
		// MaxWriteBufferSize stays 0, without limit: a connection over the limit would be closed.
	})
	if config.Cert != "" {
		useTLS(engine, &config)
	} else if config.Echo {
		// Its documentation copies data first. Write copies what the kernel does not take, so that is not needed.
		engine.OnData(func(c *nbio.Conn, data []byte) { c.Write(data) })
	} else {
		var room peer.Room[*nbio.Conn]
		engine.OnOpen(room.Join)
		engine.OnClose(func(c *nbio.Conn, _ error) { room.Leave(c) })
		engine.OnData(func(c *nbio.Conn, data []byte) {
			for message := range config.Messages(data) {
				room.Others(c, func(other *nbio.Conn) { other.Write(message) })
			}
		})
	}
	if err := engine.Start(); err != nil {
		peer.Fail(err)
	}
	config.Listening()
	select {} // a signal ends the program
}
