package session

import "net"

// Handler is a session as the application writes it: a struct that embeds [Session] and overrides the callbacks it wants. Embedding
// supplies the other callbacks, which do nothing, and the unexported method that makes the struct a Handler.
//
// All callbacks of a session run on its loop, one at a time, never inside one another and with no lock held. A callback must not wait, be it
// for a database, a channel or another session: it holds the loop and every session on it, unless the listener has engine.Offload. A
// panic or runtime.Goexit in a callback ends that session alone, by a reset, and Err matches ErrPanic.
//
// A handler may have more callbacks: [Writability], [HalfCloser], [TextReceiver].
type Handler interface {
	// OnConnected is the first callback. remote stays valid for good. It is made for this call and equal to what RemoteAddr returns, but not the same
	// pointer.
	OnConnected(remote net.Addr)

	// OnRecv brings the bytes that the peer has sent, in order. Of a plain stream, or of TLS, it brings 64 KiB at most in one call, and
	// where one call ends and the next begins is up to the network. With a framer data is one whole packet, with WebSocket one whole message,
	// whatever its size. data is read-only, and valid until OnRecv returns: copy what you keep. It may be given to Send.
	OnRecv(data []byte)

	// OnSend tells that the kernel has taken n more of the bytes that Send has accepted. It is called once per gathered write, and the sum of
	// all n is exact. "Taken by the kernel" is not "read by the peer". With a framer n is the payload of the packets that are now out
	// whole, and a write that completes no packet is not told.
	OnSend(n int)

	// OnDisconnected is the last callback. It is called exactly once for each OnConnected. The connection is closed or about to be, Send
	// fails, and Err tells why.
	OnDisconnected(remote net.Addr)

	session() *Session
}

// Of returns the session of h, as code that is given handlers of any type needs it: the methods of the handler's own struct may hide those of
// Session. It is nil if h is nil. Any goroutine.
func Of(h Handler) *Session {
	if h == nil {
		return nil
	}
	return h.session()
}

// A TextReceiver is a handler that gets the text messages of a WebSocket apart. Without OnText they come to OnRecv, as binary ones do. With a
// framer everything comes to OnRecv.
type TextReceiver interface {
	// OnText brings one text message, which is UTF-8. What holds for OnRecv holds for it.
	OnText(p []byte)
}

// Factory makes the handler of a new connection. It is called once per admitted connection, on the loop that the session will live on, so it
// must not wait. It must return a new handler each time. A connection for which it returns nil, or a handler that has had a
// connection, is refused and logged.
type Factory func() Handler

// Events is the other way to receive a session's callbacks: functions instead of methods. Any of them may be nil. The guarantees are those of
// [Handler].
type Events struct {
	OnConnected    func(s *Session, remote net.Addr)
	OnRecv         func(s *Session, data []byte)
	OnSend         func(s *Session, n int)
	OnDisconnected func(s *Session, remote net.Addr)
	OnWritable     func(s *Session, writable bool) // of Writability
}

// Factory returns a factory whose sessions call the functions of e, as e is now.
func (e Events) Factory() Factory {
	shared := &e
	if shared.OnWritable != nil {
		return func() Handler { return &writableEventSession{eventSession{events: shared}} }
	}
	return func() Handler { return &eventSession{events: shared} }
}

// eventSession is the handler that calls the functions of Events.
type eventSession struct {
	Session
	events *Events
}

func (s *eventSession) OnConnected(remote net.Addr) {
	if f := s.events.OnConnected; f != nil {
		f(&s.Session, remote)
	}
}

func (s *eventSession) OnRecv(data []byte) {
	if f := s.events.OnRecv; f != nil {
		f(&s.Session, data)
	}
}

func (s *eventSession) OnSend(n int) {
	if f := s.events.OnSend; f != nil {
		f(&s.Session, n)
	}
}

func (s *eventSession) OnDisconnected(remote net.Addr) {
	if f := s.events.OnDisconnected; f != nil {
		f(&s.Session, remote)
	}
}

// writableEventSession is an eventSession whose Events has OnWritable.
type writableEventSession struct{ eventSession }

func (s *writableEventSession) OnWritable(writable bool) { s.events.OnWritable(&s.Session, writable) }
