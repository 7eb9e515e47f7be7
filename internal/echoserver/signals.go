package echoserver

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals is what the program does with signals; docs/signals.md has the table. What is not named here has Go's meaning.
type signals struct {
	stop     chan os.Signal // SIGINT, SIGTERM, SIGHUP
	restarts chan os.Signal // SIGUSR2
	unused   chan os.Signal // nobody reads it
}

// catchSignals begins to catch signals. A server inside another program (whole is false) takes only those that stop it.
func catchSignals(whole bool) *signals {
	// There is room for the signals that come while the server starts.
	s := &signals{make(chan os.Signal, 8), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.stop, os.Interrupt, syscall.SIGTERM)
	if !whole {
		return s
	}
	signal.Notify(s.restarts, syscall.SIGUSR2)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup sets it
		signal.Notify(s.stop, syscall.SIGHUP)
	}
	// With this, a write to a standard stream without a reader fails and does not kill. It is not Ignore, because the programs
	// that this one starts would inherit that.
	signal.Notify(s.unused, syscall.SIGPIPE)
	// A background process that writes to its terminal under "stty tostop" is stopped, unless it ignores this one.
	signal.Ignore(syscall.SIGTTOU)
	return s
}

// release gives the signals of a server inside another program back. The program itself catches them to its end: one that comes
// late must not kill it.
func (s *signals) release(whole bool) {
	if !whole {
		signal.Stop(s.stop)
	}
}

// startGrace is how long a start that is under way may go on after it was told to stop.
const startGrace = 100 * time.Millisecond

// during starts the server and waits for it, but not long after it was told to stop, by a signal or by the predecessor: a file of
// settings, or a name server, may keep the start waiting. What has started by then is returned, and run is told again.
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
	answer, told := before.answers(), byte(released)
	for told != refused && sig == nil && ctx.Err() == nil {
		select {
		case u := <-up:
			return u.service, u.code
		case sig = <-c.stop:
		case <-ctx.Done():
		case told = <-answer:
			answer <- told // for run
			answer = nil
		}
	}
	select {
	case u := <-up:
		if sig != nil {
			select {
			case c.stop <- sig:
			default: // others are there
			}
		}
		return u.service, u.code
	case <-time.After(startGrace):
	}
	go func() { // in the program itself it does not come to this
		if u := <-up; u.service != nil {
			_ = u.service.Close()
		}
	}()
	io.WriteString(screen.err, "echoserver: told to stop while it started\n")
	if told == refused {
		return nil, exitFault
	}
	return nil, exitOK
}
