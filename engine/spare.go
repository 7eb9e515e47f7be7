package engine

import "golang.org/x/sys/unix"

// acceptOnSpare takes one waiting connection on the spare descriptor, and tells whether one waited. If the spare can be replaced there
// are descriptors after all, and the connection is returned. Otherwise it is counted and reset. The listener's acceptMu is held meanwhile: its
// loop would take the descriptor.
func (e *Engine) acceptOnSpare(l *Listener) (p pendingConn, waiting bool) {
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	var err error
	missing := e.spare.Lend(func() { p, err = l.accept() })
	if err != nil {
		return pendingConn{}, false
	}
	if missing == nil || !e.mustShed(missing) {
		return p, true
	}
	e.countRefused(&l.origin, refusedDescriptors, p.remote, missing) // before the peer learns of it
	e.shed(p.fd)
	return pendingConn{}, true
}

// spareKept reports whether the engine can keep a connection that was accepted. Another descriptor may have been opened while the
// spare was lent. Then there is none, and the next connection that is accepted has to make room for it.
func (e *Engine) spareKept() bool {
	err := e.spare.Keep()
	return err == nil || !e.mustShed(err)
}

// mustShed reports whether closing a connection may bring the spare back. If not, serving without one is better than serving nobody.
func (e *Engine) mustShed(missing error) bool {
	if outOfDescriptors(missing) {
		return true
	}
	e.acceptErrors.Add(1)
	e.log.Limited(spareLine, "no descriptor can be kept in reserve; connections wait when descriptors run out", "err", missing)
	return false
}

// shed resets a connection and keeps the spare descriptor in its place.
func (e *Engine) shed(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
	if err := e.spare.Keep(); err != nil {
		e.mustShed(err)
	}
}
