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
	signals     chan os.Signal // to stop
	restarts    chan os.Signal // SIGUSR2
	manager     *manager       // nil without
	predecessor *predecessor   // nil without
	sockets     []socket       // handed in
	managed     bool           // by a service manager, be it through predecessors
	listeners   []*engine.Listener
	program     program
	stopStatus  func()
}

// inherit finds the sockets that this process was started with: a predecessor's, unless they were for another -addr, or
// a service manager's.
func (s *service) inherit(environ []string) (err error) {
	if s.predecessor, err = findPredecessor(environ); err != nil {
		return err
	}
	if s.sockets, err = activated(); err != nil {
		return err
	}
	s.managed = len(s.sockets) > 0
	if p := s.predecessor; p != nil {
		s.managed = p.addr == ""
		s.sockets = p.sockets
		if !s.managed && p.addr != s.config.addr {
			for _, socket := range s.sockets {
				_ = socket.file.Close()
			}
			s.sockets = nil
		}
	}
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

// announce says that the server accepts, to whom it concerns. A predecessor tells the service manager itself, for that one listens
// to the main process only.
func (s *service) announce() error {
	s.manager.watch(s.Ping)
	if s.predecessor != nil {
		return s.predecessor.release()
	}
	s.manager.tell("READY=1", "STATUS=listening on "+addresses(s.listeners))
	return nil
}

// run waits for the end, replaces the process when asked to, and returns the exit code.
func (s *service) run(ctx context.Context) int {
	successor := make(chan outcome, 1)
	giveUp := func() {} // ends the attempt that is under way
	restarting := false
	for {
		select {
		case <-s.Done(): // nobody asked for it
			giveUp()
			s.log.Error("engine stopped by itself", "err", s.Err())
			return exitFault
		case sig := <-s.signals:
			giveUp()
			s.log.Info("draining; a second signal aborts", "signal", sig.String(), "at_most", drainTimeout)
			return s.stop()
		case <-ctx.Done():
			giveUp()
			s.log.Info("draining; a signal aborts", "at_most", drainTimeout)
			return s.stop()
		case <-s.restarts:
			if restarting {
				s.log.Warn("a restart is under way already")
				continue
			}
			restarting = true
			s.log.Info("restarting")
			s.manager.reloading()
			attempt, cancel := context.WithCancel(ctx)
			giveUp = func() {
				cancel()
				if o := <-successor; o.err == nil { // it has come up in this very moment
					_ = syscall.Kill(o.pid, syscall.SIGTERM)
				}
			}
			go func() {
				pid, err := s.program.succeed(attempt, s.listeners, s.inheritedAddr())
				cancel()
				successor <- outcome{pid, err}
			}()
		case o := <-successor:
			giveUp = func() {}
			if o.err == nil {
				return s.retire(ctx, o.pid)
			}
			restarting = false
			s.log.Error("not restarted; this process goes on", "err", o.err)
			s.manager.tell("READY=1", "STATUS=not restarted: "+o.err.Error())
		}
	}
}

// outcome is what an attempt to restart has brought: a process, or an error.
type outcome struct {
	pid int
	err error
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
func (s *service) retire(ctx context.Context, successor int) int {
	// From here on the service manager listens to the successor.
	s.manager.leave()
	s.manager.tell(fmt.Sprintf("MAINPID=%d", successor), "READY=1", "STATUS=listening on "+addresses(s.listeners))
	s.manager = nil
	s.stopStatus()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.log.Info("replaced; the sessions of this process may go on", "by", successor, "sessions", s.Stats().Sessions,
		"at_most", s.config.drain)
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	late := time.NewTimer(s.config.drain)
	defer late.Stop()
	for {
		select {
		case <-s.Done():
			s.log.Error("engine stopped by itself", "err", s.Err())
			return exitFault
		case sig := <-s.signals:
			s.log.Info("draining; a second signal aborts", "signal", sig.String(), "at_most", drainTimeout)
			return s.stop()
		case <-ctx.Done():
			return s.stop()
		case <-s.restarts:
			s.log.Warn("this process was replaced already", "by", successor)
		case <-late.C:
			s.log.Info("draining; a signal aborts", "sessions", s.Stats().Sessions, "at_most", drainTimeout)
			return s.stop()
		case <-tick.C:
			if s.Stats().Sessions == 0 {
				return s.stop()
			}
		}
	}
}

// stop drains the engine and returns the exit code. A signal cuts the draining short; a further one finds the default
// action of the system, so that even a server that hangs can be ended from the keyboard.
func (s *service) stop() int {
	s.manager.tell("STOPPING=1")
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()

	select {
	case sig := <-s.signals:
		signal.Stop(s.signals)
		s.log.Warn("aborting every session", "signal", sig.String())
		if err := s.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
			s.log.Error("abort", "err", err)
		}
		return exitFault
	case err := <-drained:
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
	}
	// A fault while draining is still a fault.
	if err := s.Err(); err != nil && !errors.Is(err, engine.ErrClosed) {
		s.log.Error("engine failed while it was stopping", "err", err)
		return exitFault
	}
	return exitOK
}
