// Command compare loads our echo server and its peers in turn and tells what each costs. From this folder:
//
//	go run ./compare                                        every workload over TCP, every server
//	go run ./compare -workloads tls,ws                      those over TLS and over WebSocket
//	go run ./compare -workloads latency                     how late an answer is, at 70 % load
//	go run ./compare -server-cpu 1 -client-cpu 0 -rounds 11 for a claim
//	go run ./compare -base main -servers ours,ours-again,gnet,gnet-reuseport   what moved since main: make perf
//	go run ./compare -workloads churn,idle -servers ours,gnet,gnet-reuseport
//	go run ./compare -cross-check                           netbench against an independent client
//
// It builds everything into a temporary folder; nothing else is written but what -out names. In each round each server is
// started anew, loaded by netbench, and killed: A B C A B C. Linux only: it pins processes and reads /proc.
//
//	main.go       flags, signals, exit codes
//	workloads.go  what is measured over TCP; protocol.go, over TLS and WebSocket; servers.go, on what
//	base.go       ours at another revision, and what moved since
//	build.go      the programs; cert.go, their certificate; process.go, one of them running
//	measure.go    one measurement; deflate.go, with the client that compresses; rounds.go, all of them in turn, with progress
//	figures.go    medians, paired ratios, what can be told from noise
//	report.go     markdown and JSON; crosscheck.go, the check of the tool itself
//
// Exit codes: 0 no errors; 1 could not run, or was interrupted; 2 bad flags; 3 a server failed or met errors, or the
// cross-check does not agree; 4 with -base, a row got worse.
package main
