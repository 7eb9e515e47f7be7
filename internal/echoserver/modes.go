package echoserver

import (
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// modes holds what -mode can name. A factory is made once per listener, a handler once per connection.
var modes = map[string]struct {
	help    string
	factory func(*slog.Logger) session.Factory
}{
	"echo":      {"sends back what it receives", newEcho},
	"game":      {"greets, logs each event, disconnects after a second", newGame},
	"broadcast": {"sends what one client sends to every other client", newBroadcast},
	"discard":   {"reads, and sends nothing", newDiscard},
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

// modeNames lists the modes in a sentence, conj before the last.
func modeNames(conj string) string {
	names := modeList()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + conj + " " + names[last]
}

// conn is what the quiet modes share: coming and going appear in the log at level debug.
type conn struct {
	session.Session
	log *slog.Logger
}

func (c *conn) OnConnected(remote net.Addr) {
	c.log.Debug("connected", "session", c.ID(), "remote", remote)
}

func (c *conn) OnDisconnected(remote net.Addr) {
	c.log.Debug("disconnected", "session", c.ID(), "remote", remote, "err", c.Err())
}

// An echoSession needs no flow control of its own: the engine stops reading a client that does not read.
type echoSession struct{ conn }

func newEcho(log *slog.Logger) session.Factory {
	return func() session.Handler { return &echoSession{conn{log: log}} }
}

func (s *echoSession) OnRecv(data []byte) {
	if err := s.Send(data); err != nil {
		// An echo with a hole in it is worse than one that ends. Once the session is ending this does nothing.
		s.DisconnectWith(err)
	}
}

type discardSession struct{ conn }

func newDiscard(log *slog.Logger) session.Factory {
	return func() session.Handler { return &discardSession{conn{log: log}} }
}

func (*discardSession) OnRecv([]byte) {}

const (
	welcome       = "Welcome to MMORPG Server!"
	farewellAfter = time.Second
	shownBytes    = 256 // of what a client sent, in one line of the log
)

// A gameSession shows each callback once: it is the GameSession of the lesson this module grew from.
type gameSession struct {
	session.Session
	log      *slog.Logger
	farewell *time.Timer // loop only
}

func newGame(log *slog.Logger) session.Factory {
	return func() session.Handler { return &gameSession{log: log} }
}

func (s *gameSession) OnConnected(remote net.Addr) {
	s.log.Info("connected", "session", s.ID(), "remote", remote)
	if err := s.Send([]byte(welcome)); err != nil {
		s.log.Warn("no welcome", "session", s.ID(), "err", err)
	}
	// A timer, not a sleep: a callback that waits would hold up every other session of its loop.
	s.farewell = time.AfterFunc(farewellAfter, s.Disconnect)
}

func (s *gameSession) OnRecv(data []byte) {
	s.log.Info("received", "session", s.ID(), "bytes", len(data), "data", string(data[:min(len(data), shownBytes)]))
}

func (s *gameSession) OnSend(n int) {
	s.log.Info("transferred", "session", s.ID(), "bytes", n)
}

func (s *gameSession) OnDisconnected(remote net.Addr) {
	s.farewell.Stop()
	s.log.Info("disconnected", "session", s.ID(), "remote", remote, "err", s.Err())
}

// A room is where the members of the broadcast mode hear each other.
type room struct {
	session.Group
	log    *slog.Logger
	logged atomic.Int64 // when skipped members were last logged, Unix nanoseconds
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
		m.room.slow(total)
	}
}

// slow tells of members that messages were skipped for, at most once a second however many there are, and names the
// slowest. They stay: they get whole what arrives once they have caught up.
func (r *room) slow(total uint64) {
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
		r.log.Warn("slow member skipped", "session", slowest.ID(), "remote", slowest.RemoteAddr(), "pending", most, "skipped_total", total)
	}
}
