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

// service is an engine and the surroundings of its process: signals, the service manager, the predecessor and the successor.
type service struct {
	*engine.Engine
	config      *config
	log         *slog.Logger
	stops       chan os.Signal
	restarts    chan os.Signal
	manager     *manager     // nil if there is none
	children    *children    // nil for a server inside another program
	chain       *chain       // nil for a server inside another program
	predecessor *predecessor // nil if there is none
	sockets     []socket     // listening sockets passed to this process
	managed     bool         // the sockets were opened by a service manager, for this process or for a predecessor
	listeners   []*engine.Listener
	secrets     *secrets   // handed over by the predecessor; nil for none
	tls         *tlsServer // nil without TLS
	recorder    *recorder  // nil without -record
	pages       *observer  // nil without -observe
	program     program
	stopStatus  func()
	main        bool     // this process is the main one: the service manager listens to it, and it may restart
	attempt     *attempt // the restart in progress, nil if there is none
}

// inherit takes the listening sockets that this process was started with: those of the predecessor, unless they are for another -addr,
// or those of a service manager.
func (s *service) inherit() (err error) {
	p := s.predecessor
	if p == nil {
		s.sockets, err = activated()
		s.managed = len(s.sockets) > 0
		return err
	}
	s.managed = p.addr == ""
	if s.secrets, err = takeSecrets(p.environ); err != nil {
		return err
	}
	if s.sockets, err = takeSockets(p.files); err != nil || s.managed || p.addr == s.config.addr {
		return err
	}
	for _, socket := range s.sockets {
		_ = socket.file.Close()
	}
	s.sockets = nil
	return nil
}

