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
// the error says so, and Done is closed when the last has. If an event loop fails meanwhile, the error tells of that too. A nil
// ctx panics, and nothing has begun.
//
// In a callback, which it would have to wait for, Shutdown begins the end and returns an error that matches ErrInCallback at
// once; ctx's deadline still holds, but not its cancelling, and Done tells when the end is over. On an engine that ends already
// it returns ErrClosed at once.
func (e *Engine) Shutdown(ctx context.Context) error {
	_ = ctx.Err() // a nil one panics here
	inside := e.inCallback("Shutdown", endsAnyway, false)
	if first, err := e.beginEnd(ErrClosed); !first {
		return err
	}
	if inside != nil {
		go e.drainUntil(ctx.Deadline())
		return inside
	}
	return e.drain(ctx)
}

// Close aborts every session and ends the engine. It returns ErrClosed if the engine was ended, or being ended,
// before (a Shutdown in progress then has nothing left to wait for), and an error if sessions are left and for a second
// none of them ends, because callbacks do not return; Done is closed when the last has. In a callback it begins the end as
// well, but returns an error that matches ErrInCallback at once.
func (e *Engine) Close() error {
	inside := e.inCallback("Close", endsAnyway, false)
	e.hurry()
	first, err := e.beginEnd(ErrClosed)
	e.killAll()
	if !first {
		return err
	}
	if inside != nil {
		go e.finish()
		return inside
	}
	return e.finish()
}

const endsAnyway = "the engine ends, but not before the callback returns: Done tells when it has"

// beginEnd starts the end: nothing is accepted or dialled from here on. Only one caller is the first, and has to see it through;
// the others get what to return. An engine that never started ends here. It waits for nobody.
func (e *Engine) beginEnd(why error) (first bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.state.get()
	if before == StateDraining || before == StateEnded {
		return false, ErrClosed
	}
	e.err = why
	e.state.set(StateDraining)
	e.stop()
	if before == StateNew {
		e.state.set(StateEnded)
		close(e.done)
		return false, nil
	}
	for _, l := range e.listeners {
		l.unbind()
	}
	for _, l := range e.loops {
		l.Wake() // for connections that await their PROXY header, which are no sessions yet
	}
	return true, nil
}

// stopping reports whether the end has begun.
func (e *Engine) stopping() bool { return e.life.Err() != nil }

// endLate ends a session that was made while the end began. The goroutine that ends the engine publishes that first and takes
// stock of the sessions then; a loop lists the new session first and looks then whether the end has begun (OnOpen). So one of the
// two sees the other.
func (e *Engine) endLate(d *session.Driver) {
	if e.grace.Err() != nil {
		d.Kill(errClosing)
	} else {
		d.End(session.ErrShutdown)
	}
}

// drain ends the engine that has begun to end.
func (e *Engine) drain(ctx context.Context) error {
	e.eachSession(endSession)
	err := e.awaitEmpty(ctx)
	if err != nil {
		e.abort()
	}
	return errors.Join(err, e.finish())
}

// endSession disconnects a session, but not a connection whose requests its server lets end.
func endSession(d *session.Driver) {
	if !endsItself(d) {
		d.End(session.ErrShutdown)
	}
}

// drainUntil is drain with a deadline, if bounded. Its caller does not wait, and may have cancelled the context.
func (e *Engine) drainUntil(deadline time.Time, bounded bool) {
	ctx := context.Background()
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	_ = e.drain(ctx)
}

// abort ends the time for draining: what is left of the sessions is aborted.
func (e *Engine) abort() {
	e.hurry()
	e.killAll()
}

func (e *Engine) killAll() { e.eachSession(func(d *session.Driver) { d.Kill(errClosing) }) }

// awaitEmpty waits until the last session has left, until nobody drains any more, or for ctx, whose error it returns.
func (e *Engine) awaitEmpty(ctx context.Context) error {
	for e.sessions.Load() > 0 {
		select {
		case <-e.emptied:
		case <-e.grace.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// finish takes the loops down when the last session has left, and waits for that as outlast does.
func (e *Engine) finish() error {
	go func() {
		for e.sessions.Load() > 0 {
			<-e.emptied
		}
		e.tearDown()
	}()
	return e.outlast()
}

// patience is how long it may take until the next of the sessions that were told to end has ended, before callbacks are
// blamed.
const patience = time.Second

var errStuck = errors.New("a callback does not return")

// outlast waits for the end, as long as sessions end on the way, and returns what went wrong.
func (e *Engine) outlast() error {
	for left := e.sessions.Load(); ; {
		t := time.NewTimer(patience)
		select {
		case <-e.done:
			t.Stop()
			return e.faults()
		case <-t.C:
		}
		now := e.sessions.Load()
		if now == left && now > 0 {
			return errors.Join(fmt.Errorf("engine: %d sessions cannot be ended: %w", now, errStuck), e.faults())
		}
		left = now
	}
}

// outwait waits for an end that somebody else has begun, but not longer than this ctx: then what is left is aborted.
func (e *Engine) outwait(ctx context.Context) error {
	select {
	case <-e.done:
		return e.faults()
	case <-ctx.Done():
		e.abort()
		return errors.Join(ctx.Err(), e.outlast())
	}
}

// tearDown ends the loops. No session is left, or a loop has failed and ends its own.
func (e *Engine) tearDown() {
	e.acceptors.Wait()
	e.dials.Wait()
	for _, l := range e.loops {
		l.Halt()
		l.Close()
	}
	close(e.unwatch)
	<-e.unwatched
	e.spare.Close()
	e.mu.Lock()
	e.state.set(StateEnded)
	e.mu.Unlock()
	e.log.Flush(flushTime)
	close(e.done)
}

// fail ends an engine that nobody asked to end (T5). If somebody has, the fault is told all the same. A loop calls it before it
// ends, so that a caller that waits for the end learns of the fault.
func (e *Engine) fail(fault error) {
	e.log.Error("an event loop has failed, the engine ends", fault)
	e.mu.Lock()
	e.fault = errors.Join(e.fault, fault)
	e.mu.Unlock()
	go func() {
		if first, _ := e.beginEnd(nil); first {
			e.tearDown()
		}
	}()
}

// faults returns what went wrong by itself, nil if nothing did.
func (e *Engine) faults() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fault
}
