//go:build browser

package observe

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// member is a session of a room, in which each gets what the others say.
type member struct {
	session.Session
	room *session.Group
}

func (m *member) OnConnected(net.Addr) { m.room.Join(m) }
func (m *member) OnRecv(data []byte)   { m.room.Broadcast(data, m) }

// crowd is an engine under load: clients that exchange messages, and a room in which one member does not read.
type crowd struct {
	*rig
	holder net.Conn // a client that sends nothing by itself
	echoes net.Addr
	quit   chan struct{}
	done   sync.WaitGroup
}

const crowdSize, roomSize, maxSessions = 24, 6, 40

func gather(t *testing.T) *crowd {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	// No WriteTimeout: the slow member stays for as long as a test looks at it.
	e, err := engine.New(engine.Options{Loops: 2, MaxSessions: maxSessions, StallWarning: 200 * time.Millisecond, WriteTimeout: -1, Logger: log})
	must(t, err)
	c := &crowd{rig: &rig{t: t, engine: e, hold: make(chan struct{})}, quit: make(chan struct{})}
	echoes, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &echo{hold: c.hold} })
	must(t, err)
	group := new(session.Group)
	room, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &member{room: group} })
	must(t, err)
	must(t, e.Start())
	c.listener, c.addr, c.echoes = echoes, echoes.Addr().String(), echoes.Addr()
	c.serve(Options{Admin: true, Logger: log, Interval: 200 * time.Millisecond})
	t.Cleanup(func() {
		close(c.quit)
		_ = e.Close() // ends the clients
		c.done.Wait()
	})
	c.holder = c.dial("hello")
	for range crowdSize - 1 {
		c.every(5*time.Millisecond, c.dial("hello"), 64, true)
	}
	speaker, slow := c.join(room.Addr()), c.join(room.Addr())
	must(t, slow.(*net.TCPConn).SetReadBuffer(4096))
	for range roomSize - 2 {
		reader := c.join(room.Addr())
		c.done.Go(func() { _, _ = io.Copy(io.Discard, reader) })
	}
	c.every(5*time.Millisecond, speaker, 16<<10, false)
	return c
}

func (c *crowd) join(a net.Addr) net.Conn {
	c.t.Helper()
	conn, err := net.Dial("tcp", a.String())
	must(c.t, err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// every sends so many bytes in each interval, and reads as many back, until the crowd or the connection ends.
func (c *crowd) every(interval time.Duration, conn net.Conn, size int, back bool) {
	must(c.t, conn.SetDeadline(time.Time{})) // that of dial
	c.done.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		data := make([]byte, size)
		for {
			select {
			case <-c.quit:
				return
			case <-tick.C:
			}
			if _, err := conn.Write(data); err != nil {
				return
			}
			if back {
				if _, err := io.ReadFull(conn, data); err != nil {
					return
				}
			}
		}
	})
}

// stall has a callback hold its loop, until hold is closed.
func (c *crowd) stall() {
	c.t.Helper()
	_, err := io.WriteString(c.holder, "hold")
	must(c.t, err)
}
