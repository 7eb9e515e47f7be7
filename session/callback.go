package session

import (
	"runtime/debug"
	"time"
)

// Callback is a kind of the application's code, as logs and statistics name it.
type Callback uint8

// The callbacks.
const (
	CallConnected Callback = iota
	CallRecv
	CallSend
	CallDisconnected
	CallPost
	CallTimer
	CallHalfClose
	CallWritable
	CallText
	CallSplit
	CallLayer
	CallFactory // by the engine
	CallAdmit   // by the engine
	Callbacks   // how many there are
)

var callbackNames = [Callbacks]string{
	"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post", "AfterFunc", "OnHalfClose", "OnWritable", "OnText", "Framer.Split", "Layer", "Factory",
	"Admit",
}

// String returns the name of the method or option that brings the code in.
func (c Callback) String() string { return callbackNames[c] }

func (s *Session) callConnected() {
	defer s.containFailure()
	began := s.enterCallback(CallConnected)
	s.handler.OnConnected(s.peerAddr())
	s.leaveCallback(began)
}

func (s *Session) callRecv(data []byte) {
	defer s.containFailure()
	began := s.enterCallback(CallRecv)
	s.handler.OnRecv(data)
	s.leaveCallback(began)
}

func (s *Session) callText(h TextReceiver, data []byte) {
	defer s.containFailure()
	began := s.enterCallback(CallText)
	h.OnText(data)
	s.leaveCallback(began)
}

func (s *Session) callSend(n int) {
	defer s.containFailure()
	began := s.enterCallback(CallSend)
	s.handler.OnSend(n)
	s.leaveCallback(began)
}

func (s *Session) callWritable(writable bool) {
	defer s.containFailure()
	began := s.enterCallback(CallWritable)
	s.handler.(Writability).OnWritable(writable)
	s.leaveCallback(began)
}

func (s *Session) callDisconnected() {
	defer s.containFailure()
	began := s.enterCallback(CallDisconnected)
	s.handler.OnDisconnected(s.peerAddr())
	s.leaveCallback(began)
}

func (s *Session) callPost(f func()) {
	defer s.containFailure()
	began := s.enterCallback(CallPost)
	f()
	s.leaveCallback(began)
}

func (s *Session) callHalfClose(h HalfCloser) {
	defer s.containFailure()
	began := s.enterCallback(CallHalfClose)
	h.OnHalfClose()
	s.leaveCallback(began)
}

func (s *Session) callTimer(f func()) {
	defer s.containFailure()
	began := s.enterCallback(CallTimer)
	f()
	s.leaveCallback(began)
}

// callSplit cuts the next packet out of data. The framer may be the application's own.
func (s *Session) callSplit(f *framed, data []byte) (packet []byte, n int, err error) {
	defer s.containFailure()
	began := s.enterCallback(CallSplit)
	packet, n, err = f.stream.Next(f.splitter, data)
	s.leaveCallback(began)
	return packet, n, err
}

// The methods of a layer are contained like callbacks, but for Pending and NextAt: a fault there is one session's. ok is false if there was one.

// enterLayer precedes a call of a method that may change what the layer has to say.
func (s *Session) enterLayer(l *layered) (began time.Duration) {
	l.called()
	return s.enterCallback(CallLayer)
}

func (s *Session) callOpen(l *layered, dst, in []byte) (data []byte, used int, more bool, err error, ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	data, used, more, err = l.layer.Open(dst, in)
	s.leaveCallback(began)
	return data, used, more, err, true
}

func (s *Session) callOwn(l *layered, dst []byte, between bool) (wire []byte, ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	wire = l.layer.Own(dst, between)
	s.leaveCallback(began)
	return wire, true
}

func (s *Session) callSeal(l *layered, dst, plain []byte) (wire []byte, err error, ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	wire, err = l.layer.(Sealer).Seal(dst, plain)
	s.leaveCallback(began)
	return wire, err, true
}

func (s *Session) callFinish(l *layered, reason error) (ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	l.layer.Finish(reason)
	s.leaveCallback(began)
	return true
}

func (s *Session) callDiscard(l *layered) (ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	l.layer.Discard()
	s.leaveCallback(began)
	return true
}

func (s *Session) callEnded(l *layered) (err error) {
	defer s.containFailure()
	began := s.enterLayer(l)
	err = l.layer.Ended()
	s.leaveCallback(began)
	return err
}

func (s *Session) callDrop(l *layered) {
	defer s.containFailure()
	began := s.enterLayer(l)
	l.layer.Drop()
	s.leaveCallback(began)
}

func (s *Session) callExpire(l *layered, now time.Duration) (err error, ok bool) {
	defer s.containFailure()
	began := s.enterLayer(l)
	err = l.layer.Expire(now)
	s.leaveCallback(began)
	return err, true
}

// enterCallback precedes the application's code. It returns when that began, 0 if this call is not timed.
func (s *Session) enterCallback(c Callback) (began time.Duration) {
	s.inCallback, s.callback = true, c
	if s.conn.Scratch().Enter(c, s) {
		return s.conn.Now()
	}
	return 0
}

// leaveCallback follows it.
func (s *Session) leaveCallback(began time.Duration) {
	s.inCallback = false
	s.conn.Scratch().Leave()
	if began > 0 {
		s.loop.Times[s.callback].Record(s.conn.Now() - began)
	}
}

// containFailure ends the session, and it alone, when the application's code panicked or left by runtime.Goexit (L4). Goexit cannot be
// stopped: the frames above unwind too, so it asks for the rest of the turn anew.
func (s *Session) containFailure() {
	if !s.inCallback {
		return
	}
	s.inCallback = false
	s.conn.Scratch().Leave()
	value := panicText(recover()) // runs the value's own methods: not under mu (I3)
	reason := panicReason(s.callback.String(), value)
	s.mu.Lock()
	s.open, s.aborted = false, true
	s.decideEnd(reason)
	dropped := s.dropQueue()
	s.mu.Unlock()
	s.countDropped(dropped)
	s.conn.Failed(s.callback.String(), value, debug.Stack())
	if value == nil {
		s.conn.Again()
	}
}
