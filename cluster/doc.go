// Package cluster joins processes that run servercore into one: rooms whose members are on several nodes, and sessions that are found by a
// key wherever they are connected. The bus is NATS, in this process or beside it.
//
//	node, err := cluster.Open(cluster.Options{URL: "nats://10.0.0.1:4222,nats://10.0.0.2:4222"})
//
//	func (p *player) OnConnected(net.Addr) { node.Room("lobby").Join(p) }
//	func (p *player) OnRecv(data []byte)   { node.Room("lobby").Broadcast(data, p) } // to everybody else, on all nodes
//
//	err := node.Claim(ctx, "alice", p)               // alice is here; her session elsewhere is ended with ErrReplaced
//	err := node.Send(ctx, "alice", []byte("hello"))  // to her, wherever she is
//
// With zero [Options] a NATS server runs in the process, with no port open, and the same code runs on one machine. Two ways to more
// nodes:
//
//   - [Options].URL: NATS servers that you run. For production.
//   - [Embedded] with Routes: the servers in the processes connect to one another. On one machine as it is, between machines with a secret
//     and TLS.
//
// # What is promised
//
//	N1  A Broadcast crosses the bus once per node with members, reaches each member once, and one sender's Broadcasts in their order.
//	N2  Without the bus, what is local goes on, and what needs others fails at once with ErrUnavailable. Nothing is kept for later.
//	    When it is back, all is right again within 5 s.
//	N3  A key has one live holder, but while the bus is split; one again within 5 s after that. A node that dies frees its keys within 10 s.
//	N4  Who is slow delays nobody else. What is dropped is counted.
//	N5  Nobody gets in without the credentials.
//
// Not promised: that a Broadcast arrives. Between nodes it is sent once, and what a slow node, a lost connection or a split takes away is
// counted ([Stats]) and not sent again. There is no order between senders on
// different nodes, nor between a Broadcast and a Send. Every node knows all claims and members: less than 200 bytes for each.
//
// # For those who change this package
//
//	options.go, embedded.go, connect.go  where the bus is; what is wrong there
//	cluster.go                           the node: its goroutines, what it does with the machine's events
//	sessions.go                          what is kept of a session, and its end
//	internal/replica                     which nodes are up, who claims what, who is in which room: a state machine that is simulated
//	queue.go                             the writer: subscriptions, then the machine's messages, then Broadcasts
//	room.go, deliver.go                  Broadcast out, and in
//	claim.go, send.go                    the directory
//	presence.go, intercept.go, drain.go
//	stats.go, metrics.go                 what is counted, for people and for Prometheus
//	measure                              what it costs, with nodes that are processes: make measure-cluster
//
// docs/decisions/0023-cluster.md has the reasons.
package cluster
