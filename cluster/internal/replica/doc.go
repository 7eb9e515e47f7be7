// Package replica keeps what the nodes of a cluster hold: claims of keys, and members of rooms. It is a state machine: messages, times and
// calls come in, messages and events come out. It opens no connection, reads no clock and has no goroutine, so that a simulator can run
// many nodes on a bad network. docs/decisions/0023-cluster.md says why it is done so.
//
// Each node writes to a log of its own and publishes each change. All others keep a replica of it. A [Machine] is one node.
//
//	machine.go   the machine, its calls, what comes out
//	claim.go     claims: stamps, who wins, when a claim is granted
//	log.go       the node's own log: deltas, the last changes, snapshots
//	peer.go      replicas of other nodes: applying, gaps, acknowledgements
//	view.go      which nodes are up
//	message.go   what nodes say to each other; codec.go: as bytes
//
// # Invariants
//
//	R1  A replica at version v is equal to its log at version v: changes are applied in order, each once, or the whole log replaces it.
//	R2  Of two claims of a key, the lower one is removed by its node before that node acknowledges the higher one.
//	R3  A claim is granted only when each node in the view of its node has acknowledged it.
//	R4  A new claim has a stamp above all stamps that its node has seen.
//	R5  A claim is granted only when each of those nodes' logs is applied up to where it was when that node was first heard.
//
// From R2 to R5 follows: two nodes have granted claims of a key only if one of them did not have the other in its view when its claim was
// granted. That is a split, or a node that was stopped for longer than FailAfter. R2 ends it when their logs meet.
package replica
