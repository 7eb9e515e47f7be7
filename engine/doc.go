// Package engine runs sessions on event loops: it listens, admits, dials, reads, writes, keeps deadlines and ends what
// has to end.
//
//	e, err := engine.New(engine.Options{})
//	_, err = e.Listen("tcp", ":7777", func() session.Handler { return new(Player) })
//	err = e.Run(ctx)
//
// What it adds to an event loop: accept errors do not end it, a peer's half-close loses nothing, the application knows exactly when bytes
// left, a panic ends one session, a slow peer's memory is bounded, and nothing reaches a connection that has ended.
//
// # Parts
//
//   - engine.go, options.go, shutdown.go: [Engine], its life and its end. stats.go, ping.go, watchdog.go: what it tells
//     (internal/watchdog decides when a callback has held its loop for too long, internal/looplag how late a loop looks: lag.go). counts.go: who counts what.
//     metrics.go: the numbers of Stats as Prometheus names them. sessions.go, closed.go: the sessions that are open, and those that have ended
//     (internal/ring). trace.go: what is told as it happens. state.go: where the engine stands. recording.go: [Record] (package record).
//   - listener.go, from.go: addresses that are listened on. accept.go, spare.go: accepting. dial.go, reconnect.go: connecting.
//   - guard.go, admission.go, proxy.go, admit.go, factory.go: what is decided about a connection before it is a session, in this order.
//     Behind a proxy the trusted prefixes take the place of Guard (guard.go), which is asked about the client when the header is read.
//   - loop.go: from a pending connection to a session.
//   - origin.go: what an [Option] sets. offload.go, rate.go: [Offload], [RecvRate].
//   - handshake.go, layercalls.go: the handshake of a layer, between admit.go and factory.go. tls.go, websocket.go: the layers that Options
//     bring. upgrade.go: [Engine.Upgrade]. http.go, httpconn.go: connections that package net/http serves.
//   - adapter.go: where the event loop of internal/reactor, on the poller of github.com/panjf2000/gnet/v2, meets the session: OnOpen,
//     OnTraffic and OnClose become OnConnected, OnRecv and what follows.
//   - socket*.go: options of sockets. address.go, bounds.go, hint.go, inside.go, loglines.go: addresses, limits that follow from the
//     process's descriptors, advice in errors, whether a callback calls, log lines that many events share.
//
// # The way of a connection
//
// Listener.acceptOne or Dial -> Engine.admit -> loop.enqueue -> loop.openPending, in a turn of the event loop -> the PROXY header, if there is one
// (proxy.go) -> loop.become -> the handshake, if there is a layer (handshake.go) -> loop.open -> the factory, session.Bind -> OnOpen, OnTraffic
// and OnClose (adapter.go) -> loop.release. Engine.Upgrade begins at loop.enqueue.
//
// # Goroutines
//
// Each loop has one, on which the application's callbacks run, unless Offload gives them to workers: goroutines that come and go with what is
// due. Each listener has one that accepts when the accepting loop is held up. One watches the loops, and asks each whether it looks: ten
// times a second, once while it rests. One writes the log while there are records. Their number does not depend on the number of established sessions.
//
// Some connections have goroutines for a time. A TLS handshake has one from its ClientHello to its end; few of them compute at once
// (layer/tls, Handshakes). For Dial, package net takes one or two to connect, and a session to be replaced (Reconnect) has one until it is. With
// WebSocketOptions.HTTP, package net/http has one for each connection that it serves.
//
// # Platforms
//
// Linux is where the engine is tested. macOS and FreeBSD compile and are vetted; there TCP_USER_TIMEOUT does not
// exist, accepted connections get their options one by one, and an idle peer that is still taking bytes from the
// kernel's buffer cannot be told from one that is not.
package engine
