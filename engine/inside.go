package engine

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

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

	loopFunc   = reactor.RunFunc
	workerFunc = reactor.WorkFunc

	// callFuncs are the functions that call the application's code.
	callFuncs = map[string]session.Callback{
		sessionPath + "(*Session).callConnected":    session.CallConnected,
		sessionPath + "(*Session).callRecv":         session.CallRecv,
		sessionPath + "(*Session).callSend":         session.CallSend,
		sessionPath + "(*Session).callDisconnected": session.CallDisconnected,
		sessionPath + "(*Session).callPost":         session.CallPost,
		sessionPath + "(*Session).callTimer":        session.CallTimer,
		sessionPath + "(*Session).callHalfClose":    session.CallHalfClose,
		sessionPath + "(*Session).callWritable":     session.CallWritable,
		sessionPath + "(*Session).callSplit":        session.CallSplit,
		enginePath + "(*loop).callFactory":          session.CallFactory,
		enginePath + "(*loop).callAdmit":            session.CallAdmit,
	}
)

// function is what a function on a stack says about the goroutine.
type function struct {
	loop, worker bool
	calls        bool // it calls the application's code
	callback     session.Callback
	ours         bool // of package engine, reactor, session or runtime
}

// functionAt returns what is at a return address.
func functionAt(pc uintptr) (f function) {
	fn := runtime.FuncForPC(pc - 1)
	if fn == nil {
		return f
	}
	name := fn.Name()
	if strings.HasPrefix(name, "runtime.") {
		return function{ours: true}
	}
	if !strings.HasPrefix(name, enginePath) && !strings.HasPrefix(name, reactorPath) && !strings.HasPrefix(name, sessionPath) {
		return f
	}
	f = function{loop: name == loopFunc, worker: name == workerFunc, ours: true}
	f.callback, f.calls = callFuncs[name]
	return f
}

// stackReader remembers what is at return addresses: there are few different ones in many stacks.
type stackReader map[uintptr]function

func (r stackReader) at(pc uintptr) function {
	f, known := r[pc]
	if !known {
		f = functionAt(pc)
		r[pc] = f
	}
	return f
}

// role is what a goroutine is.
type role struct {
	function         // loop or worker, and the innermost callback that it runs
	from     uintptr // where the application's code called ours, 0 if it did not
}

// roleOf reads a stack.
func roleOf(stack []uintptr, at func(pc uintptr) function) (is role) {
	for _, pc := range stack {
		f := at(pc)
		if !f.ours && is.from == 0 && !is.calls {
			is.from = pc
		}
		if f.calls && !is.calls {
			is.calls, is.callback = true, f.callback
		}
		is.loop, is.worker = is.loop || f.loop, is.worker || f.worker
	}
	return is
}

// ownRole tells what the goroutine that calls is. It takes some microseconds.
func ownRole() role {
	var few [64]uintptr
	n := runtime.Callers(2, few[:])
	if n < len(few) {
		return roleOf(few[:n], functionAt)
	}
	pcs := few[:]
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	return roleOf(pcs[:n], functionAt)
}

// inCallback returns an error that matches ErrInCallback if the goroutine that calls runs a callback of this engine. For a
// worker that is not certain if those of another engine are at work too: then certain decides.
func (e *Engine) inCallback(method, advice string, certain bool) error {
	is := ownRole()
	whose := ""
	switch {
	case is.loop:
		l := e.loopOf(goroutineID())
		if l == nil {
			return nil
		}
		running := l.scratch.Running()
		if s := l.scratch.Whose(running); s != nil && running.Call != 0 {
			whose = fmt.Sprintf(" of session %d", s.ID())
		}
	case is.worker:
		working := e.offloaded.Working.Load()
		if working == 0 || certain && working != reactor.AtWork() {
			return nil
		}
		whose = ", offloaded"
	default:
		return nil
	}
	return fmt.Errorf("engine: %s %w (%s%s%s); %s", method, ErrInCallback, is.callback, whose, position(is.from), advice)
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

// position tells where in the application's code a return address is.
func position(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return fmt.Sprintf(", in %s at %s:%d", f.Function, filepath.Base(f.File), f.Line)
}

// goroutineID returns the number of the goroutine that calls, as stacks have it. It takes some microseconds.
func goroutineID() string {
	// "goroutine 18 [running]:"
	var b [64]byte
	fields := bytes.Fields(b[:runtime.Stack(b[:], false)])
	if len(fields) < 2 {
		return ""
	}
	return string(fields[1])
}
