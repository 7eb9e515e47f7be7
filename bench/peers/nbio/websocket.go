package main

import (
	"net/http"

	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

// serveWebSocket runs the library's HTTP server, whose event loops serve the connections that are taken over. It does not return.
func serveWebSocket(config *peer.Config) {
	upgrader := websocket.NewUpgrader()
	upgrader.KeepaliveTime = 0 // its default sets a timer anew with each message
	upgrader.MessageLengthLimit = peer.MostMessage
	if config.Echo {
		upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) { c.WriteMessage(kind, message) })
	} else {
		var room peer.Room[*websocket.Conn]
		upgrader.OnOpen(room.Join)
		upgrader.OnClose(func(c *websocket.Conn, _ error) { room.Leave(c) })
		upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) {
			// It has no prepared messages: the frame is made for each member.
			room.Others(c, func(other *websocket.Conn) { other.WriteMessage(kind, message) })
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc(config.WebSocket, func(w http.ResponseWriter, r *http.Request) { upgrader.Upgrade(w, r, nil) })
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{config.Addr},
		NPoller:                 config.Loops,
		Handler:                 mux,
		ReleaseWebsocketPayload: true,
	})
	if err := engine.Start(); err != nil {
		peer.Fail(err)
	}
	config.Listening()
	select {} // a signal ends the program
}
