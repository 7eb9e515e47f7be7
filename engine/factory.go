package engine

import (
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/servercore-go/servercore/session"
)

// callFactory makes the handler of a pending connection, whatever the application's code does.
func (l *loop) callFactory(p pendingConn) (h session.Handler, err error) {
	e := l.engine
	returned := false
	defer func() {
		l.scratch.Leave()
		l.making.Store(nil)
		if returned {
			return
		}
		value := recover()
		left := value == nil
		if left {
			value = "runtime.Goexit"
		}
		err = fmt.Errorf("%w: factory: %v", session.ErrPanic, value)
		if left { // nobody above will count it, nor tell
			e.countRefused(p.origin, refusedFactory, p.remote, err)
			p.attempt.fail(err)
		}
		e.log.LimitedError(panicLine, "session factory failed, the connection is refused", "panic", value, "stack", string(debug.Stack()))
	}()
	if a, ok := p.remote.(*net.TCPAddr); ok {
		l.making.Store(a)
	}
	began := time.Duration(0)
	if l.scratch.Enter(session.CallFactory, nil) {
		began = e.now()
	}
	h = p.origin.factory()
	returned = true
	if began > 0 {
		l.shared.Times[session.CallFactory].Record(e.now() - began)
	}
	return h, nil
}
