package bench

import "golang.org/x/sys/unix"

// States of a connection.
const (
	closed     uint8 = iota // no descriptor
	connecting              // connect is under way
	shaking                 // the TLS handshake is
	upgrading               // the request for WebSocket is sent
	open
)

// A slot remembers when one message was due and when it left.
type slot struct{ planned, sent int64 }

// conn is one connection, or with churn a place for one connection after another. Only its worker uses it.
//
// Messages are numbered from 0, and four cursors part them, in this order:
//
//	v.next    those before have come back, or were found wrong or lost
//	credited  those before no longer count as in flight: answered, or overdue
//	sent      those before have left, or have begun to
//	planned   those before were due
type conn struct {
	v verifier

	credited, sent, planned uint64
	slots                   []slot // a ring of a power of two, by sequence number; holds v.next to planned

	fd     int
	tls    *secured   // nil without TLS
	ws     *webSocket // nil without WebSocket
	gen    uint32     // generation of the descriptor: events of an earlier one are ignored
	index  int32      // in the worker's conns
	target int32      // number of the target it belongs to, in worker.targets
	to     int32      // number of the target's endpoint it is connected to
	begun  int64      // when connect was called
	left   int        // bytes of message sent-1 that have not left
	state  uint8
	again  bool  // on the worker's list of those with more to read
	rest   int64 // time of the next dial; 0 if none is planned
	quit   bool  // closed by the worker, because replies took too long
	first  bool  // idle with EchoAll: the message before the load has no reply yet

	failed  *failures           // of the endpoints that were tried so far
	skipped map[uint64]struct{} // fanout: messages that were lost so far
}

func (c *conn) key() uint64 { return uint64(uint32(c.index)) | uint64(c.gen)<<32 }

// inFlight is the number of messages that have left and may still be answered in time.
func (c *conn) inFlight() uint64 { return c.sent - c.credited }

func (c *conn) slot(seq uint64) *slot { return &c.slots[seq&uint64(len(c.slots)-1)] }

// plan adds a message that is due at the given time.
func (c *conn) plan(at int64) {
	if int(c.planned-c.v.next) == len(c.slots) {
		c.grow()
	}
	*c.slot(c.planned) = slot{planned: at}
	c.planned++
}

func (c *conn) grow() {
	old := *c
	c.slots = make([]slot, max(4, 2*len(old.slots)))
	for seq := old.v.next; seq < old.planned; seq++ {
		*c.slot(seq) = *old.slot(seq)
	}
}

// restart prepares the place for a new connection whose stream has the given id. It keeps the ring.
func (c *conn) restart(id uint32) {
	c.v = verifier{id: id}
	c.credited, c.sent, c.planned, c.left, c.quit = 0, 0, 0, 0, false
}

// read returns bytes that have arrived. The error is a unix.Errno, or with TLS io.EOF at the end of the stream, or crypto/tls's.
func (c *conn) read(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.read(p)
	}
	n, errno := read(c.fd, p)
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// write sends bytes, as far as the kernel takes them.
func (c *conn) write(p []byte) (int, unix.Errno) {
	if c.tls != nil {
		return c.tls.send(p)
	}
	return write(c.fd, p)
}
