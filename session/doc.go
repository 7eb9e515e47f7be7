// Package session is the application's side of servercore: a connection as a struct to embed, four callbacks, and a gathered, bounded send
// queue. It opens no socket and reads no clock; package engine brings both.
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
// OnConnected comes first. OnRecv, OnSend and posted functions follow in any order. OnDisconnected comes last, exactly once, whatever
// happened. All callbacks of a session run on its loop, one at a time, never inside one another.
//
// A callback must not wait: other sessions share the loop. What must wait belongs on another goroutine, which may use every method of
// [Session]. Or it belongs in sessions whose callbacks run on workers (engine.Offload): for those, "the loop" on these pages means the order of
// their callbacks, not a goroutine. [Session.Post] and [Session.AfterFunc] run functions on the loop.
//
// # Sending
//
// Send copies, bounds and returns. The loop gathers what is queued into one write. OnSend reports what the kernel took, exactly. At any moment
//
//	accepted by Send = sum of OnSend + Pending + dropped at the end
//
// After an orderly end nothing was dropped, and the peer's system has acknowledged the sum of OnSend.
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
//	state                          Send        OnRecv                      reads from the peer
//	open                           accepts     yes                         yes, unless paused
//	draining after the peer's FIN  accepts     nothing more comes          -
//	draining by our decision       ErrClosed   no                          yes, and discards
//	severed                        ErrClosed   yes                         what our kernel has received already
//	closed                         ErrClosed   no                          no
//
// A draining peer is waited for as long as it takes 240 bytes a second or more, on average. One that takes nothing for DrainTimeout is reset.
// What it has taken is what its system has acknowledged: a session is not closed in good order before that.
//
// Each direction can end by itself. CloseWrite finishes ours and leaves the session open for what the peer still sends. A [HalfCloser] stays open
// after the peer's FIN until it calls CloseWrite or Disconnect, or is sent nothing for HalfCloseTimeout.
//
// # Ownership
//
//	OnRecv's data         the loop's; read-only, yours until OnRecv returns
//	Send's p              yours; copied before Send returns, or, where it is part of OnRecv's data, when OnRecv returns
//	SendBuffer's buffer   the session's from the call on, also when it fails
//	Broadcast's p         yours; copied before Broadcast returns
//	addresses             yours to keep, not to modify
//
// # Guaranteed, and not
//
// Guaranteed is what docs/contract.md promises: L, S, E, R and C are about sessions, and some of T. Not guaranteed are:
//
//   - that bytes taken by the kernel are read by the peer: a later reset may lose them, and only an answer of the peer's proves it
//   - where the received bytes are cut into OnRecv calls
//   - on which loop a session runs
//   - the order of callbacks of different sessions
//
// # For those who change this package
//
// Two views of a session exist. [Session] is for the application, on any goroutine. [Driver] is the same memory for the loop, which calls one
// method for each event. Each event ends in settle, the safe point that does what there is to do.
//
// What can be understood alone is a package of its own: internal/sendqueue (the gathered queue, scratch memory, packet sizes), internal/budget
// (the memory of all queues together), internal/reassembly (packets out of pieces), internal/tokenbucket and internal/histogram. What is left
// is one room because it is one state machine: all of it reads or changes the fields of Session under the same lock or on the same loop.
//
// The way of a Send from a callback:
//
//	send.go       Send, SendBuffer; admit: open? within SendLimit? within the budget?; framing.go frames the payload first
//	sendqueue     Push: into scratch memory of the loop that runs the callback, or into a segment
//	slow.go       checkHighWater: is a mark passed that the loop must act on
//	wakeup.go     schedule: no wake-up, because the loop is at work on the session
//	settle.go     look gathers what is queued, serveWrite writes it
//	write.go      one Transport.Write; what was not taken moves into segments; OnSend; another round
//
// With a layer, layer_out.go has its place before write.go: gatherLayered takes what is due, and seal makes wire bytes of it.
//
// The way of a write out of this package: Transport.Write (transport.go) is transport.Write of engine/adapter.go. It calls Conn.Write of
// internal/reactor/conn.go, which ends in gather.write of internal/reactor/socket_linux.go: write(2) for one buffer, writev(2) for several. On
// gnet's loops (package ongnet) it is conn.Write of ongnet/conn.go, and the same gather.write.
//
// A Send from another goroutine takes the same way. There schedule wakes the loop, which calls Driver.Turn and so settle. A Broadcast (group.go,
// broadcast.go) queues for each member with sendShared and wakes each loop once.
//
// The way of received bytes to OnRecv:
//
//	driver.go     Receive: deliver now, keep, or discard
//	recv.go       deliver: OnRecv; or the stash, while reading is being stopped; steerReading decides whether the connection is read
//	framing.go    deliverPackets: packet after packet, until the handler pauses or its queue is too long
//	rate.go       the tokens that bytes and packets cost
//	callback.go   callRecv: runs the handler and contains its failure
//	settle.go     sends what the handler has sent, and so on
//
// With a layer, layer_in.go stands between driver.go and recv.go: receiveLayered keeps the wire bytes, or openInput opens them, and deliverOpened
// goes on to recv.go or framing.go. What the layer answers is sent by settle.go. Before the session there is the handshake, which is
// the engine's (engine/handshake.go).
//
// The rest:
//
//	session.go    the fields, grouped by what guards them; Err, Pending
//	address.go    the addresses of both ends
//	handler.go    Handler, Events                     rare.go       the fields that few sessions need
//	phase.go      the phases and their order          wakeup.go     which goroutine wakes the loop: a table
//	end.go        Disconnect, Abort, reasons          errors.go     the reasons themselves
//	drain.go      queue out, FIN, linger              sever.go      a connection that takes nothing more
//	finish.go     the last steps                      halfclose.go  CloseWrite, HalfCloser
//	deadline.go   all deadlines                       progress.go   deadlines that a taking peer puts off
//	slow.go       water marks, soft limit             stuck.go, budget.go  the session as a member of a budget
//	post.go       Post, AtEnd                         timer.go      AfterFunc
//	tap.go        what a recording is told
//	layer.go      what a layer is: TLS, WebSocket     layer_out.go  sealing, between gathering and writing
//	layer_in.go   opening what was received           layer_end.go  the layer's last word and deadlines
//	running.go    which callback runs now             counters.go   statistics
//	transport.go  what a session needs of a connection, limits.go of its options
//	tally.go      what one session has carried; the queue delay
//
// # Invariants
//
// Each is cited where it is upheld. The queue's own are in internal/sendqueue (Q1 to Q4).
//
//	I1  Callbacks run on the loop, or on workers in the session's order, one at a time: the call functions of callback.go are reached from
//	    Driver methods only. Session methods never run the application's code, but for a framer's Append and a reason's methods.
//	I2  The last callback: finish runs callDisconnected once for each callConnected, also after a goroutine was lost, because it notes each
//	    step before it takes it.
//	I3  mu is not held while the application's code runs or the transport is called. The exceptions are a reason's Is and Unwrap, which
//	    DisconnectWith has tried before, and the clock (Transport.Now).
//	I4  No request is lost and none wakes the loop twice: the requester publishes first and calls wakeup.request then; the loop releases
//	    first and looks then. The table is in wakeup.go.
//	I5  Bytes leave in the order of acceptance (Q1). Scratch memory may be a piece of the running OnRecv's input; settle has it written, or moved
//	    to segments, before the input is given back.
//	I6  After Transport.Close the connection is not touched. Every path there goes through finish, which enters closed first. Nothing is
//	    written, read, or armed in that phase.
//	I7  One owner per buffer reference (Q2). Besides the queue, the stash, the reassembly, the wire and the input of a layer own buffers, and finish
//	    drops all of them.
//	I8  accepted = sent + pending + dropped: the queue's size (Q3), or for packets the sum of their payloads, and what the wire of a layer carries,
//	    are what is pending; only write, fillWire, emptyQueue and the Sends change them.
//	I9  A membership is in the lists of its group and its session, or in neither: both change under the mu of both. A group's mu comes before a
//	    session's. No two groups' are held together, nor two sessions'. A closed session gets no new membership.
//	I10 A session's charge is the memory its segments hold, but for buffers whose charge other queues share, whenever its mu is free:
//	    updateBudget follows each change. A budget's pass comes before a session's mu, and no goroutine that holds a group's mu runs one; the
//	    budget's other locks come after. Segments are replaced (Compact) or dropped by others than the loop only while the session is
//	    blocked: the loop does not have them in hand then.
//	I11 A severed session delivers what was received and nothing else: sever empties the queue and ends Send once, deliveredAll tells when all
//	    was delivered. Disconnect, Abort, or LingerTimeout of a pause ends it before.
//	I12 No orderly close while the kernel holds bytes of the application's: finish(false) is reached from advanceDrain, which has seen Unsent at 0
//	    (with a layer: at the latest when its last word was due), from a severed session, or after the linger.
//	I13 What was sealed is never sealed again, and leaves in the order in which it was: it is taken off the queue in the step that puts it on the
//	    wire, nothing is sealed while the wire holds a byte, and the wire is offered first. Only an end drops it, and nothing is written then.
//	I14 A layer's last word is made once, when everything before it is out, and nothing but FIN follows it. FIN follows when it is out: conclude
//	    comes to it only while nothing is queued and nothing of the layer's own is pending.
package session
