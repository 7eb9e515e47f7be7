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

// manager is the service manager, if there is one that wants to be told (NOTIFY_SOCKET): systemd, or whoever speaks its
// protocol. A nil manager is told nothing.
type manager struct {
	log      *slog.Logger
	watchdog context.CancelFunc // ends the signs of life, nil if none are wanted
}

// newManager returns nil for a server inside another program.
func newManager(environ []string, log *slog.Logger) *manager {
	if environ == nil {
		return nil
	}
	return &manager{log: log}
}

// tell sends lines of state.
func (m *manager) tell(state ...string) {
	if m == nil {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		m.log.Warn("the service manager cannot be told", "state", state[0], "err", err)
	}
}

func (m *manager) reloading() {
	m.tell("RELOADING=1", strings.TrimSpace(daemon.SdNotifyMonotonicUsec()), "STATUS=restarting")
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
				m.tell("WATCHDOG=1")
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// leave ends the signs of life.
func (m *manager) leave() {
	if m != nil && m.watchdog != nil {
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
