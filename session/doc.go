// Package session is the content's side of servercore: a connection as a struct to embed, four callbacks, and a
// gathered, bounded send queue. It opens no socket and reads no clock; package engine brings both.
//
//	type Player struct {
//		session.Session
//		name string
//	}
//
//	func (p *Player) OnRecv(data []byte) { p.Send(data) }
//
// # Callbacks
//
// OnConnected comes first, then OnRecv, OnSend and posted functions in any order, then OnDisconnected, once and
// last, whatever happened. All callbacks of a session run on its loop, one at a time, never inside one another.
// They must not wait: other sessions share the loop. What must wait belongs on another goroutine, which may use
// every method of [Session], or in sessions whose callbacks run on workers (engine.Offload): for those, "the loop" on
// these pages means their order, not a goroutine. [Session.Post] and [Session.AfterFunc] have functions run there.
//
// # Sending
//
// Send copies, bounds and returns. The loop gathers what is queued into one write. OnSend reports what the kernel
// took, exactly: at any moment
//
//	accepted by Send = sum of OnSend + Pending + dropped at the end
//
// and after an orderly end nothing was dropped and the peer's system has acknowledged the sum of OnSend.
//
// A [Group] is a room: what is broadcast there is copied once and queued for every member.
//
// # States
//
//	open ──Disconnect, idle, Shutdown──▶ draining ──queue out, FIN, all acknowledged, peer's FIN or linger over──▶ closed
//	 ├─────peer's FIN──────────────────▶ draining ──queue out, all acknowledged──────────────────────────────────▶ closed
//	 ├─────a failed write, a reset─────▶ severed ───what was received before is delivered────────────────────────▶ closed
//	 └─────Abort, SendLimit policy, stall, panic─────────────────────────────────────────────────────────────────▶ closed
//
//	            Send        OnRecv       reads from the peer
//	open        accepts     yes          yes, unless paused
//	draining    after the peer's FIN     -
//	            accepts     -            nothing more comes
//	draining    after our decision
//	            ErrClosed   no           and discards
//	severed     ErrClosed   yes          what our kernel has received already
//	closed      ErrClosed   no           no
//
// A draining peer is waited for as long as it takes 240 bytes a second or more, on average; one that takes nothing for DrainTimeout is
// reset. What it has taken is what its system has acknowledged: a session is not closed before that.
//
// Each direction can end by itself: CloseWrite finishes ours and leaves the session open for what the peer still sends;
// a [HalfCloser] stays open after the peer's FIN until it calls CloseWrite or Disconnect, or is sent nothing for HalfCloseTimeout.
//
// # Ownership
//
//	OnRecv's data         the loop's; read-only, yours until OnRecv returns
//	Send's p              yours; copied before Send returns, or, where it is part of OnRecv's data, when that returns
//	SendBuffer's buffer   the session's from the call on, also when it fails
//	Broadcast's p         yours; copied before Broadcast returns
//	addresses             yours to keep, not to modify
//
// # Guaranteed, and not
//
// Guaranteed: what docs/contract.md promises, L1 to E4. Not guaranteed: that bytes taken
// by the kernel are read by the peer (a later reset may lose them; only an answer of the peer's proves that);
// where a message is cut into OnRecv calls; on which loop a session runs; the order of callbacks of different
// sessions.
//
// # Invariants
//
// For those who change this package. Each is cited where it is upheld.
//
//	I1  Callbacks run on the loop, or in the session's order on workers, one at a time: call* are reached from
//	    Driver methods only, and Session methods
//	    never call content.
//	I2  The last callback: finish runs callDisconnected once for each callConnected, also after a goroutine was
//	    lost, because it notes each step before it takes it.
//	I3  mu is not held while content runs or the transport is called.
//	I4  No request is lost and none wakes twice: whoever asks publishes first and then sets scheduled; the loop
//	    clears scheduled first and then looks.
//	I5  Bytes leave in the order of acceptance: push and gather use one list under mu, the scratch memory comes
//	    first and is used only while no segment exists. It may be a piece of the running OnRecv's input; settle
//	    has it written, or moved to segments, before the input is given back.
//	I6  After Transport.Close the connection is not touched: every path there goes through finish, which enters
//	    closed first, and flush, steer and rearm do nothing then.
//	I7  One owner per buffer reference: a segment owns one, pop releases it, nothing else does.
//	I8  accepted = sent + pending + dropped: push and add add to size, consume and drop take from it,
//	    and nothing else does; reclaim and compact move bytes and leave it as it is.
//	I9  A membership is in the lists of its group and its session, or in neither: both change under the mu of both.
//	    A group's mu comes before a session's; no two groups' are held together, nor two sessions'. A closed session
//	    gets no new one.
//	I10 A session's charge is the memory its segments hold, but for buffers that have a charge in common with other queues, whenever its
//	    mu is free: account follows each change. A budget's reaping comes before a session's mu, and nobody takes it who has a group's;
//	    its mu and lending come after. Segments are replaced (compact) or dropped by others than the loop only while the session is
//	    blocked: no loop has them in hand then.
//	I11 A severed session delivers what was received and nothing else: sever empties the queue and ends Send once, drained tells when
//	    all was delivered, and Disconnect, Abort or LingerTimeout of a pause end it before.
//	I12 No orderly close while the kernel holds bytes of ours: finish(false) is reached from windUp, which has seen Unsent at 0, from a
//	    severed session, or after the linger.
package session
