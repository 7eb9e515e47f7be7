// Package websocket is WebSocket (RFC 6455) with permessage-deflate (RFC 7692) as a layer under a session: bytes go in, bytes come out. It
// opens no socket, starts no goroutine, takes no lock and reads no clock: package engine does.
//
//	server, err := websocket.NewServer(websocket.Options{Path: "/chat", Compression: true})
//	l := server.Layer(nil)                         // one for each connection
//	data, used, more, err := l.Open(dst, received) // the upgrade, then messages
//	wire := l.Own(nil, true)                       // the 101, pongs, pings, the close frame
//
// [Layer] receives. What is sent is made at Send, by the [session.Framing] that Layer.Framing returns: one for all sessions of a server
// with the same settings, so that a Broadcast makes and compresses its frame once. [NewClient] makes the other side.
//
// # Guaranteed
//
//	W1   Open keeps the contract of session.Layer for any input, and comes to the same messages and the same end however it is cut.
//	W2   A message is delivered whole or not at all, in order. No byte behind the upgrade is lost, and the 101 is before every frame.
//	W3   What RFC 6455 and RFC 7692 forbid ends the session: with 1002; with 1007 for text that is not UTF-8, as soon as it cannot become
//	     UTF-8, and for data that is not deflate; with 1009 for a message longer than MaxMessage.
//	W4   A message that comes in pieces takes at most twice the bytes that have come of it. While its buffer grows, the old one and the
//	     new one exist. The length that its header announces reserves nothing. A compressed message has MaxMessage and an eighth at
//	     most, and while it is inflated up to twice MaxMessage besides. Inflating ends at the first byte over MaxMessage.
//	W5   Between two messages a layer holds its struct (64 bytes) and the request. Buffers, inflaters and compressors are pooled.
//	W6   Each ping gets a pong. If the pongs that wait and the next one are over 2 KiB together, those that wait are dropped, and that one
//	     is sent.
//	W7   A message of 64 bytes costs no allocation, in or out.
//	W8   A client's frame has a key of its own.
//
// Not guaranteed: that a message is sent as one TCP segment, or compressed. A message is one frame, whatever its size, so a pong waits
// until the message under way has left; docs/decisions/0021-websocket.md says why.
//
// # For those who change this package
//
//	options.go     Options, Server            handshake.go   the header, byte by byte; refusals
//	layer.go       Layer and its fields       upgrade.go     the server's checks: RFC 6455, section 4.2
//	open.go        frames                     client.go      the client's side: section 4.1
//	message.go     messages in pieces         origin.go      where a page may come from
//	work.go        what is under way          token.go       lists and parameters in headers
//	control.go     pong, close, Own, Finish   extension.go   the offer and the answer: RFC 7692, section 7.1
//	keepalive.go   pings                      framer.go      what is sent
//	header.go      a frame's header           deflate.go, inflate.go
//	errors.go      errors and close codes     request.go     what Session.Request returns
//	mask.go, utf8.go
package websocket
