// Package engine runs sessions on event loops: it listens, admits, reads, writes, keeps deadlines and ends what
// has to end.
//
//	e, err := engine.New(engine.Options{})
//	_, err = e.Listen("tcp", ":7777", func() session.Handler { return new(Player) })
//	err = e.Run(ctx)
//
// Under it are the event loops of github.com/panjf2000/gnet/v2, one goroutine each. What the engine adds: accept
// errors do not end it, a peer's half-close loses nothing, content knows exactly when bytes left, a panic ends one
// session, a slow peer's memory is bounded, and nothing reaches a connection that has ended.
//
// # Goroutines
//
// Each loop has gnet's goroutine, a coroutine of it on which content runs (so that content which calls
// runtime.Goexit does not take the loop along), and one that waits for the loop's own poller, which watches those
// that say little, read slowly or have finished. Each listener has one that accepts. Their number
// does not depend on the number of sessions.
//
// # Platforms
//
// Linux is where the engine is tested. macOS and FreeBSD compile and are vetted; there TCP_USER_TIMEOUT does not
// exist, accepted connections get their options one by one, an idle peer that is still taking bytes from the
// kernel's buffer cannot be told from one that is not, and a loop's poller costs a thread.
package engine
