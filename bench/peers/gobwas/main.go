// Command gobwas serves WebSocket echo or broadcast with github.com/gobwas/ws: a goroutine for each connection.
package main

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

var (
	config peer.Config
	room   peer.Room[net.Conn]
)

func main() {
	config = peer.Parse(peer.WebSocket)
	serve := echo
	if !config.Echo {
		serve = broadcast
	}
	config.ServeUpgrades(func(w http.ResponseWriter, r *http.Request) {
		c, buffers, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return // the client has got the reason
		}
		go serve(c, buffers)
	})
}

// duplex reads from the buffer and writes to the connection: what the library answers by itself, such as a pong, must not wait in a buffer.
type duplex struct {
	io.Reader
	io.Writer
}

// echo reads and writes by the buffers that the upgrade returns. The example in the library's documentation leaves them out: it makes three
// system calls to read a message, and two to write it.
func echo(c net.Conn, buffers *bufio.ReadWriter) {
	defer c.Close()
	in := duplex{buffers.Reader, c}
	for {
		message, op, err := wsutil.ReadClientData(in)
		if err != nil {
			return
		}
		if wsutil.WriteServerMessage(buffers.Writer, op, message) != nil || buffers.Flush() != nil {
			return
		}
	}
}

// broadcast compiles the frame once and writes from the goroutine that has read.
func broadcast(c net.Conn, buffers *bufio.ReadWriter) {
	room.Join(c)
	defer c.Close()
	defer room.Leave(c)
	in := duplex{buffers.Reader, c}
	for {
		message, op, err := wsutil.ReadClientData(in)
		if err != nil {
			return
		}
		frame, err := ws.CompileFrame(ws.NewFrame(op, true, message))
		if err != nil {
			return
		}
		// A Write of package net is not interleaved with others. An error means that the member is closing.
		room.Others(c, func(other net.Conn) { other.Write(frame) })
	}
}
