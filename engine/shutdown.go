package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Shutdown stops accepting and dialling, disconnects every session as Session.Disconnect does, with session.ErrShutdown as
// the reason, and returns nil when all have ended. If ctx ends before, what is left is aborted and ctx's error
// returned. A session whose callback does not return cannot be ended: if for a second after ctx none ends,
// the error says so, and Done is closed when the last has. A nil ctx panics, and nothing has begun.
func (e *Engine) Shutdown(ctx context.Context) error {
	_ = ctx.Err() // a nil one panics here
	if first, err := e.begin(ErrClosed); !first {
		return err
	}
	e.eachSession(func(d *session.Driver) { d.End(session.ErrShutdown) })
	err := e.awaitEmpty(ctx)
	if err != nil {
		e.aborting.Store(true)
		e.eachSession(func(d *session.Driver) { d.Kill(session.ErrAborted) })
	}
	return errors.Join(err, e.finish())
}

// Close aborts every session and ends the engine. It returns ErrClosed if the engine was ended, or being ended,
// before (a Shutdown in progress then has nothing left to wait for), and an error if sessions are left and for a second
// none of them ends, because callbacks do not return; Done is closed when the last has.
func (e *Engine) Close() error {
	e.aborting.Store(true)
	first, err := e.begin(ErrClosed)
	e.eachSession(func(d *session.Driver) { d.Kill(errClosing) })
	if !first {
		return err
	}
	return e.finish()
}

// begin starts the end: nothing is accepted or dialled from here on. Only one caller is the first, and has to see it through;
// the others get what to return. An engine that never started ends here.
func (e *Engine) begin(why error) (first bool, err error) {
	e.mu.Lock()
	switch e.state {
	case fresh:
		e.state, e.err = ended, why
		e.stop()
		close(e.done)
		e.mu.Unlock()
		return false, nil
	case ending, ended:
		e.mu.Unlock()
		return false, ErrClosed
	}
	e.state, e.err = ending, why
	e.stop()
	for _, l := range e.listeners {
		l.unbind()
	}
	e.mu.Unlock()
	e.acceptors.Wait()
	e.dials.Wait()
	for _, l := range e.loops {
		l.wake() // for those whose PROXY header has not come, which are no sessions yet
	}
	return true, nil
}

// stopping reports whether the end has begun.
func (e *Engine) stopping() bool { return e.life.Err() != nil }

// endLate ends a session that was made while the end began. Whoever ends the engine publishes that first and takes
// stock of the sessions then; a newcomer is enlisted first and looks then whether the end has begun. So one of the
// two sees the other.
func (e *Engine) endLate(d *session.Driver) {
	if e.aborting.Load() {
		d.Kill(errClosing)
	} else {
		d.End(session.ErrShutdown)
	}
}

// awaitEmpty waits until the last session has left, or ctx.
func (e *Engine) awaitEmpty(ctx context.Context) error {
	for e.sessions.Load() > 0 {
		select {
		case <-e.emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// patience is how long it may take until the next of the sessions that were told to end has ended, before callbacks are
// blamed.
const patience = time.Second

var errStuck = errors.New("a callback does not return")

// finish waits for the sessions that were told to end, as long as some do, then takes the loops down in the background.
func (e *Engine) finish() error {
	var stuck error
	for left := e.sessions.Load() + 1; e.sessions.Load() < left; {
		left = e.sessions.Load()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		stuck = e.awaitEmpty(ctx)
		cancel()
	}
	go func() {
		_ = e.awaitEmpty(context.Background())
		e.tearDown()
	}()
	if stuck != nil {
		return fmt.Errorf("engine: %d sessions cannot be ended: %w", e.sessions.Load(), errStuck)
	}
	<-e.done
	return nil
}

// tearDown ends the loops. It waits for callbacks that run, so this may take as long as content makes it.
func (e *Engine) tearDown() {
	for _, l := range e.loops {
		l.halt()
		l.release()
	}
	if e.unwatch != nil {
		close(e.unwatch)
		<-e.unwatched
	}
	e.spare.close()
	e.mu.Lock()
	e.state = ended
	e.mu.Unlock()
	close(e.done)
}

// fail ends an engine that nobody asked to end (T5).
func (e *Engine) fail(fault error) {
	if first, _ := e.begin(fault); first {
		e.log.error("engine ended by a fault", fault)
		e.tearDown()
	}
}
