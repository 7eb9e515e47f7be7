package echoserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// service is a server and what the process has to do with the world: signals, the service manager, the process before it
// and the one after it.
type service struct {
	*engine.Engine
	config      *config
	log         *slog.Logger
	stops       chan os.Signal
	restarts    chan os.Signal
	manager     *manager     // nil without
	family      *children    // nil for a server inside another program
	chain       *chain       // likewise
	predecessor *predecessor // nil without
	sockets     []socket     // handed in
	managed     bool         // by a service manager, be it through predecessors
	listeners   []*engine.Listener
	program     program
	stopStatus  func()
	main        bool     // no predecessor is to be released; the service manager listens to this process
	attempt     *attempt // to restart, nil if none is under way
}

// inherit finds the sockets that this process was started with: a predecessor's, unless they were for another -addr, or
// a service manager's.
func (s *service) inherit() (err error) {
	p := s.predecessor
	if p == nil {
		s.sockets, err = activated()
		s.managed = len(s.sockets) > 0
		return err
	}
	s.managed = p.addr == ""
	if s.sockets, err = takeSockets(p.files); err != nil || s.managed || p.addr == s.config.addr {
		return err
	}
	for _, socket := range s.sockets {
		_ = socket.file.Close()
	}
	s.sockets = nil
	return nil
}

