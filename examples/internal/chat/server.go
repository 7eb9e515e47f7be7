// Package chat is the chat of examples/chat and examples/cluster: rooms with names and a history, for users of a browser and of nc. The
// rooms are in one process, or on several nodes if [Options] has a [Cluster].
//
//	server.go   the engine with its two listeners
//	user.go     a connection: what it may type, and what follows
//	room.go     rooms, their history, and where they are
//	web.go      the page, and a certificate for it
package chat

import (
	"log/slog"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

const (
	lobby        = "lobby"
	maxText      = 1000          // bytes of a line that a user sends
	maxWord      = 20            // characters of a name
	maxLine      = maxText + 200 // with all that the server adds to it
	historyLines = 50
	sendLimit    = 64 << 10 // more than a history of the longest lines
)

// Options of a chat.
type Options struct {
	Lines      string          // address to listen on for lines of text
	Web        string          // address to listen on for browsers; empty for none
	SelfSigned bool            // browsers speak https and wss, with a new certificate for this machine
	Cluster    Cluster         // where the rooms are; nil: in this process
	Listen     []engine.Option // for both listeners
	Logger     *slog.Logger    // default slog.Default()
}

// Server is an engine with two listeners.
type Server struct {
	*engine.Engine
	Lines, Web *engine.Listener // Web is nil for none
}

// New makes a server. Start or Run it.
func New(o Options) (*Server, error) {
	e, err := engine.New(engine.Options{SendLimit: sendLimit, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	s, r := &Server{Engine: e}, newRooms(o.Cluster)
	newUser := func() session.Handler { return &User{rooms: r} }
	lines := append([]engine.Option{engine.Framed(frame.Line{Max: maxLine})}, o.Listen...)
	if s.Lines, err = e.Listen("tcp", o.Lines, newUser, lines...); err != nil || o.Web == "" {
		return s, err
	}
	web, err := webOptions(o.SelfSigned)
	if err == nil {
		s.Web, err = e.Listen("tcp", o.Web, newUser, append(web, o.Listen...)...)
	}
	return s, err
}

// StopAccepting has both listeners refuse connections, so that users who come back go to another node. Those that are connected stay.
func (s *Server) StopAccepting() {
	_ = s.Lines.Close() // it fails only if the server has ended
	if s.Web != nil {
		_ = s.Web.Close()
	}
}
