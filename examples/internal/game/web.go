package game

import (
	_ "embed" // page
	"net"
	"net/http"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// page shows the room in a browser: a dot for each player.
//
//go:embed page.html
var page []byte

// watcher is a browser. It gets the packets that players get, each as a binary message. What it sends is ignored.
type watcher struct {
	session.Session
	room *room
}

func (w *watcher) OnConnected(net.Addr) { w.room.Join(w) }

// webOption has a listener serve the page at /, and its WebSocket at /game.
func webOption() engine.Option {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:")
		_, _ = w.Write(page) // the browser may have gone
	})
	return engine.WebSocket(engine.WebSocketOptions{Path: "/game", HTTP: mux})
}