// listen adds a listener to the engine for -addr, or for each inherited socket.
func (s *service) listen() error {
	factory := modes[s.config.mode].factory(s.log)
	var opts []engine.Option
	if s.tls != nil {
		opts = append(opts, engine.TLS(s.tls.config))
	}
	if s.config.ws != "" {
		opts = append(opts, engine.WebSocket(s.config.webSocket()))
	}
	if s.recorder != nil {
		opts = append(opts, engine.Record(s.recorder.Writer))
	}
	if len(s.sockets) == 0 {
		l, err := s.Listen(s.config.network, s.config.address, factory, opts...)
		if err != nil {
			return fmt.Errorf("-addr %s: %w", s.config.addr, err)
		}
		s.listeners = append(s.listeners, l)
	}
	for _, socket := range s.sockets {
		l, err := s.Listen(socket.network, "", factory, append(opts[:len(opts):len(opts)], engine.From(socket.file))...)
		if err != nil {
			return fmt.Errorf("%s: %w", socket.file.Name(), err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// run serves until the process must end, restarts it on request, and returns the exit code.
func (s *service) run(ctx context.Context) int {
	answer := s.predecessor.answers()
	var readyErr error // of the message to the predecessor
	if s.predecessor != nil {
		readyErr = s.predecessor.accepts()
	} else {
		s.becomeMain()
		s.tell("READY=1", s.status())
	}
	for {
		restarts, outcome := s.restarts, (<-chan outcome)(nil)
		if !s.main { // a SIGUSR2 stays in its channel until this process is the main one
			restarts = nil
		}
		if s.attempt != nil {
			outcome = s.attempt.outcome
		}
		select {
		case <-s.Done():
			s.log.Error("the engine has stopped by itself", "err", s.Err())
			gone := s.attempt.cancelAndWait()
			s.attempt.killSuccessor()
			s.abort(gone)
			return exitFault
		case sig := <-s.stops:
			if len(answer) > 0 && <-answer != refused { // the answer came together with the signal
				s.becomeMain()
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
			s.succeed(a, readyErr)
		case <-restarts:
			s.restart(ctx)
		case o := <-outcome:
			if code, done := s.finishRestart(ctx, o); done {
				return code
			}
		}
	}
}

// succeed makes this process the main one after its predecessor has released it, or has died.
func (s *service) succeed(answer byte, readyErr error) {
	s.becomeMain()
	if answer == died || answer == silent && readyErr != nil {
		s.log.Warn("the predecessor has ended; this process serves in its place")
		s.chain.report("main %d", os.Getpid())
		s.tell(fmt.Sprintf("MAINPID=%d", os.Getpid()), "READY=1", s.status())
	}
}

// becomeMain makes this process the main one.
func (s *service) becomeMain() {
	s.main = true
	s.pages.own()
	s.manager.watch(s.Ping)
}

// tell sends lines of state to the service manager, if this process is the main one.
func (s *service) tell(state ...string) {
	if s.main {
		s.manager.tell(state...)
	}
}

func (s *service) status() string { return "STATUS=listening on " + addresses(s.listeners) }

// attempt is a restart in progress.
type attempt struct {
	cancel  context.CancelFunc
	killNow chan struct{} // closed to kill the new process instead of waiting until it has drained
	outcome chan outcome
}

var errRefused = errors.New("the predecessor goes on in place of this process")

// outcome is the result of a restart: a process that accepts connections, or an error.
type outcome struct {
	successor *successor
	err       error
}

// restart starts a new process of the program, on another goroutine.
func (s *service) restart(ctx context.Context) {
	if s.attempt != nil {
		s.log.Warn("not restarted: a restart is already in progress")
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{cancel, make(chan struct{}), make(chan outcome, 1)}
	s.attempt = a
	s.log.Info("restarting: starting a new process")
	s.tell(reloading()...)
	go func() {
		defer cancel()
		next, err := s.program.start(s.children, s.chain, s.listeners, s.inheritedAddr(), s.tls, s.pages)
		if err == nil {
			err = next.accepts(ctx, a.killNow)
		}
		a.outcome <- outcome{next, err}
	}()
}

// finishRestart hands over to the successor and returns the exit code. After a restart that failed, done is false and this process
// goes on.
func (s *service) finishRestart(ctx context.Context, o outcome) (code int, done bool) {
	if o.err != nil {
		s.attempt = nil
		s.log.Error("the restart has failed; this process goes on", "err", o.err)
		s.tell("READY=1", "STATUS=restart failed: "+o.err.Error())
		return 0, false
	}
	// A signal to stop that was sent before the successor was ready may arrive after its message. Meanwhile both accept.
	select {
	case sig := <-s.stops:
		s.attempt.outcome <- o
		return s.stop(s.stops, sig, "signal", sig.String()), true
	case <-time.After(noticeTime):
	}
	s.attempt = nil
	return s.retire(ctx, o.successor), true
}

// cancelAndWait cancels the restart. The channel is closed when the new process has ended.
func (a *attempt) cancelAndWait() <-chan struct{} {
	gone := make(chan struct{})
	if a == nil {
		close(gone)
		return gone
	}
	a.cancel()
	go func() {
		defer close(gone)
		if o := <-a.outcome; o.err == nil { // the new process was ready before the cancellation
			o.successor.end(a.killNow)
		}
	}()
	return gone
}

// killSuccessor makes cancelAndWait kill the new process.
func (a *attempt) killSuccessor() {
	if a != nil {
		close(a.killNow)
	}
}

// sessionPoll is how often a process that was replaced counts its sessions. The engine sends no event when the last one ends.
const sessionPoll = 100 * time.Millisecond

// retire hands over to the successor: it stops accepting, and waits until the sessions have ended, for at most -drain. It returns the
// exit code.
func (s *service) retire(ctx context.Context, next *successor) int {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.pages.handOver()
	s.stopStatus()
	s.chain.report("main %d", next.pid)
	if s.chain.first { // the service manager goes on to watch the first process of the container
		s.tell("READY=1", s.status())
	} else {
		s.tell(fmt.Sprintf("MAINPID=%d", next.pid), "READY=1", s.status())
	}
	s.manager.close() // from now on the service manager listens to the successor
	s.manager, s.main = nil, false
	next.release()
	s.log.Info("replaced by a new process; this one waits until its sessions have ended", "by", next.pid, "sessions", s.Stats().Sessions,
		"at_most", s.config.drain)
	if s.chain.first {
		return s.supervise(next)
	}
	return s.drain(ctx, next.pid, next.ended, s.stops, s.restarts)
}

// drain waits until the sessions have ended, for at most -drain, and returns the exit code.
func (s *service) drain(ctx context.Context, successor int, ended <-chan syscall.WaitStatus, stops, restarts chan os.Signal) int {
	tick := time.NewTicker(sessionPoll)
	defer tick.Stop()
	late := time.NewTimer(s.config.drain)
	defer late.Stop()
	report := func(status syscall.WaitStatus) {
		s.chain.report("ended %d %d", successor, exitCode(status))
		s.log.Warn("the process that has replaced this one has ended", "pid", successor, "how", describe(status))
		ended = nil
	}
	defer func() { // either this process reports the successor's status, or the first process of the container waits for it
		if ended == nil {
			return
		}
		if s.children.stop(); len(ended) > 0 {
			report(<-ended)
		}
	}()
	for {
		select {
		case <-s.Done():
			s.log.Error("the engine has stopped by itself", "err", s.Err())
			return exitFault
		case sig := <-stops:
			return s.stop(stops, sig, "signal", sig.String())
		case <-ctx.Done():
			return s.stop(stops, nil, "err", ctx.Err())
		case <-restarts:
			if s.chain.up != nil && ended != nil { // the first process of the container has not heard of the successor yet
				_ = syscall.Kill(successor, syscall.SIGUSR2)
				continue
			}
			s.log.Warn("not restarted: this process has already been replaced", "by", successor)
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

// stop drains the engine and returns the exit code. sig is the signal that asked for the stop, nil if there was none; why are keys and
// values for the log. A second signal aborts the draining. A third one has the default action of the system, so that even a server that
// hangs can be ended from the keyboard. SIGHUP does not count as a second signal: a terminal and its shell both send it, and a service
// manager may send it beside SIGTERM.
func (s *service) stop(stops chan os.Signal, sig os.Signal, why ...any) int {
	counted := sig != syscall.SIGHUP
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()
	gone := s.attempt.cancelAndWait()
	s.tell("STOPPING=1")
	s.log.Info("draining; a second signal aborts", append(why, "at_most", drainTimeout)...)

	late := time.After(endTimeout + time.Second) // do not wait longer for a new process that does not end
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
			s.attempt.killSuccessor()
			s.abort(gone)
			return exitFault
		case <-s.restarts:
			s.log.Warn("not restarted: this process is stopping")
		case err := <-drained:
			code, done = s.codeOf(err), true
		case <-gone:
			gone = nil
		case <-late:
			gone = nil
		}
	}
	return code
}

// abort resets every session, and waits up to a second until gone is closed.
func (s *service) abort(gone <-chan struct{}) {
	if err := s.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
		s.log.Error("the engine has failed while its sessions were aborted", "err", err)
	}
	if gone != nil {
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
	}
}

// codeOf logs the result of Shutdown and returns the exit code of a stop that was not aborted.
func (s *service) codeOf(err error) int {
	switch {
	case err == nil:
		s.log.Info("stopped")
	case errors.Is(err, context.DeadlineExceeded):
		// Not a fault: the stop was asked for and ended in time.
		s.log.Warn("stopped; some peers did not take their bytes in time and were reset", "after", drainTimeout)
	default:
		s.log.Error("the engine has failed to stop", "err", err)
		return exitFault
	}
	if err := s.Err(); err != nil && !errors.Is(err, engine.ErrClosed) {
		s.log.Error("the engine has failed while it was stopping", "err", err)
		return exitFault
	}
	return exitOK
}
