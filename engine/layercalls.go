package engine

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/servercore-go/servercore/session"
)

// The methods of a layer before there is a session, contained like callbacks: a fault there is one connection's (L4).

// callLayered makes the layer of a pending connection, whatever the application's code does. It is nil if there is none.
func (l *loop) callLayered(p pendingConn) (layer session.Handshaker) {
	returned := false
	var err error
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	layer = l.engine.newLayer(p.origin, Handshake{Dialed: p.attempt != nil, Address: p.origin.address, Local: p.local, Remote: p.remote}, p.recording)
	returned = true
	return layer
}

// callStart has a layer begin, whatever its code does.
func (l *loop) callStart(layer session.Handshaker, wake func()) (err error) {
	returned := false
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	layer.Start(wake)
	returned = true
	return nil
}

// callOpen gives a layer what was received, whatever its code does.
func (l *loop) callOpen(layer session.Handshaker, in []byte) (used int, more bool, err error) {
	returned := false
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	_, used, more, err = layer.Open(nil, in)
	ask(err)
	returned = true
	return used, more, err
}

// callOwn asks a layer for bytes of its own, whatever its code does.
func (l *loop) callOwn(layer session.Handshaker, dst []byte) (out []byte, err error) {
	returned := false
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	out = layer.Own(dst, true)
	returned = true
	return out, nil
}

// callEnded tells a layer that the peer has sent FIN, whatever its code does. It returns nil if the layer can go on without more input.
func (l *loop) callEnded(layer session.Handshaker) (err error) {
	returned := false
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	err = layer.Ended()
	returned = true
	return err
}

// callDrop has a layer give back what it holds, whatever its code does. It comes last: the layer may end the goroutine.
func (l *loop) callDrop(layer session.Layer) {
	returned := false
	var err error
	defer l.containLayer(&returned, &err)
	l.scratch.Enter(session.CallLayer, nil)
	layer.Drop()
	returned = true
}

// ask has an error panic here, if it is going to: it may be of the application's code, and a nil pointer.
func ask(err error) {
	if err != nil {
		_ = errors.Is(err, io.ErrUnexpectedEOF)
		_ = err.Error()
	}
}

// containLayer is deferred around a layer's code before there is a session.
func (l *loop) containLayer(returned *bool, err *error) {
	l.scratch.Leave()
	if *returned {
		return
	}
	value := recover()
	if value == nil {
		value = "runtime.Goexit"
	}
	*err = fmt.Errorf("%w: %w: %v", session.ErrHandshake, session.ErrPanic, value)
	l.engine.log.LimitedError(panicLine, "layer failed, the connection is refused", "panic", value, "stack", string(debug.Stack()))
}
