package echoserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// tellTime is how long the service manager may take to read one message.
const tellTime = time.Second

// manager is the service manager, if there is one that wants to be told (NOTIFY_SOCKET): systemd, or another that speaks
// its protocol. A nil manager is told nothing. No method but close waits for the manager.
type manager struct {
	log      *slog.Logger
	address  string
	messages chan message
	watchdog context.CancelFunc // ends the signs of life, nil if none are wanted
}

// message is one datagram, or a question: everything before it was sent once sent is closed.
type message struct {
	state string
	sent  chan struct{}
}

// newManager returns nil if there is no manager, and for a server inside another program.
func newManager(environ []string, log *slog.Logger) *manager {
	address := os.Getenv("NOTIFY_SOCKET")
	if environ == nil || address == "" {
		return nil
	}
	m := &manager{log: log, address: address, messages: make(chan message, 16)}
	go func() {
		for next := range m.messages {
			if next.sent != nil {
				close(next.sent)
			} else if err := m.send(next.state, tellTime); err != nil {
				log.Warn("the service manager cannot be told", "state", firstLine(next.state), "err", err)
			}
		}
	}()
	return m
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// send waits until the manager has room for the message.
func (m *manager) send(state string, limit time.Duration) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(limit))
	_, err = conn.Write([]byte(state))
	return err
}

// tell sends lines of state, after what was told before.
func (m *manager) tell(state ...string) {
	if m == nil {
		return
	}
	select {
	case m.messages <- message{state: strings.Join(state, "\n")}:
	default:
		m.log.Warn("the service manager does not read what it is told", "state", state[0])
	}
}

// close ends the signs of life, waits until everything was sent, at most tellTime, and says nothing more.
func (m *manager) close() {
	if m == nil {
		return
	}
	m.endWatch()
	m.flush()
	close(m.messages)
}

func (m *manager) flush() {
	late := time.After(tellTime)
	sent := make(chan struct{})
	select {
	case m.messages <- message{sent: sent}:
	case <-late:
		return
	}
	select {
	case <-sent:
	case <-late:
	}
}

// reloading is the state in which a successor starts.
func reloading() []string {
	return []string{"RELOADING=1", strings.TrimSpace(daemon.SdNotifyMonotonicUsec()), "STATUS=restarting"}
}

// watch gives the manager the signs of life it asks for (WATCHDOG_USEC), two in each interval, as long as ping, which
// asks every event loop, succeeds within half of it.
func (m *manager) watch(ping func(context.Context) error) {
	if m == nil {
		return
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the watchdog's interval cannot be read", "err", err)
	}
	if interval == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.watchdog = func() { cancel(); <-done }
	go func() {
		defer close(done)
		tick := time.NewTicker(max(interval/2, time.Millisecond))
		defer tick.Stop()
		for {
			asked, cancel := context.WithTimeout(ctx, interval/2)
			err := ping(asked)
			cancel()
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				m.log.Error("no sign of life for the watchdog", "err", err)
			default:
				if err := m.send("WATCHDOG=1", min(interval/2, tellTime)); err != nil {
					m.log.Warn("the service manager cannot be told", "state", "WATCHDOG=1", "err", err)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (m *manager) endWatch() {
	if m.watchdog != nil {
		m.watchdog()
		m.watchdog = nil
	}
}

// A socket is one that listens and was handed in.
type socket struct {
	file    *os.File
	network string
}

// activated returns the sockets that the service manager has opened for this process (LISTEN_FDS), and takes them out of
// the environment.
func activated() ([]socket, error) {
	return takeSockets(activation.Files(true))
}

// takeSockets finds out what the files are. On an error all are closed.
func takeSockets(files []*os.File) (sockets []socket, err error) {
	for _, f := range files {
		ln, e := net.FileListener(f)
		if e != nil {
			err = fmt.Errorf("%s was handed in and is not a stream socket that listens: %w", f.Name(), e)
			break
		}
		sockets = append(sockets, socket{f, ln.Addr().Network()})
		_ = ln.Close()
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	return sockets, nil
}
