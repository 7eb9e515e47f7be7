package guide_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// page is what a browser gets from the port of the WebSocket.
const page = `<!doctype html><script>
const socket = new WebSocket("ws://" + location.host + "/ws")
socket.onmessage = e => document.body.append(e.data)
</script>`

// speaker is a member of the room.
type speaker struct {
	session.Session
	room *session.Group
}

func (s *speaker) OnConnected(net.Addr) { // the upgrade is done
	s.room.Join(s)
	s.SendText([]byte("hello " + s.Request().URL.Query().Get("name")))
}

func (s *speaker) OnText(p []byte) { s.room.Broadcast(p) } // a text message; OnRecv gets the binary ones

// browser stands for one.
type browser struct {
	session.Session
	heard chan string
}

func (b *browser) OnText(p []byte) { b.heard <- string(p) }

func Example_webSocket() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })

	room := new(session.Group)
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &speaker{room: room} },
		engine.WebSocket(engine.WebSocketOptions{Path: "/ws", Text: true, HTTP: mux}))) // and engine.TLS for wss
	must(e.Start())
	defer e.Close()

	answer := value(http.Get("http://" + l.Addr().String() + "/"))
	body := value(io.ReadAll(answer.Body))
	answer.Body.Close()
	fmt.Println(answer.StatusCode, len(body) == len(page))
	http.DefaultClient.CloseIdleConnections()

	b := &browser{heard: make(chan string)}
	value(e.Dial(context.Background(), "tcp", l.Addr().String(), func() session.Handler { return b },
		engine.WebSocket(engine.WebSocketOptions{Path: "/ws?name=ada"})))
	fmt.Println(<-b.heard)
	b.SendText([]byte("anybody here?"))
	fmt.Println(<-b.heard)
	b.DisconnectWith(&session.CloseError{Code: 4000, Reason: "enough"})
	// Output:
	// 200 true
	// hello ada
	// anybody here?
}
