package session

// A Tap is told what passes between a session and its connection, as it passes: a recording. Its methods are called on the session's loop,
// must not wait, and must not call the session.
type Tap interface {
	// Received gets bytes that were read from the connection, before the session has looked at them. They are the caller's again when it
	// returns.
	Received(data []byte)

	// Sent tells that the kernel has taken the first n bytes of bufs. They are the caller's again when it returns.
	Sent(bufs [][]byte, n int)

	// PeerFinished tells of the peer's FIN. It is not called after Broken: a failed connection reads as one whose peer has finished.
	PeerFinished()

	// Finished tells that our FIN is sent.
	Finished()

	// Broken tells why the connection takes nothing more. It may be called again, and Received too.
	Broken(err error)

	// Closed comes last, just before the connection is closed, with a reset or without. reason is that of Session.Err.
	Closed(reset bool, reason error)
}

// UseTap has the session tell t what passes. It is called after Bind and before Connected.
func (d *Driver) UseTap(t Tap) { (*Session)(d).ensureExtras().tap = t }

// tap returns what UseTap has set, nil without. The loop's own.
func (s *Session) tap() Tap {
	if r := s.rare.Load(); r != nil {
		return r.tap()
	}
	return nil
}
