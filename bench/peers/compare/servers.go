//go:build linux

package main

// A server is a way to run one of the programs.
type server struct {
	name    string
	program string
	args    []string
	cutting string // the program for workloads with cut messages, if it is another one
	single  bool   // it has one loop, whatever the number of processors
}

// Names that the report treats in a special way.
const (
	ours      = "ours"
	oursAgain = "ours-again" // the same program under a second name: what differs between the two is noise
	gnet      = "gnet"
	gnetReuse = "gnet-reuseport"
	cepoll    = "cepoll"
)

// servers has the servers in the order of a round. The A/A pair is as far apart as a round allows.
var servers = []server{
	{name: ours, program: "echoserver", cutting: "ours"},
	{name: gnet, program: "gnet"},
	{name: gnetReuse, program: "gnet", args: []string{"-reuseport"}},
	{name: "netpoll", program: "netpoll"},
	{name: "nbio", program: "nbio"},
	{name: "std", program: "std"},
	{name: cepoll, program: "cepoll", single: true},
	{name: oursAgain, program: "echoserver", cutting: "ours"},
}

func (s server) String() string { return s.name }
