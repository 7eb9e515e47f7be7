package engine

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/servercore-go/servercore/internal/goroutines"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// ErrInCallback is what Shutdown, Close, Run, Dial and Ping return when a callback of the same engine calls them: they wait
// for what cannot happen before that callback has returned. Another goroutine may call them: go e.Shutdown(ctx).
var ErrInCallback = errors.New("called from a callback")

// Go does not say which goroutine runs, but a goroutine can read its own stack. It shows that it is a loop or a worker, and
// costs nothing until somebody asks.

var (
	enginePath  = reflect.TypeFor[Engine]().PkgPath() + "."
	reactorPath = reflect.TypeFor[reactor.Clock]().PkgPath() + "."
	sessionPath = reflect.TypeFor[session.Session]().PkgPath() + "."
)

// goroutineNames are the functions that tell loops, workers and callbacks.
var goroutineNames = goroutines.Names[session.Callback]{
	Loop:   reactor.RunFunc,
	Worker: reactor.WorkFunc,
	Calls: map[string]session.Callback{
		sessionPath + "(*Session).callConnected":    session.CallConnected,
		sessionPath + "(*Session).callRecv":         session.CallRecv,
		sessionPath + "(*Session).callText":         session.CallText,
		sessionPath + "(*Session).callSend":         session.CallSend,
		sessionPath + "(*Session).callDisconnected": session.CallDisconnected,
		sessionPath + "(*Session).callPost":         session.CallPost,
		sessionPath + "(*Session).callTimer":        session.CallTimer,
		sessionPath + "(*Session).callHalfClose":    session.CallHalfClose,
		sessionPath + "(*Session).callWritable":     session.CallWritable,
		sessionPath + "(*Session).callSplit":        session.CallSplit,
		sessionPath + "(*Session).callOpen":         session.CallLayer,
		sessionPath + "(*Session).callOwn":          session.CallLayer,
		sessionPath + "(*Session).callSeal":         session.CallLayer,
		sessionPath + "(*Session).callFinish":       session.CallLayer,
		sessionPath + "(*Session).callDiscard":      session.CallLayer,
		sessionPath + "(*Session).callEnded":        session.CallLayer,
		sessionPath + "(*Session).callExpire":       session.CallLayer,
		sessionPath + "(*Session).callDrop":         session.CallLayer,
		enginePath + "(*loop).callStart":            session.CallLayer,
		enginePath + "(*loop).callOwn":              session.CallLayer,
		enginePath + "(*loop).callOpen":             session.CallLayer,
		enginePath + "(*loop).callEnded":            session.CallLayer,
		enginePath + "(*loop).callDrop":             session.CallLayer,
		enginePath + "(*loop).callLayered":          session.CallLayer,
		enginePath + "(*loop).callFactory":          session.CallFactory,
		enginePath + "(*loop).callAdmit":            session.CallAdmit,
	},
	Ours: []string{enginePath, reactorPath, sessionPath},
}

// inCallback returns an error that matches ErrInCallback if the goroutine that calls runs a callback of this engine. For a
// worker that is not certain if those of another engine are at work too: then certain decides.
func (e *Engine) inCallback(method, advice string, certain bool) error {
	is := goroutineNames.Own()
	whose := ""
	switch {
	case is.Loop:
		l := e.loopOf(goroutines.ID())
		if l == nil {
			return nil
		}
		running := l.scratch.Running()
		if s := l.scratch.Whose(running); s != nil && running.Call != 0 {
			whose = fmt.Sprintf(" of session %d", s.ID())
		}
	case is.Worker:
		working := e.offloaded.Working.Load()
		if working == 0 || certain && working != reactor.AtWork() {
			return nil
		}
		whose = ", offloaded"
	default:
		return nil
	}
	where := goroutines.Position(is.From)
	if where != "" {
		where = ", " + where
	}
	return fmt.Errorf("engine: %s %w (%s%s%s); %s", method, ErrInCallback, is.Callback, whose, where, advice)
}

// loopOf returns the loop that is run by the goroutine of that number, nil if none of this engine's is.
func (e *Engine) loopOf(goroutine string) *loop {
	for _, l := range e.running() {
		if id := l.goroutine.Load(); id != nil && *id == goroutine {
			return l
		}
	}
	return nil
}

// present notes which goroutine is the loop's.
func (l *loop) present() {
	id := goroutines.ID()
	l.goroutine.Store(&id)
}
