//go:build linux

package main

import (
	"path/filepath"
	"strconv"
)

// A protocol is what is spoken in a workload.
type protocol string

const (
	overTCP protocol = "" // in the report's JSON too
	overTLS protocol = "tls"
	overWS  protocol = "websocket"
)

// path is where the servers speak WebSocket.
const path = "/ws"

// Files in the folder of the programs: a certificate for 127.0.0.1 and its key. All servers have the same.
func certFile(dir string) string { return filepath.Join(dir, "cert.pem") }
func keyFile(dir string) string  { return filepath.Join(dir, "key.pem") }

// command returns the program that serves a workload, and its arguments besides those that all workloads have.
func (s server) command(w workload, dir string) (program string, args []string) {
	program = s.program
	switch {
	case w.cut > 0:
		program, args = s.specialized(), []string{"-message", strconv.Itoa(w.cut)}
	case w.garbage:
		program, args = s.specialized(), []string{"-garbage", "100"}
	case w.over == overTLS:
		args = []string{"-tls-cert", certFile(dir), "-tls-key", keyFile(dir)}
	case w.over == overWS && s.plain && w.args[0] == "echo":
		program, args = s.specialized(), []string{"-frame", w.size()}
	case w.over == overWS && s.plain:
	case w.over == overWS && w.deflate:
		program, args = s.specialized(), []string{"-ws", path, "-deflate"}
	case w.over == overWS:
		args = []string{"-ws", path}
	}
	return program, args
}

func (s server) specialized() string {
	if s.special != "" {
		return s.special
	}
	return s.program
}

// speaks returns what netbench must be told to speak the protocol of a workload with s.
func (w workload) speaks(s server, dir string) []string {
	switch {
	case w.over == overTLS:
		return []string{"-tls", "-tls-ca", certFile(dir)}
	case w.over == overWS && !s.plain:
		return []string{"-ws", path}
	}
	return nil
}

var tlsWorkloads = []workload{
	{name: "tls-echo-64x64", about: "TLS echo, 64 bytes, 64 connections, one message in flight on each", unit: "message", over: overTLS, on: tlsServers,
		args: []string{"echo", "-size", "64", "-conns", "64"}},
	{name: "tls-echo-64x1000", about: "TLS echo, 64 bytes, 1,000 connections, one message in flight on each", unit: "message", over: overTLS, on: tlsServers,
		args: []string{"echo", "-size", "64", "-conns", "1000"}},
	{name: "tls-echo-4k-64", about: "TLS echo, 4 KiB, 64 connections, one message in flight on each", unit: "message", over: overTLS, on: tlsServers,
		args: []string{"echo", "-size", "4096", "-conns", "64"}},
	{name: "tls-fanout-1000", about: "one client's 64 bytes to 1,000 others over TLS, then the next", unit: "delivery", over: overTLS, on: tlsServers,
		args: []string{"fanout", "-size", "64", "-conns", "1000", "-timeout", "20s"}},
	// The client closes first, so its ports stay in TIME_WAIT. Eight source addresses have enough ports.
	{name: "tls-handshake", about: "connect, full handshake of TLS 1.3, echo 64 bytes, close; 64 at a time", unit: "connection", over: overTLS, on: handshakeServers,
		args: []string{"churn", "-size", "64", "-conns", "64", "-sources", "8"}},
	{name: "tls-resume", about: "as tls-handshake, but each handshake resumes a session", unit: "connection", over: overTLS, on: handshakeServers,
		args: []string{"churn", "-size", "64", "-conns", "64", "-sources", "8", "-tls-resume"}},
	{name: "tls-idle", about: "resident memory per idle TLS connection: the slope between 1,000 and 5,000 of them", unit: "connection", few: 1_000, many: 5_000,
		over: overTLS, on: tlsServers, args: []string{"idle", "-active", "0", "-timeout", "30s"}},
}

var wsWorkloads = []workload{
	{name: "ws-echo-64x64", about: "WebSocket echo, 64 bytes, 64 connections, one message in flight on each", unit: "message", over: overWS, on: wsServers,
		args: []string{"echo", "-size", "64", "-conns", "64"}},
	{name: "ws-echo-64x1000", about: "WebSocket echo, 64 bytes, 1,000 connections, one message in flight on each", unit: "message", over: overWS, on: wsServers,
		args: []string{"echo", "-size", "64", "-conns", "1000"}},
	{name: "ws-echo-4k-64", about: "WebSocket echo, 4 KiB, 64 connections, one message in flight on each", unit: "message", over: overWS, on: wsServers,
		args: []string{"echo", "-size", "4096", "-conns", "64"}},
	{name: "ws-fanout-1000", about: "one client's message of 64 bytes to 1,000 others over WebSocket, then the next", unit: "delivery", over: overWS, on: wsServers,
		args: []string{"fanout", "-size", "64", "-conns", "1000"}},
	{name: "ws-fanout-10000", about: "one client's message of 64 bytes to 10,000 others over WebSocket, then the next", unit: "delivery", over: overWS, on: wsServers,
		args: []string{"fanout", "-size", "64", "-conns", "10000", "-timeout", "20s"}, times: 3},
	{name: "ws-idle", about: "resident memory per idle WebSocket connection: the slope between 2,000 and 10,000 of them", unit: "connection", few: 2_000, many: 10_000,
		over: overWS, on: wsServers, args: []string{"idle", "-active", "0", "-timeout", "20s"}},
	{name: "ws-deflate-64", about: "WebSocket echo with permessage-deflate, JSON of 2 KiB, 64 connections, one message in flight on each", unit: "message", over: overWS,
		on: deflateServers, deflate: true, args: []string{"echo", "-size", "2048", "-conns", "64"}},
	{name: "ws-deflate-fanout-1000", about: "one client's JSON of 2 KiB to 1,000 others with permessage-deflate, then the next", unit: "delivery", over: overWS,
		on: deflateServers, deflate: true, args: []string{"fanout", "-size", "2048", "-conns", "1000"}, times: 2},
	{name: "ws-deflate-idle", about: "resident memory per idle WebSocket connection that has echoed a message of 2 KiB with permessage-deflate: the slope between 500 and 2,500",
		unit: "connection", few: 500, many: 2_500, over: overWS, on: deflateServers, deflate: true, args: []string{"idle", "-size", "2048"}},
}