// listen tells the engine where to accept.
func (s *service) listen() error {
	factory := modes[s.config.mode].factory(s.log)
	if len(s.sockets) == 0 {
		l, err := s.Listen(s.config.network, s.config.address, factory)
		if err != nil {
			return fmt.Errorf("-addr %s: %w", s.config.addr, err)
		}
		s.listeners = append(s.listeners, l)
	}
	for _, socket := range s.sockets {
		l, err := s.Listen(socket.network, "", factory, engine.From(socket.file))
		if err != nil {
			return fmt.Errorf("%s: %w", socket.file.Name(), err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// run waits for the end, replaces the process when asked to, and returns the exit code.
func (s *service) run(ctx context.Context) int {
	answer := s.predecessor.answers()
	var gone error // the predecessor could not be told
	if s.predecessor != nil {
		gone = s.predecessor.accepts()
	} else {
		s.lead()
		s.tell("READY=1", s.status())
	}
	for {
		restarts, outcome := s.restarts, (<-chan outcome)(nil)
		if !s.main { // one that comes now waits
			restarts = nil
		}
		if s.attempt != nil {
			outcome = s.attempt.outcome
		}
		select {
		case <-s.Done(): // nobody asked for it
			s.log.Error("engine stopped by itself", "err", s.Err())
			gone := s.attempt.end()
			s.attempt.abort()
			s.abort(gone)
			return exitFault
		case sig := <-s.stops:
			if len(answer) > 0 && <-answer != refused { // it came together with the signal
				s.lead()
			}
			return s.stop(s.stops, sig, "signal", sig.String())
		case <-ctx.Done():
			return s.stop(s.stops, nil, "err", ctx.Err())
		case a := <-answer:
			answer = nil
			if a == refused {
				s.stop(s.stops, nil, "err", errRefused)
				return exitFault
			}
			s.lead()
			if a == died || a == silent && gone != nil {
				s.log.Warn("the predecessor has ended; this process serves in its place")
				s.chain.tell("main %d", os.Getpid())
				s.tell(fmt.Sprintf("MAINPID=%d", os.Getpid()), "READY=1", s.status())
			}
		case <-restarts:
			s.restart(ctx)
		case o := <-outcome:
			if o.err == nil {
				select { // a signal that was sent first may take longer to come than a byte; both processes accept meanwhile
				case sig := <-s.stops:
					s.attempt.outcome <- o
					return s.stop(s.stops, sig, "signal", sig.String())
				case <-time.After(lookTime):
				}
			}
			s.attempt = nil
			if o.err == nil {
				return s.retire(ctx, o.successor)
			}
			s.log.Error("not restarted; this process goes on", "err", o.err)
			s.tell("READY=1", "STATUS=not restarted: "+o.err.Error())
		}
	}
}

// lead makes this process the main one.
func (s *service) lead() {
	s.main = true
	s.manager.watch(s.Ping)
}

// tell is for what the main process tells the service manager.
func (s *service) tell(state ...string) {
	if s.main {
		s.manager.tell(state...)
	}
}

func (s *service) status() string { return "STATUS=listening on " + addresses(s.listeners) }

// attempt is a restart that is under way.
type attempt struct {
	cancel  context.CancelFunc
	hurry   chan struct{} // closed: the new process is killed and need not drain
	outcome chan outcome
}

var errRefused = errors.New("the predecessor goes on in place of this process")

// outcome is what an attempt to restart has brought: a process that accepts, or an error.
type outcome struct {
	successor *successor
	err       error
}

// restart starts the program anew.
func (s *service) restart(ctx context.Context) {
	if s.attempt != nil {
		s.log.Warn("a restart is under way already")
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{cancel, make(chan struct{}), make(chan outcome, 1)}
	s.attempt = a
	s.log.Info("restarting")
	s.tell(reloading()...)
	go func() {
		defer cancel()
		next, err := s.program.start(s.family, s.chain, s.listeners, s.inheritedAddr())
		if err == nil {
			err = next.accepts(ctx, a.hurry)
		}
		a.outcome <- outcome{next, err}
	}()
}

// end gives the attempt up. The channel is closed when the new process is gone.
func (a *attempt) end() <-chan struct{} {
	gone := make(chan struct{})
	if a == nil {
		close(gone)
		return gone
	}
	a.cancel()
	go func() {
		defer close(gone)
		if o := <-a.outcome; o.err == nil { // it has come up in this very moment
			o.successor.end(a.hurry)
		}
	}()
	return gone
}

// abort kills the new process.
func (a *attempt) abort() {
	if a != nil {
		close(a.hurry)
	}
}

// inheritedAddr is the -addr that a successor must have to take the sockets: any, if they are a service manager's.
func (s *service) inheritedAddr() string {
	if s.managed {
		return ""
	}
	return s.config.addr
}

// drainLook is how often a server that was replaced counts its sessions: the last one announces its leaving to nobody, and a process
// on its way out may look.
const drainLook = 100 * time.Millisecond

// retire stops accepting, for there is a successor, lets the sessions end by themselves for a while, and returns the exit code.
func (s *service) retire(ctx context.Context, next *successor) int {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.stopStatus()
	s.chain.tell("main %d", next.pid)
	if s.chain.first { // the manager goes on to watch the first process
		s.tell("READY=1", s.status())
	} else {
		s.tell(fmt.Sprintf("MAINPID=%d", next.pid), "READY=1", s.status())
	}
	s.manager.close() // from here on it listens to the successor
	s.manager, s.main = nil, false
	next.release()
	s.log.Info("replaced; the sessions of this process may go on", "by", next.pid, "sessions", s.Stats().Sessions,
		"at_most", s.config.drain)
	if s.chain.first {
		return s.supervise(next)
	}
	return s.drain(ctx, next.pid, next.ended, s.stops, s.restarts)
}

// drain waits until the sessions have ended, for at most -drain, and returns the exit code.
func (s *service) drain(ctx context.Context, successor int, ended <-chan syscall.WaitStatus, stops, restarts chan os.Signal) int {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	late := time.NewTimer(s.config.drain)
	defer late.Stop()
	report := func(status syscall.WaitStatus) {
		s.chain.tell("ended %d %d", successor, exitCode(status))
		s.log.Warn("the process that has replaced this one has ended", "pid", successor, "how", describe(status))
		ended = nil
	}
	defer func() { // its status is this process's to tell, or the first process's to wait for
		if ended == nil {
			return
		}
		if s.family.leave(); len(ended) > 0 {
			report(<-ended)
		}
	}()
	for {
		select {
		case <-s.Done():
			s.log.Error("engine stopped by itself", "err", s.Err())
			return exitFault
		case sig := <-stops:
			return s.stop(stops, sig, "signal", sig.String())
		case <-ctx.Done():
			return s.stop(stops, nil, "err", ctx.Err())
		case <-restarts:
			s.log.Warn("this process was replaced already", "by", successor)
		case status := <-ended:
			report(status)
		case <-late.C:
			return s.stop(stops, nil, "sessions", s.Stats().Sessions)
		case <-tick.C:
			if s.Stats().Sessions == 0 {
				return s.stop(stops, nil, "sessions", 0)
			}
		}
	}
}

// stop drains the engine and returns the exit code; sig is the signal that asked for it, nil if none did, and why goes to the
// log. A second signal cuts the draining short; a further one finds the default action of the system, so that even a server
// that hangs can be ended from the keyboard. SIGHUP does not count: it comes from a terminal and again from its shell, or
// beside the SIGTERM of a service manager.
func (s *service) stop(stops chan os.Signal, sig os.Signal, why ...any) int {
	counted := sig != syscall.SIGHUP
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()
	gone := s.attempt.end()
	s.tell("STOPPING=1")
	s.log.Info("draining; a second signal aborts", append(why, "at_most", drainTimeout)...)

	late := time.After(endTimeout + time.Second) // a new process that cannot be started nor killed keeps nobody
	code := exitOK
	for done := false; !done || gone != nil; {
		select {
		case sig := <-stops:
			if sig == syscall.SIGHUP || !counted {
				counted = counted || sig != syscall.SIGHUP
				continue
			}
			signal.Stop(stops)
			s.log.Warn("aborting every session", "signal", sig.String())
			s.attempt.abort()
			s.abort(gone)
			return exitFault
		case <-s.restarts:
			s.log.Warn("not restarted: this process stops")
		case err := <-drained:
			code, done = s.judge(err), true
		case <-gone:
			gone = nil
		case <-late:
			gone = nil
		}
	}
	return code
}

// abort ends every session, and waits for the end of an attempt to restart.
func (s *service) abort(gone <-chan struct{}) {
	if err := s.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
		s.log.Error("abort", "err", err)
	}
	if gone != nil {
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
	}
}

// judge returns the exit code of a stop that was not cut short.
func (s *service) judge(err error) int {
	switch {
	case err == nil:
		s.log.Info("stopped")
	case errors.Is(err, context.DeadlineExceeded):
		// The limit did what it is for: the stop was asked for and happened in time.
		s.log.Warn("stopped; some peers did not take their bytes in time and were reset", "after", drainTimeout)
	default:
		s.log.Error("stop", "err", err)
		return exitFault
	}
	// A fault while draining is still a fault.
	if err := s.Err(); err != nil && !errors.Is(err, engine.ErrClosed) {
		s.log.Error("engine failed while it was stopping", "err", err)
		return exitFault
	}
	return exitOK
}
