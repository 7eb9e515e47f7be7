// Package checksum is a layer under a session that exists for tests. It has everything that a real layer has: a handshake, records, bytes
// of its own, a last word before FIN, deadlines. It hides nothing and it finds everything: a record that was sealed twice, lost, changed
// or sent out of order is an error on the other side that says so.
//
// # On the wire
//
//	+--------+----------+----------+---------+----------+
//	| kind:1 | length:3 | number:4 | payload | CRC-32C:4|   big-endian; length is that of the payload; the CRC is that of all before it
//	+--------+----------+----------+---------+----------+
//
//	kind     payload                                                      at most, bytes
//	hello    "checksum/1 " and the shape: the first record of each side   1,024
//	data     bytes of the application                                     1,024 (Sealing), 65,536 (Framing)
//	probe    any; asks for an answer                                      1,024
//	answer   that of the latest probe; it answers the earlier ones too    1,024
//	close    nothing, or a code of two bytes and a reason: the last word  1,024
//
// The top bit of kind is set by servers, so a record that comes back to its sender is found. The client sends its hello first. A side that
// refuses the other's hello sends a close in place of its own.
//
// # Two shapes
//
// Sealing: all records are numbered from 0 in each direction. [Sealer] makes the data records when bytes are about to be written. The
// stream has no messages. Records of the layer's own may stand between any two records.
//
// Framing: a message is one data record. [Framer] makes it when the message is sent, once for all receivers, so it has no number (0). The
// others are numbered among themselves. Records of the layer's own may stand only between two messages.
//
// # Use
//
// [Layer] and [Sealer] do no I/O, have no goroutine, no lock and no clock. One goroutine at a time may use them. [Client] and [Server] make
// a net.Conn of a connection and a layer, for tests.
//
//	record.go  the records, and what can be wrong with one
//	layer.go   the layer's state, and the end of it
//	open.go    Open: wire bytes in, the application's bytes out
//	own.go     what the layer sends by itself; probes and their deadlines
//	seal.go    Seal and Framer: the application's bytes in, wire bytes out
//	conn.go    Conn, a net.Conn for tests
package checksum
