package ongnet

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"

	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// The kinds of log lines, each of which is written once a second at most.
const (
	fullLine asynclog.Kind = iota
	failedLine
	panicLine
)

// loop is what the sessions of one of gnet's event loops share. It is the one task that gnet runs for all of them.
type loop struct {
	adapter *Adapter
	gnet    gnet.EventLoop
	index   int
	shared  *session.Loop
	scratch *session.Scratch
	memory  reactor.WriteMemory

	// Any goroutine.
	sessions, wakeUps atomic.Int64
	woken             atomic.Bool // a turn is on its way
	mu                sync.Mutex
	mail, spare       []*conn // those to be served, and the memory of the last turn's
}

// loopOf returns what we keep of a loop of gnet's.
func (a *Adapter) loopOf(g gnet.EventLoop) *loop {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.loops {
		if l.gnet == g {
			return l
		}
	}
	l := &loop{adapter: a, gnet: g, index: len(a.loops), shared: session.NewLoop(a.limits), scratch: session.NewScratch()}
	l.scratch.Watched(false)
	a.loops = append(a.loops, l)
	return l
}

// open makes a connection a session. It returns nil if the connection is refused.
func (l *loop) open(g gnet.Conn) *conn {
	a, c := l.adapter, &conn{Socket: reactor.Socket(g.Fd()), gnet: g, loop: l}
	refusals := a.admit()
	defer func() { // also if the factory has ended the goroutine
		if c.driver == nil {
			if value := recover(); value != nil {
				a.log.LimitedError(panicLine, "session factory failed, the connection is refused", "panic", value, "stack", string(debug.Stack()))
			}
			refusals.Add(1)
			_ = l.gnet.Close(g)
			a.free()
		}
	}()
	if refusals != &a.failed {
		return nil
	}
	local, remote := addresses(g)
	d, err := session.Bind(a.factory(), c, l.shared, nil, local, remote)
	if err != nil {
		a.log.Limited(failedLine, "connection refused: its session cannot be made", "err", err, "remote", remote)
		return nil
	}
	if remote.Network() == "tcp" {
		c.limitBuffer(a.options)
	}
	c.driver = d
	g.SetContext(c)
	a.accepted.Add(1)
	l.sessions.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns[c] = true; a.stopping { // Shutdown need not have seen it
		d.Kill(errKilled)
	}
	return c
}

// admit takes a place among the sessions, and returns where to count a refusal: for want of a place, or of a session.
func (a *Adapter) admit() *atomic.Int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := int64(a.options.MaxSessions)
	switch n := a.sessions.Add(1); {
	case a.stopping:
		return &a.closing
	case most > 0 && n > most:
		a.log.Limited(fullLine, "refusing connections: MaxSessions reached", "max", most)
		return &a.full
	}
	return &a.failed
}

// free gives a place back.
func (a *Adapter) free() {
	a.sessions.Add(-1)
	select {
	case a.left <- struct{}{}:
	default:
	}
}

// forget takes a session off the books that has ended.
func (l *loop) forget(c *conn) {
	l.adapter.mu.Lock()
	delete(l.adapter.conns, c)
	l.adapter.mu.Unlock()
	l.sessions.Add(-1)
	l.adapter.free()
}

// wake has gnet make a turn, and returns false if one is on its way. Any goroutine.
func (l *loop) wake() bool {
	return !l.woken.Swap(true) && l.gnet.Execute(context.Background(), l) == nil
}

// Run implements gnet.Runnable. It is a turn: it serves the connections that were posted.
func (l *loop) Run(context.Context) error {
	l.woken.Store(false) // before anything is looked at
	l.mu.Lock()
	mail := l.mail
	l.mail, l.spare = l.spare[:0], mail
	l.mu.Unlock()
	l.call(-1, func() {
		for i, c := range mail {
			mail[i] = nil
			c.serve()
		}
	})
	return nil
}

// call runs what gnet has called us for. A callback that calls runtime.Goexit ends gnet's loop: its sessions are ended then, and gnet after them.
// fd is a descriptor that gnet was about to close.
func (l *loop) call(fd int, f func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			panic(value) // not the application's
		}
		defer reactor.Socket(fd).Close()
		l.adapter.log.Error("gnet's event loop has ended: its sessions are reset, and gnet stops", errGoexit, "loop", l.index)
		_ = l.adapter.halt() // first: what is accepted for this loop now is lost
		l.endAll(l.adapter.open())
	}()
	f()
	returned = true
}

// endAll ends those of a list that are the loop's, also if callbacks end the goroutine again.
func (l *loop) endAll(list []*conn) {
	for i, c := range list {
		if c.loop == l {
			defer l.endAll(list[i+1:])
			c.end(errGoexit)
			return
		}
	}
}
