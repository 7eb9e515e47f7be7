// Package servercore is the front page of a network engine for Go servers with very many connections. It holds no
// code; import its packages:
//
//	engine   listens, admits, dials, runs the loops      engine.New, Listen, Run, Dial
//	session  what your handler embeds                    session.Session, Send, Disconnect
//	frame    how the stream is cut into packets          frame.ServerCore, LengthField, Line
//	pool     buffers that many sessions can share        pool.Get, Retain, Release
//	layer/tls, layer/websocket  under a session          engine.TLS, engine.WebSocket
//	ongnet   the same sessions on stock gnet             ongnet.Handler
//	enginetest  the contract, as tests for any engine    enginetest.Run
//
// and run its programs:
//
//	go run ./cmd/echoserver   the reference server
//	go run ./cmd/netbench     a load generator, package bench, for any TCP server
//
// # Threading in five lines
//
// An engine has a fixed number of loops. A session lives on one loop from accept to end. Its callbacks run there, one at a time, and must
// not wait, unless the listener has engine.Offload. Every method of a session may be called from anywhere. Nothing else is shared.
//
// # Left out
//
// UDP, events without their bytes, and protocols above a byte stream other than TLS and WebSocket: one thing, done exactly. Package net/http
// serves HTTP on the port of a WebSocket (engine.WebSocketOptions.HTTP).
package servercore
