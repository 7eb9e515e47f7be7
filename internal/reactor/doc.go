// Package reactor is an event loop on gnet's poller: one goroutine that waits for descriptors, reads them, and drives a
// [Handler] with OnOpen, OnTraffic and OnClose. It knows no sessions, no options and no listeners' policies: it can serve any protocol.
//
//	loop, err := reactor.New(reactor.Config[*state]{Handler: h, Clock: reactor.NewClock()})
//	go loop.Run()
//	...
//	loop.Halt()
//	loop.Close()
//
// # Parts
//
//   - handler.go: what a loop drives; what it asks of its owner.
//   - loop.go: [Loop], its memory, its list of connections, its end.
//   - table.go: [Table], connections by descriptor, which loops share.
//   - run.go: the goroutine. Events go to the connection that has the descriptor.
//   - read.go: from an event to OnTraffic.
//   - conn.go: [Conn], what an owner may ask of a connection: Write, Close, Arm, Again, Wake, Release.
//   - turn.go, wake.go: what the loop does besides events, and how it is woken for it.
//   - listen.go: descriptors that are listened on.
//   - executor.go: who serves a connection, and with which memory for reads and writes. workers.go, strand.go: connections that workers serve in
//     place of the loop.
//   - socket*.go: system calls on a socket: accept, read, write. poll_*.go: waking a poller, and asking for events once more. gnetlog.go: gnet's
//     logger.
//   - descriptor.go, watcher.go: the same system calls, and when a socket takes bytes, for sockets that another event loop reads (package ongnet).
//
// # The way of an event
//
// gnet's Poller.Polling calls Loop.event with a descriptor. Loop.table has its connection. Conn.event notes what the event says
// (note), then acts on it (look): Conn.pump reads until the socket is empty, and calls OnTraffic for each read, at last OnClose. If the
// connection has brought much it may be put off to a turn instead.
//
// The loop also makes turns: for an event of its waker, which Wake signals, and of a listener. A turn accepts, does the
// owner's own work (OnTurn), resumes connections that were put off (OnResume), serves connections that were woken (OnWake), and visits
// those whose deadline may have passed (OnDeadline).
//
// # The way of a write
//
// [Conn.Write] (conn.go) -> gather.write, on the memory of the goroutine that serves the connection (scratch, in executor.go) -> write(2) for one
// buffer; for several writev(2) in socket_linux.go, sendmsg(2) in socket_bsd.go. When the kernel takes nothing, Write returns [ErrWouldBlock], and
// OnWritable follows the event that says that it takes bytes again.
//
// # The life of a connection
//
// [Loop.NewConn] takes a descriptor. [Loop.Register] has the poller tell of it: OnReady is called, and the owner may look with
// Peek. [Loop.Offload] gives it to workers, if they are to serve it. [Loop.Open] opens it: OnOpen, OnTraffic, OnClose. [Conn.Close]
// closes the descriptor, and [Conn.Release] has the loop forget the connection: OnRelease is the last call.
//
// # Invariants
//
// Guarantees:
//
//   - R1: What has arrived is brought to OnTraffic, though events tell of changes only (edge-triggered). A connection that was not read until
//     the kernel had nothing more is read again, without an event.
//   - R2: OnClose(nil) comes after all bytes that came before the FIN, and once. The connection takes bytes from then on.
//   - R3: A loop that was woken makes a turn after whatever was published before Wake; a loop at rest is woken once, however many ask.
//   - R4: Nothing that happens at once keeps the events of others waiting: each part of a turn is bounded in time, number or
//     bytes; a connection is read in pieces, and those that bring much have BulkTime among the others, then turns.
//   - R5: runtime.Goexit in a handler's method costs that call: another goroutine carries on, and no event, wake-up or deadline is lost.
//   - R6: The methods for one connection never run at the same time, also on workers, and each sees what the one before has done.
//
// Hints:
//
//   - R7: An event may be spurious or late. The number of a descriptor may have passed to another connection since the event was
//     fetched. So an event only has a connection looked at, and what it says is asked of the kernel before anything ends for it.
//   - OnWritable, OnResume, OnWake and OnDeadline may come without need. The owner looks for itself.
package reactor
