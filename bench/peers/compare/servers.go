//go:build linux

package main

import "slices"

// A server is a way to run one of the programs.
type server struct {
	name    string
	program string
	args    []string
	special string // the program for what program has no flag for: cut messages, packets, permessage-deflate
	single  bool   // it has one loop, whatever the number of processors
	plain   bool   // in a workload over WebSocket it speaks TCP, with packets of the same size
}

// Names that the report treats in a special way.
const (
	ours      = "ours"
	oursAgain = "ours-again" // the same program under a second name: what differs between the two is noise
	oursBase  = "ours-base"  // the same program at the revision of -base
	oursPlain = "ours-plain" // ours without WebSocket
	gnet      = "gnet"
	gnetReuse = "gnet-reuseport"
	cepoll    = "cepoll"
)

// servers has the servers in the order of a round, for workloads over TCP. The A/A pair is as far apart as a round allows.
var servers = []server{
	{name: ours, program: "echoserver", special: "ours"},
	{name: gnet, program: "gnet"},
	{name: gnetReuse, program: "gnet", args: []string{"-reuseport"}},
	{name: "netpoll", program: "netpoll"},
	{name: "nbio", program: "nbio"},
	{name: "std", program: "std"},
	{name: cepoll, program: cepoll, single: true},
	{name: oursAgain, program: "echoserver", special: "ours"},
}

// latencyServers are those for how late an answer is; goServers are those of them that run on Go's scheduler.
var (
	latencyServers = slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.name == "netpoll" || s.name == "nbio" })
	goServers      = slices.DeleteFunc(slices.Clone(latencyServers), isC)
)

// tlsServers are those for workloads over TLS.
var tlsServers = []server{
	{name: ours, program: "echoserver"},
	{name: "std", program: "std"},
	{name: "nbio", program: "nbio"},
	{name: oursAgain, program: "echoserver"},
}

// wsServers are those for workloads over WebSocket.
var wsServers = []server{
	{name: ours, program: "echoserver", special: "ours"},
	{name: oursPlain, program: "echoserver", special: "ours", plain: true},
	{name: "coder", program: "coder"},
	{name: "gorilla", program: "gorilla"},
	{name: "gws", program: "gws"},
	{name: "gobwas", program: "gobwas"},
	{name: "nbio", program: "nbio"},
	{name: oursAgain, program: "echoserver", special: "ours"},
}

// handshakeServers are those for a handshake of TLS. nbio is not among them: its copy of crypto/tls does not know the key exchange with ML-KEM,
// which is most of the work of the others.
var handshakeServers = []server{tlsServers[0], tlsServers[1], tlsServers[3]}

// deflateServers are those for permessage-deflate.
var deflateServers = slices.DeleteFunc(slices.Clone(wsServers), func(s server) bool {
	return s.plain || s.name == "gobwas" || s.name == "nbio"
})

// allServers has each name once.
var allServers = func() (all []server) {
	for _, s := range slices.Concat(servers, tlsServers, wsServers) {
		if !slices.ContainsFunc(all, func(one server) bool { return one.name == s.name }) {
			all = append(all, s)
		}
	}
	return all
}()

func (s server) String() string { return s.name }
