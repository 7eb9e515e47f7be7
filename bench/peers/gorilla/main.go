// Command gorilla serves WebSocket echo or broadcast with github.com/gorilla/websocket: a goroutine for each connection.
package main

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

var (
	config peer.Config
	room   peer.Room[*member]
)

// A member is a connection with a lock: a websocket.Conn has one writer at a time.
type member struct {
	*websocket.Conn
	writing sync.Mutex
}

func main() {
	config = peer.Parse(peer.WebSocket, peer.Deflate)
	serve := (*member).echo
	if !config.Echo {
		serve = (*member).broadcast
	}
	upgrader := websocket.Upgrader{EnableCompression: config.Deflate}
	config.ServeUpgrades(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the client has got the reason
		}
		c.SetReadLimit(peer.MostMessage)
		// As in the library's chat: a new goroutine, so that the memory of the handler can go.
		go serve(&member{Conn: c})
	})
}

func (m *member) echo() {
	defer m.Close()
	for {
		kind, message, err := m.ReadMessage()
		if err != nil {
			return
		}
		if err := m.WriteMessage(kind, message); err != nil {
			return
		}
	}
}

// broadcast prepares the message once and writes it from the goroutine that has read. That is cheaper than a channel and a writing goroutine
// for each member, as in the library's chat, but it blocks for a member that does not read.
func (m *member) broadcast() {
	room.Join(m)
	defer m.Close()
	defer room.Leave(m)
	for {
		kind, message, err := m.ReadMessage()
		if err != nil {
			return
		}
		prepared, err := websocket.NewPreparedMessage(kind, message)
		if err != nil {
			return
		}
		room.Others(m, func(other *member) { other.send(prepared) })
	}
}

// send ignores errors: an error means that the member is closing.
func (m *member) send(prepared *websocket.PreparedMessage) {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.WritePreparedMessage(prepared)
}
