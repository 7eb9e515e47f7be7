// Package trials proves the promises of package cluster, N1 to N5, from outside: its nodes are processes, in network namespaces that the
// tests make, and they are killed, stopped and parted as nodes are. It holds tests only.
//
//	go test -v ./cluster/trials -scale 0.1                                          # a minute, as the gate does
//	go test -v ./cluster/trials -timeout 1h -scale 1                                # all of it: half an hour, or make cluster-trials
//	go test -v ./cluster/trials -timeout 1h -scale 1 -run 'TestN3Split/embedded'    # one of them, with one bus
//
// They need root, ip, iptables and ss, and Debian's nats-server (2.9.10). Where one is missing the trials stand in the table as not run.
//
// The bus is one of four kinds: the server that is embedded by default, whose node is alone; embedded servers that are connected by routes,
// with a secret and TLS; Debian's nats-server; and two of it with a route between them, so that a split leaves a bus on both sides.
//
// # Trials
//
//	TestN1Churn         1,000 rooms of 30 members, half of which come and go while everybody speaks
//	TestN2BusGone       NATS killed and started again, or all nodes cut off, for 30 s and 19 times for 4 s, under load
//	TestN3Kill          kill -9 of a node with 50 keys, 20 times
//	TestN3Stop          SIGSTOP for 10 s, then SIGCONT, 20 times, clocks an hour apart; others claim half of the keys meanwhile
//	TestN3Split         iptables between node 0 and the rest, 20 times, clocks an hour apart; both sides claim 50 keys, one side 50 more
//	TestN3Clocks        six claims of each key, one after another, on nodes whose clocks are two hours apart
//	TestN4Slow          a member that reads nothing, then a node that is stopped, at 1,500 messages of 4 KB per second
//	TestN5Credentials   wrong secret, certificate and password; what listens
//	TestRollingRestart  three nodes restarted by SIGTERM, one after another, while 1,000 clients send to one another's keys
//
// The comment of each says which mistakes it notices.
//
// # The oracle
//
// Each trial is judged by its own criteria and by one that all share: no message comes twice to a member or to a key, none out of its
// sender's order, no process dies or says a panic, a fault or a race. Where messages may be missed, chorus compares, member by member, what
// is missing with what nodes have counted and senders were told: the two are equal. Bounds of time are those of the contract. Below full
// scale trials run beside one another, and the bound for delays in TestN4Slow is ten times as long.
//
// # Files
//
//	main_test.go     the scale; the namespace in which the tests run
//	network_test.go  places: namespaces on a bridge; cut
//	process_test.go  programs in places: started, asked, stopped, killed
//	node_test.go     this program as a node: an application with rooms and keys, which answers questions about itself
//	fleet_test.go    a bus, nodes and clients together; the common judgment
//	client_test.go   clients, which judge what they receive
//	chorus_test.go   voices and ears on several nodes: what was missed, and what was counted
//	table_test.go    the table; worst and median
package trials
