// Package tls is TLS under a session: package crypto/tls, unchanged, as a session.Sealer. A [Layer] is one connection. It has no I/O of its
// own: the loop gives it what was received, and writes what it makes. The handshake has a goroutine; an established session has none.
//
//	h := &tls.Handshakes{} // one for all connections of an engine
//	engine.Layered(func(c engine.Handshake) session.Handshaker { return tls.Server(config, h, c.Local, c.Remote) })
//
// # Guaranteed
//
//   - The loop never waits. During the handshake crypto/tls runs on a goroutine that reads from memory and waits there. At its end the
//     connection changes over: from then on a read that finds no whole record returns at once with a temporary error, which crypto/tls
//     does not keep. Seal, Open and Own take no lock that anybody else holds.
//   - No byte is lost or comes early at the change. crypto/tls gets one record at a time during the handshake; what comes behind its end is
//     kept, or left with the caller, and opened afterwards.
//   - Records keep their order: what crypto/tls writes on its own (an answer to a key update, an alert) has its number when it is made. Own
//     brings it, and Seal puts it in front of what it seals if Own was not asked.
//   - close_notify is the last word in both directions. Finish makes ours, and nothing follows it, not even an answer. The peer's is
//     io.EOF. After ours, what the peer sends is still opened; after the peer's, Seal goes on: TLS is closed by halves, with TLS 1.2 too.
//     A FIN without close_notify is session.ErrTruncated.
//   - After a bad record Open first returns what came before it, then the error. The alert waits in Own, and is the last word.
//   - A handshake that fails is a [HandshakeError] with a [Cause]. The peer gets the alert, and a client that speaks HTTP to the port gets
//     the answer of net/http: 400 Bad Request.
//   - Memory is bounded: see Handshakes for handshakes. A connection in its handshake holds at most 18 KiB of input, and crypto/tls
//     is given at most 160 KiB of it, 480 KiB if clients may have certificates. An established connection holds no input and at most 64
//     answers.
//   - Renegotiation is off. A server never does it; CheckClient refuses a config that allows it.
//
// # Floods
//
// crypto/tls ends a connection after 16 records in a row that bring no data (key updates, empty records, warnings). A peer that puts data
// between key updates and does not read the answers is ended after 64 of them.
//
// # What it costs
//
// An idle session has 5.3 KB of heap with TLS 1.3 and 6.8 KB with TLS 1.2, 0.2 KB of which are the Layer's. crypto/tls never makes its
// input buffer smaller: a session that has received a record of 16 KiB holds 18 to 37 KB until it ends. Seal allocates nothing, and Open
// what crypto/tls does: 24 bytes for each time that it has to ask for more, which is once per Open if a record comes alone.
// docs/decisions/0020-tls.md has the figures.
//
// # Callbacks of the config
//
// GetCertificate, GetConfigForClient, VerifyConnection and the like run on the handshake's goroutine. They may wait: the turn of one that
// does is given to another handshake after 20 ms, for Handshakes.Blocked of them. The context of ClientHelloInfo ends when the connection
// is given up. A panic, or runtime.Goexit, fails the handshake alone. A client's ClientSessionCache is called on the loop too, when a
// ticket comes: it must not wait.
//
// # Certificates and tickets
//
// A server's config is shared and never copied, so GetCertificate replaces certificates without a restart, and
// tls.Config.SetSessionTicketKeys works at any time. Set the ticket keys if clients are to resume after a restart or on another node:
// crypto/tls makes keys of its own otherwise, which end with the process.
//
// # For those who change this package
//
//	layer.go       Layer: Seal, Own, Finish   open.go        Open: from wire bytes to crypto/tls and back
//	handshake.go   one handshake's goroutine  handshakes.go  Handshakes: the turns of all of them
//	records.go     where records end          wire.go        the net.Conn under crypto/tls
//	errors.go      HandshakeError, Cause
package tls
