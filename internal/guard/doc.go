// Package guard decides which connections a listener accepts, by the address they come from. It opens no socket and reads no clock.
//
//	g, err := guard.New(guard.Rules{Deny: blocked, MaxPerAddress: 20, AcceptRate: 5, AcceptBurst: 20}, time.Now())
//	source, verdict := g.Judge(remote, time.Now())
//	if verdict != guard.Accepted { ... } // close the connection
//	defer source.Release(time.Now())     // when the connection is closed
//
// The way through the package:
//
//   - guard.go: Rules, Guard and its verdict. Prefixes are asked first, then the table of sources.
//   - prefixes.go: a set of address prefixes.
//   - key.go: which addresses count as one source.
//   - rate.go: the token bucket of a source, kept as one time.
//   - sources.go: the table: every source with sessions, and a bounded number of idle ones.
//
// docs/decisions/0010 weighs the choices.
package guard
