package frame

// DefaultMax is the largest packet, in bytes, of a framer whose maximum is left at 0: 64 KiB. ([ServerCore] has its own
// default.) The maximum also bounds how much memory a peer can make the server hold for an incomplete packet, on each
// of its connections.
const DefaultMax = 64 << 10

// A Framer cuts a stream of bytes into packets, and turns a payload into the bytes on the wire.
//
// It keeps no state between calls: one value serves any number of connections, from any goroutine. Its results must
// depend on its fields and arguments alone. A Framer of your own must keep promises F1, F2 and F4 of the package.
type Framer interface {
	// Split finds the first packet in data. data begins where the previous packet ended.
	//
	// n is the number of bytes of data that the packet took, with header, delimiter and stripped bytes. n == 0 with a
	// nil error means that the packet is not complete yet: the caller calls again with the same bytes and more. An empty
	// packet has n > 0.
	//
	// packet aliases data and is valid as long as data is. Its capacity equals its length, so that an append to it cannot
	// overwrite the next packet.
	//
	// An error is final: the beginning of the next packet is unknown, so the connection must end. The error matches
	// ErrTooLarge or ErrMalformed, or names an invalid field of the framer. An invalid field is an error without any
	// data too, so Split(nil) tells whether a framer can be used.
	Split(data []byte) (packet []byte, n int, err error)

	// Append appends the framed payload to dst, as the built-in append does, and returns the result. Split of these
	// bytes returns the payload. With an error, Append returns dst unchanged: the payload is larger than the maximum
	// (ErrTooLarge), or Split could not return it (ErrMalformed), or a field of the framer is invalid.
	//
	// payload must not lie in the spare capacity of dst. The caller keeps both slices.
	Append(dst, payload []byte) ([]byte, error)
}

// A Sizer is a Framer that knows the size of a packet before all of the packet has arrived.
type Sizer interface {
	// SizeOf returns the number of bytes that the first packet of data takes in all (n of Split). It returns 0 while the
	// size is not known, and if Split returns an error. It never exceeds what the framer's maximum allows. A peer can
	// send a header at little cost: a caller that sizes a buffer by SizeOf should still let it grow with what arrives.
	SizeOf(data []byte) int
}

// A Resumer is a Framer that searches for the end of a packet and can resume the search. Without it, a long packet that
// arrives in many small reads is searched from its beginning after each read, which takes quadratic time.
type Resumer interface {
	// SplitFrom is Split for a caller that got n == 0 for data[:scanned] before. It does not search those bytes again,
	// except for the last few, in which a delimiter may have begun. SplitFrom(data, 0) is Split(data).
	SplitFrom(data []byte, scanned int) (packet []byte, n int, err error)
}
