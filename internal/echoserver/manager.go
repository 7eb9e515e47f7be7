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

// tellTime is how long the service manager may take to accept one message.
const tellTime = time.Second

// manager sends messages to the service manager at NOTIFY_SOCKET: systemd, or another with its protocol. A nil manager sends nothing. No
// method but close waits for the service manager.
type manager struct {
	log      *slog.Logger
	address  string
	messages chan message
	watchdog context.CancelFunc // ends the signs of life; nil if the service manager wants none
}

// message is one datagram; or, with sent, a mark in the queue: sent is closed when all messages before it have been sent.
type message struct {
	state string
	sent  chan struct{}
}

// newManager returns nil if there is no service manager, and for a server inside another program.
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
				log.Warn("cannot send a message to the service manager", "state", firstLine(next.state), "err", err)
			}
		}
	}()
	return m
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// send sends one message. It waits until the service manager has room for it, for at most limit.
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

// tell queues a message with lines of state.
func (m *manager) tell(state ...string) {
	if m == nil {
		return
	}
	select {
	case m.messages <- message{state: strings.Join(state, "\n")}:
	default:
		m.log.Warn("the service manager does not read; a message to it is dropped", "state", state[0])
	}
}

// close ends the signs of life and waits until all messages have been sent, for at most tellTime.
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

// reloading returns the state of a process whose successor is starting.
func reloading() []string {
	return []string{"RELOADING=1", strings.TrimSpace(daemon.SdNotifyMonotonicUsec()), "STATUS=restarting"}
}

// watch sends the signs of life that the service manager asks for (WATCHDOG_USEC), two in each interval. It sends one only if ping, which
// asks every event loop, succeeds within half an interval.
func (m *manager) watch(ping func(context.Context) error) {
	if m == nil {
		return
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("cannot read the watchdog's interval; the service manager gets no sign of life", "err", err)
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
				m.log.Error("an event loop does not answer; the watchdog gets no sign of life", "err", err)
			default:
				if err := m.send("WATCHDOG=1", min(interval/2, tellTime)); err != nil {
					m.log.Warn("cannot send a message to the service manager", "state", "WATCHDOG=1", "err", err)
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

// A socket is a listening socket that was passed to this process.
type socket struct {
	file    *os.File
	network string
}

// activated returns the sockets that the service manager has opened for this process (LISTEN_FDS), and removes their variables from the
// environment.
func activated() ([]socket, error) {
	return takeSockets(activation.Files(true))
}

// takeSockets turns the files into sockets. On an error it closes all of them.
func takeSockets(files []*os.File) (sockets []socket, err error) {
	for _, f := range files {
		ln, e := net.FileListener(f)
		if e != nil {
			err = fmt.Errorf("cannot listen on %s, which was passed to this process: it is not a listening stream socket: %w", f.Name(), e)
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
