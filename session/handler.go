package session

import "net"

// Handler is the content's side of a session: a struct that embeds [Session] and overrides the callbacks it
// wants. Embedding supplies no-op defaults and the one unexported method that makes the struct a Handler.
//
// All callbacks of one session run on its loop, one at a time, never inside one another and with no lock held.
// A callback must not wait (for a database, a channel, another session): it holds the loop and every session on
// it, unless the listener has engine.Offload. A panic or runtime.Goexit ends that session alone, with a reset and the
// reason ErrPanic. A handler may have more callbacks: [Writability], [HalfCloser].
type Handler interface {
	// OnConnected is the first callback. remote stays valid for good.
	OnConnected(remote net.Addr)

	// OnRecv brings bytes in the order the peer sent them, 64 KiB at the most, cut wherever the network cut
	// them. data is read-only and valid until OnRecv returns: copy what is kept. Send may be given data. With a
	// framer data is one packet, whole.
	OnRecv(data []byte)

	// OnSend tells that the kernel has taken n more bytes of what Send accepted; it runs once per gathered
	// write. The sum of all n is exact. Taken by the kernel is not yet read by the peer. With a framer n is the
	// payloads of the packets that are out whole, and a write that completes none is not told.
	OnSend(n int)

	// OnDisconnected is the last callback; it runs exactly once for each OnConnected. The descriptor is closed
	// or about to be, Send fails, Err tells why.
	OnDisconnected(remote net.Addr)

	session() *Session
}

// Factory makes the handler of one new connection. It is called once per admitted connection, on the loop the
// session will live on, so it must not wait. It must return a new handler each time; nil, or a handler that
// already had a connection, refuses the connection and is logged.
type Factory func() Handler

// Events is the other way to receive a session's callbacks: functions instead of methods, any of which may be
// nil. The guarantees are those of [Handler].
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
		return func() Handler { return &markedEventSession{eventSession{events: shared}} }
	}
	return func() Handler { return &eventSession{events: shared} }
}

type markedEventSession struct{ eventSession }

func (s *markedEventSession) OnWritable(writable bool) { s.events.OnWritable(&s.Session, writable) }

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
