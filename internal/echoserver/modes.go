package echoserver

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// modes are the values of -mode. A factory is made once per listener, a handler once per connection.
var modes = map[string]struct {
	help    string
	factory func(*slog.Logger) session.Factory
}{
	"echo":      {"sends back what it receives", newEcho},
	"game":      {"sends a greeting, logs each callback, and disconnects after 1 s", newGame},
	"broadcast": {"sends what one client sends to every other client", newBroadcast},
	"discard":   {"reads and sends nothing", newDiscard},
}

func modeHelp() string {
	var b strings.Builder
	b.WriteString("what the server does with a connection, one `name` of (default echo):\n")
	for _, name := range modeList() {
		b.WriteString(name + ": " + modes[name].help + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func modeList() []string { return []string{"echo", "game", "broadcast", "discard"} }

// modeNames returns the names for a sentence, with conj before the last.
func modeNames(conj string) string {
	names := modeList()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + conj + " " + names[last]
}

// conn is embedded by the handlers that log only connects and disconnects, at level debug.
type conn struct {
	session.Session
	log *slog.Logger
}

func (c *conn) OnConnected(remote net.Addr) {
	if c.debugs() {
		c.log.Debug("connected", "session", c.ID(), "remote", remote)
	}
}

func (c *conn) OnDisconnected(remote net.Addr) {
	if c.debugs() {
		c.log.Debug("disconnected", "session", c.ID(), "remote", remote, "err", c.Err())
	}
}

// debugs reports whether a record of level debug is kept: one that is not would cost as much as the session's own memory.
func (c *conn) debugs() bool { return c.log.Enabled(context.Background(), slog.LevelDebug) }

// An echoSession sends back what it receives. It needs no flow control: the engine stops reading from a client that does not read.
type echoSession struct{ conn }

func newEcho(log *slog.Logger) session.Factory {
	return func() session.Handler { return &echoSession{conn{log: log}} }
}

func (s *echoSession) OnRecv(data []byte) {
	if err := s.Send(data); err != nil {
		// An echo must not have a gap, so the session ends. If it is ending already, this does nothing.
		s.DisconnectWith(err)
	}
}

// OnText answers a text message of a WebSocket with text.
func (s *echoSession) OnText(text []byte) {
	if err := s.SendText(text); err != nil {
		s.DisconnectWith(err)
	}
}

type discardSession struct{ conn }

func newDiscard(log *slog.Logger) session.Factory {
	return func() session.Handler { return &discardSession{conn{log: log}} }
}

func (*discardSession) OnRecv([]byte) {}

const (
	greeting        = "Welcome to MMORPG Server!"
	disconnectAfter = time.Second
	loggedBytes     = 256 // largest part of received data in one log record, in bytes
)

// A gameSession logs each callback. It is the GameSession of the C# lesson.
type gameSession struct {
	session.Session
	log   *slog.Logger
	timer *time.Timer // disconnects; loop only
}

func newGame(log *slog.Logger) session.Factory {
	return func() session.Handler { return &gameSession{log: log} }
}

func (s *gameSession) OnConnected(remote net.Addr) {
	s.log.Info("connected", "session", s.ID(), "remote", remote)
	if err := s.SendText([]byte(greeting)); err != nil {
		s.log.Warn("cannot send the greeting", "session", s.ID(), "err", err)
	}
	// A timer and not a sleep: a callback that sleeps would block every other session of its loop.
	s.timer = time.AfterFunc(disconnectAfter, s.Disconnect)
}

func (s *gameSession) OnRecv(data []byte) {
	s.log.Info("received", "session", s.ID(), "bytes", len(data), "data", string(data[:min(len(data), loggedBytes)]))
}

func (s *gameSession) OnSend(n int) {
	s.log.Info("transferred", "session", s.ID(), "bytes", n)
}

func (s *gameSession) OnDisconnected(remote net.Addr) {
	s.timer.Stop()
	s.log.Info("disconnected", "session", s.ID(), "remote", remote, "err", s.Err())
}

// A room has all clients of one listener in broadcast mode. Each gets what the others send.
type room struct {
	session.Group
	log    *slog.Logger
	logged atomic.Int64 // time of the last log record about slow members, in Unix nanoseconds
}

type member struct {
	conn
	room *room
}

func newBroadcast(log *slog.Logger) session.Factory {
	r := &room{log: log}
	return func() session.Handler { return &member{conn: conn{log: log}, room: r} }
}

func (m *member) OnConnected(remote net.Addr) {
	m.room.Join(m)
	m.conn.OnConnected(remote)
}

func (m *member) OnRecv(data []byte) {
	before := m.room.Skipped()
	m.room.Broadcast(data, m)
	if total := m.room.Skipped(); total > before {
		m.room.logSlowest(total)
	}
}

// logSlowest logs that messages to slow members were skipped, at most once a second, and names the slowest member. The members stay in
// the room: they get whole messages again when their queues have room.
func (r *room) logSlowest(total uint64) {
	now := time.Now().UnixNano()
	if last := r.logged.Load(); now-last < int64(time.Second) || !r.logged.CompareAndSwap(last, now) {
		return
	}
	var slowest *member
	most := -1
	for h := range r.All() {
		if m := h.(*member); m.Pending() > most {
			slowest, most = m, m.Pending()
		}
	}
	if slowest != nil {
		r.log.Warn("messages to slow members are skipped; this is the slowest", "session", slowest.ID(), "remote", slowest.RemoteAddr(), "pending", most, "skipped_total", total)
	}
}
