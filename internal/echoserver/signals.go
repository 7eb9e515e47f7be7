package echoserver

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals has the channels of the signals that the program handles. docs/signals.md has the table. Other signals have the meaning that
// Go gives them.
type signals struct {
	stop     chan os.Signal // SIGINT, SIGTERM, SIGHUP
	restarts chan os.Signal // SIGUSR2
	unused   chan os.Signal // SIGPIPE; never read
}

// catchSignals begins to handle signals. A server inside another program (whole is false) handles only those that stop it.
func catchSignals(whole bool) *signals {
	// The channels have room for signals that come while the server starts.
	s := &signals{make(chan os.Signal, 8), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.stop, os.Interrupt, syscall.SIGTERM)
	if !whole {
		return s
	}
	signal.Notify(s.restarts, syscall.SIGUSR2)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup sets it
		signal.Notify(s.stop, syscall.SIGHUP)
	}
	// Without this, Go ends the program at a write to stdout or stderr that has no reader. With it, the write only fails. Ignore would
	// do the same, but a new process would inherit it.
	signal.Notify(s.unused, syscall.SIGPIPE)
	// Under "stty tostop" the terminal stops a background process that writes to it, unless the process ignores this signal.
	signal.Ignore(syscall.SIGTTOU)
	return s
}

// release ends the handling of signals for a server inside another program. The program itself handles them to its end, so that a late
// signal does not kill it.
func (s *signals) release(whole bool) {
	if !whole {
		signal.Stop(s.stop)
	}
}

// startGrace is how long a start may go on after a signal to stop.
const startGrace = 100 * time.Millisecond

// during runs start and returns its results. If a signal, ctx or the predecessor stops the program meanwhile, during waits only
// startGrace longer, because the start may wait for a settings file or a name server. A signal or an answer that comes before the start
// has ended stays in its channel, for run.
func (c *signals) during(ctx context.Context, before *predecessor, screen *screen, start func() (*service, int)) (*service, int) {
	type started struct {
		service *service
		code    int
	}
	up := make(chan started, 1)
	go func() {
		s, code := start()
		up <- started{s, code}
	}()
	var sig os.Signal
	answer, message := before.answers(), byte(released)
	for message != refused && sig == nil && ctx.Err() == nil {
		select {
		case u := <-up:
			return u.service, u.code
		case sig = <-c.stop:
		case <-ctx.Done():
		case message = <-answer:
			answer <- message // for run
			answer = nil
		}
	}
	select {
	case u := <-up:
		if sig != nil {
			select {
			case c.stop <- sig:
			default: // the channel is full of others
			}
		}
		return u.service, u.code
	case <-time.After(startGrace):
	}
	go func() { // for a server inside another program; the program itself exits before
		if u := <-up; u.service != nil {
			_ = u.service.Close()
		}
	}()
	io.WriteString(screen.err, "echoserver: stopped by a signal or its predecessor before it had started\n")
	if message == refused {
		return nil, exitFault
	}
	return nil, exitOK
}
