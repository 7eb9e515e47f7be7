// Package sendqueue is the gathered send queue of a session: bytes in the order of their acceptance, in pooled segments and in the scratch
// memory of the callback that runs. It knows no session and no connection.
//
//	queue.go    Queue: push, add, gather, consume, drop
//	growth.go   how large the next segment is, and when a buffer is kept instead of copied
//	scratch.go  Scratch: what a callback sends, and the slices of the write in the making
//	packets.go  Packets: the sizes of the packets that stand in a queue
//
// # Invariants
//
//	Q1  Bytes leave in the order of acceptance. Scratch memory comes before the first segment and is filled only while there is no segment.
//	Q2  One owner per buffer reference: a segment owns one, pop releases it, nothing else does.
//	Q3  Size is what was pushed and added, less what was consumed and dropped. Reclaim and Compact move bytes and leave it as it is.
//	Q4  A queue that is bounded by limit bytes holds no more than Ceiling(limit), or Compact brings it there.
//
// A queue is guarded by its owner's lock. The slices of Gather may be read without it by the owner's loop, until it calls Consume; Compact and
// Drop are not called by others in between.
package sendqueue
