package reactor

import "sync/atomic"

// executor is where a connection is served: on its loop, or by one worker at a time.
type executor[C any] struct {
	loop    *Loop[C]
	scratch *scratch   // of the goroutine that serves the connection
	strand  *strand[C] // nil: on the loop
}

// scratch is the memory of a goroutine that serves connections. The connection that it serves uses it.
type scratch struct {
	owner   any
	gather  gather // for writes: see socket_*.go
	input   []byte // what was read last
	written int    // bytes, by this goroutine
}

func newScratch(owner any) *scratch { return &scratch{owner: owner, input: make([]byte, ReadSize)} }

// Offloaded counts what workers do for the connections of some loops.
type Offloaded struct {
	Working atomic.Int64 // workers that serve a connection
	Waiting atomic.Int64 // connections that are due and wait for a worker
}
