package engine

import (
	"net"
	"runtime/debug"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Trace has functions that the engine calls as things happen to connections and loops, in the manner of net/http/httptrace. Each may be nil. Do not
// change it after New.
//
// They run on event loops, on several at once, and on goroutines of the engine, in the midst of its work. So they must not wait, must not
// call runtime.Goexit (t.FailNow does), and must not call methods of the engine that wait: Shutdown, Close, Run, Dial, Ping, and those of
// Listener. A panic in one is recovered, logged at most once a second, and changes nothing else. A function that is called for one
// connection has returned before the next is called for it.
type Trace struct {
	// Accept and Refuse are called under the lock of the listener when its accepting loop has accepted the connection, and Refuse also when
	// descriptors are short. A function that takes long then delays, besides the loop, the next connections of that listener, Listener.Close
	// and the end of the engine. Engine.Stats, Session, Sessions, SessionStats and Closed take no such lock.

	// Accept is called for each connection that the kernel has given to a listener, before anything is decided about it. It is not called
	// for one that is shed for want of descriptors: only Refuse is. Goroutine: the accepting loop, or the listener's own.
	Accept func(TraceAccept)

	// Refuse is called for each connection that Stats.Refused counts, when it is counted. Goroutine: one of the loops, the listener's own,
	// or that of the caller of Dial or Upgrade.
	Refuse func(TraceRefuse)

	// Open is called for each session, those that are dialled included, just before its OnConnected. Goroutine: as for OnConnected.
	Open func(TraceOpen)

	// Close is called for each session that was opened, after its OnDisconnected, with what Engine.Closed has of it. Goroutine: the
	// session's loop.
	Close func(ClosedSession)

	// Stall is called when a callback has held its loop for longer than Options.StallWarning, once for each. Goroutine: the engine's watchdog, so one
	// that takes long delays the news of other stalls.
	Stall func(TraceStall)
}

// TraceAccept is a connection that was accepted.
type TraceAccept struct {
	Listener      string   // as ListenerStats names it
	Local, Remote net.Addr // of the connection: behind ProxyProtocol, Remote is the proxy's
}

// TraceRefuse is a connection that does not become a session.
type TraceRefuse struct {
	Listener string   // as ListenerStats names it, "" for a Dial and an Upgrade
	Remote   net.Addr // nil if it is not known
	Cause    string   // what counts it, as the label cause of Metrics has it: per_address for Refused.PerAddress
	Err      error    // what went wrong, nil if Cause says it all
}

// TraceOpen is a session that begins.
type TraceOpen struct {
	Listener string          // as ListenerStats names it, "" for a Dial and an Upgrade
	Handler  session.Handler // what the factory has made
	Session  *session.Session
}

// TraceStall is a callback that holds its loop.
type TraceStall struct {
	Loop     int              // which: the index in Stats.Loops
	Callback string           // as Timing names it
	Session  *session.Session // whose callback it is; nil if it has returned meanwhile, or has no session, as Factory and Admit
	For      time.Duration    // how long it has run by now, to about a quarter of StallWarning
}

// callTrace runs a function of the application's and contains its panic.
func (e *Engine) callTrace(name string, f func()) {
	defer func() {
		if value := recover(); value != nil {
			e.log.LimitedError(panicLine, "a function of Options.Trace failed", "function", name, "panic", value, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// traceAccept tells of a connection that was accepted.
func (e *Engine) traceAccept(o *origin, local, remote net.Addr) {
	if t := e.options.Trace; t != nil && t.Accept != nil {
		e.callTrace("Accept", func() { t.Accept(TraceAccept{o.label(), local, remote}) })
	}
}

// traceOpen tells of a session that begins.
func (l *loop) traceOpen(d *session.Driver) {
	if t := l.engine.options.Trace; t != nil && t.Open != nil && !isHTTP(d.Handler()) {
		l.engine.callTrace("Open", func() { t.Open(TraceOpen{d.Tally().Listener, d.Handler(), d.Session()}) })
	}
}

// traceStall tells of a callback that holds its loop.
func (e *Engine) traceStall(l *loop, call session.Running, held time.Duration) {
	if t := e.options.Trace; t != nil && t.Stall != nil {
		e.callTrace("Stall", func() { t.Stall(TraceStall{l.index, call.Callback.String(), l.scratch.Whose(call), held}) })
	}
}
