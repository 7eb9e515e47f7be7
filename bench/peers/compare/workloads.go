//go:build linux

package main

import (
	"slices"
	"time"
)

// A workload is a load that netbench makes, or the program deflate.
type workload struct {
	name  string
	about string
	unit  string   // what CPU time is divided by
	args  []string // of netbench
	cut   int      // the server sends each piece of this many bytes by itself
	times int      // the measured part is so many times -duration: few rounds fit into it
	few   int      // what counts is memory: the slope between so many connections and many; 0: it is not
	many  int
	share float64 // -rate is this part of what plain gnet reaches in a closed loop; 0: there is no -rate

	beside  []string // of a second netbench, which runs as long as the first
	garbage bool     // the server allocates beside its work; see peer.Parse
	env     []string // of the server
	loops   int      // of the server; 0: one for each of its processors

	over    protocol // "" is TCP
	on      []server // in the order of a round; nil: servers
	deflate bool     // permessage-deflate
}

var workloads = []workload{
	{name: "echo-64x64", about: "echo, 64 bytes, 64 connections, one message in flight on each", unit: "message",
		args: []string{"echo", "-size", "64", "-conns", "64"}},
	{name: "echo-64x1000", about: "echo, 64 bytes, 1,000 connections, one message in flight on each", unit: "message",
		args: []string{"echo", "-size", "64", "-conns", "1000"}},
	{name: "pipe16-64x64", about: "echo, 64 bytes, 64 connections, 16 messages in flight on each", unit: "message",
		args: []string{"echo", "-size", "64", "-conns", "64", "-depth", "16"}},
	{name: "echo-4k-64", about: "echo, 4 KiB, 64 connections, one message in flight on each", unit: "message",
		args: []string{"echo", "-size", "4096", "-conns", "64"}},
	{name: "echo-64k-16", about: "echo, 64 KiB, 16 connections, one message in flight on each", unit: "message",
		args: []string{"echo", "-size", "65536", "-conns", "16"}},
	// The client closes first, so its ports stay in TIME_WAIT. Eight source addresses have enough ports.
	{name: "churn", about: "connect, echo 64 bytes, close; 64 at a time", unit: "connection",
		args: []string{"churn", "-size", "64", "-conns", "64", "-sources", "8"}},
	{name: "fanout-1000", about: "one client's 64 bytes to 1,000 others, then the next", unit: "delivery",
		args: []string{"fanout", "-size", "64", "-conns", "1000"}},
	// A server that is slow to accept while it sends needs more than 5 s until it knows all subscribers.
	{name: "fanout-10000", about: "one client's 64 bytes to 10,000 others, then the next", unit: "delivery",
		args: []string{"fanout", "-size", "64", "-conns", "10000", "-timeout", "20s"}, times: 3},
	{name: "stream-1000", about: "one client's messages of 64 bytes to 1,000 others, up to 256 KiB ahead of the slowest", unit: "delivery",
		args: []string{"fanout", "-size", "64", "-conns", "1000", "-stream"}, times: 2},
	{name: "stream-cut-1000", about: "as stream-1000, up to 2 KiB ahead, but the server sends each message by itself, as one with a protocol does", unit: "delivery",
		args: []string{"fanout", "-size", "64", "-conns", "1000", "-stream", "-window", "2048"}, cut: 64, times: 3},
	{name: "ncs-roundtrip", about: "NetCoreServer's round trip: echo, 32 bytes, 100 clients, a window of 1,000 messages each", unit: "message",
		args: []string{"echo", "-size", "32", "-conns", "100", "-depth", "1000"}},
	{name: "ncs-multicast", about: "NetCoreServer's multicast: a stream of 32 byte messages to 100 clients, nothing dropped", unit: "delivery",
		args: []string{"fanout", "-size", "32", "-conns", "100", "-stream"}},
	{name: "ncs-multicast-cut", about: "as ncs-multicast, up to 4 KiB ahead, but the server sends each message by itself, as NetCoreServer does", unit: "delivery",
		args: []string{"fanout", "-size", "32", "-conns", "100", "-stream", "-window", "4096"}, cut: 32},
	{name: "idle", about: "resident memory per idle connection: the slope between 2,000 and 10,000 of them", unit: "connection", few: 2_000, many: 10_000,
		args: []string{"idle", "-active", "0"}},
	{name: "half-load", about: "echo, 64 bytes, 64 connections, open loop at half of plain gnet's top rate; latency from the planned time", unit: "message", share: 0.5,
		args: []string{"rate", "-size", "64", "-conns", "64"}},
}

// latencyWorkloads are about how late an answer is, at a rate that the server can keep up with: 70 % of plain gnet's top rate in a closed loop.
var latencyWorkloads = []workload{
	{name: "rate-1000", about: "echo, 64 bytes, 1,000 connections, open loop at 70 % of plain gnet's top rate; latency from the planned time", unit: "message",
		share: share, on: latencyServers, args: rate1000},
	{name: "rate-1000-bulk", about: "as rate-1000, beside a connection that has 500 messages of 64 KiB a second sent back", unit: "message",
		share: share, on: latencyServers, args: rate1000, beside: []string{"rate", "-size", "65536", "-conns", "1", "-rate", "500"}},
	{name: "rate-1000-garbage", about: "as rate-1000, while the server allocates 100 MiB a second besides, on a heap of 64 MiB, with GOGC=100", unit: "message",
		share: share, on: goServers, args: rate1000, garbage: true, env: []string{"GOGC=100"}},
	{name: "rate-1000-procs", about: "as rate-1000, but the server believes that it has 8 processors: GOMAXPROCS=8, 8 loops", unit: "message",
		share: share, on: goServers, args: rate1000, env: []string{"GOMAXPROCS=8"}, loops: 8},
}

const share = 0.7

var rate1000 = []string{"rate", "-size", "64", "-conns", "1000"}

// allWorkloads are those over TCP, TLS and WebSocket.
var allWorkloads = slices.Concat(workloads, latencyWorkloads, tlsWorkloads, wsWorkloads)

// topRate is the plainest load, by which the tests and the cross-check go.
var topRate = workload{name: "top rate", unit: "message", args: []string{"echo", "-size", "64", "-conns", "64"}}

// closed returns the closed loop whose top rate w takes a share of.
func (w workload) closed() workload {
	return workload{name: "top rate", unit: w.unit, args: append([]string{"echo"}, w.args[1:]...)}
}

func (w workload) String() string { return w.name }

// idle reports whether what counts is memory.
func (w workload) idle() bool { return w.many > 0 }

// servers returns the servers that can be measured, in the order of a round.
func (w workload) servers() []server {
	if w.on == nil {
		return servers
	}
	return w.on
}

// size returns the size of a message in bytes, "" if it is not said.
func (w workload) size() string {
	for i, arg := range w.args[:len(w.args)-1] {
		if arg == "-size" {
			return w.args[i+1]
		}
	}
	return ""
}

// serverMode returns the mode of the server for this workload.
func (w workload) serverMode() string {
	if w.args[0] == "fanout" {
		return "broadcast"
	}
	return "echo"
}

// duration returns the duration of the measured part.
func (w workload) duration(c config) time.Duration {
	return c.duration * time.Duration(max(1, w.times))
}
