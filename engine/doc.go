// Package engine runs sessions on event loops: it listens, admits, dials, reads, writes, keeps deadlines and ends what
// has to end.
//
//	e, err := engine.New(engine.Options{})
//	_, err = e.Listen("tcp", ":7777", func() session.Handler { return new(Player) })
//	err = e.Run(ctx)
//
// Under it is the poller of github.com/panjf2000/gnet/v2's event loops. What the engine adds: accept errors do not end
// it, a peer's half-close loses nothing, content knows exactly when bytes left, a panic ends one session, a slow peer's
// memory is bounded, and nothing reaches a connection that has ended.
//
// # Goroutines
//
// Each loop has one, on which content runs, unless Offload gives it to workers: goroutines that come and go with what is
// due. Each listener has one that accepts when its loop, the one that accepts otherwise, is held up. One watches the loops
// (StallWarning). Their number does not depend on the number of sessions, but for those that are being dialled: package net takes one or two to connect, and a session to be replaced (Reconnect) has one until it is.
//
// # Platforms
//
// Linux is where the engine is tested. macOS and FreeBSD compile and are vetted; there TCP_USER_TIMEOUT does not
// exist, accepted connections get their options one by one, and an idle peer that is still taking bytes from the
// kernel's buffer cannot be told from one that is not.
package engine
