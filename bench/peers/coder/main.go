// Command coder serves WebSocket echo or broadcast with github.com/coder/websocket: a goroutine for each connection.
package main

import (
	"context"
	"net/http"

	"github.com/coder/websocket"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

var (
	config peer.Config
	room   peer.Room[*websocket.Conn]
	// ctx has no deadline: a message with one would cost a timer besides.
	ctx = context.Background()
)

func main() {
	config = peer.Parse(peer.WebSocket, peer.Deflate)
	serve := echo
	if !config.Echo {
		serve = broadcast
	}
	options := &websocket.AcceptOptions{}
	if config.Deflate {
		options.CompressionMode = websocket.CompressionNoContextTakeover
	}
	config.ServeUpgrades(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, options)
		if err != nil {
			return // the client has got the reason
		}
		c.SetReadLimit(peer.MostMessage)
		// Its goroutine is not that of the handler, so that the memory of the request can go.
		go serve(c)
	})
}

// echo uses Read and Write. Reader, Writer and io.Copy, as in the library's example, make two frames of each message.
func echo(c *websocket.Conn) {
	defer c.CloseNow()
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return
		}
		if err := c.Write(ctx, kind, message); err != nil {
			return
		}
	}
}

// broadcast writes from the goroutine that has read, as in the other servers that block. The library has no prepared messages: it frames, and
// compresses, for each member. Write may be called by several goroutines.
func broadcast(c *websocket.Conn) {
	room.Join(c)
	defer c.CloseNow()
	defer room.Leave(c)
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return
		}
		// An error means that the member is closing. Its own Read will return the error.
		room.Others(c, func(other *websocket.Conn) { other.Write(ctx, kind, message) })
	}
}
