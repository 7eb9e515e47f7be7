// Package ongnet drives sessions by the event loops of stock gnet, for programs that run a gnet engine already, or want its options:
//
//	h := ongnet.Handler(func() session.Handler { return new(player) }, ongnet.Options{})
//	err := gnet.Run(h, "tcp://:7777", gnet.WithMulticore(true), gnet.WithReuseAddr(true))
//
// gnet's OnOpen, OnTraffic and OnClose become OnConnected, OnRecv and what follows (adapter.go), as those of internal/reactor do in
// engine/adapter.go. The session's Transport (conn.go) is gnet's connection with a write path of its own: what is queued leaves in one
// writev(2) on gnet's descriptor, and a second poller (reactor.Watcher) tells when a full one has room again. A loop of gnet's has one
// task for all its sessions (loop.go).
//
// # What is not promised
//
// Package engine keeps the whole contract, and should be the choice where nothing speaks for gnet. Here these promises of docs/contract.md do
// not hold. The suite of package enginetest runs with these exceptions and no others.
//
//	S7        A session that is not to be read (PauseRecv, PauseAbove) is read all the same: gnet has no way to stop. What comes is kept,
//	          up to SendLimit; then the session is reset with ErrNotHeld. An echo server so loses clients that send and do not read.
//	L4        runtime.Goexit in a callback ends gnet's loop. Its sessions are reset, and gnet stops. A panic ends its session alone.
//	T1, T5    An error of accept, such as EMFILE, ends gnet: sessions are drained, and gnet.Run returns nil. Keep the limit of
//	          descriptors (ulimit -n) well above MaxSessions.
//	T2        MaxSessions is never exceeded, but gnet accepts first: many connections may wait for their loop, with a descriptor each.
//	T6        gnet removes the path of a unix socket, whatever it is, before it listens.
//	E4        gnet.Engine.Stop drains within DrainTimeout, and Adapter.Shutdown within its context. A connection that gnet accepts on a unix
//	          socket, with WithReusePort, or with several listeners while it stops may never be closed.
//	T3        A turn is not bounded: a Broadcast to many sessions of a loop, and one connection's 64 KiB, go before what others sent.
//	T7        What gnet has to say goes to gnet's logger: Shutdown makes it log that accept failed.
//
// These are missing: every engine.Option (Framed, TLS, WebSocket, Guard, ProxyProtocol, Offload and the others), Dial, Upgrade, the watchdog and
// Timings. WithEdgeTriggeredIO, UDP addresses and gnet's build tags poll_opt and gc_opt are not supported.
//
// # What it costs
//
// Echo of 64 bytes takes the CPU time of plain gnet (docs/decisions/0003-reactor.md has the figures, bench/peers the means). A session has
// 80 bytes besides gnet's connection and its own. One that is full is in a second poller. One whose peer has finished, and that still owes
// it bytes, moves to a duplicate of its descriptor. One with a deadline has a timer of the runtime's.
package ongnet
