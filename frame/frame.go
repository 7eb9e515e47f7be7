package frame

// DefaultMax is the largest packet, in bytes, of a framer whose maximum was left at 0 (but for [ServerCore]): 64 KiB.
// The maximum is also what a peer can make a server hold before a packet is whole, times the number of its connections.
const DefaultMax = 64 << 10

// A Framer cuts a stream of bytes into packets, and turns a payload into the bytes that travel.
//
// It keeps nothing between calls: one value serves any number of connections, from any goroutine. What it answers
// must depend on the bytes alone. Promises F1, F2 and F4 at the head of this package are asked of a Framer of yours too.
type Framer interface {
	// Split finds the first packet in data, which begins where the packet before it ended.
	//
	// n is how many bytes of data the packet took: header, delimiter and stripped bytes included. n == 0 with a nil
	// error means that the packet is not whole yet; the caller comes again with the same bytes and more. An empty
	// packet has n > 0.
	//
	// packet aliases data and is valid as long as data is. Its capacity ends where it does, so that an append to it
	// cannot run into the next packet.
	//
	// An error is final: where the next packet begins is not known any more, so the connection must end. It matches
	// ErrTooLarge or ErrMalformed, or says which field of the framer is invalid. The latter comes without any bytes
	// too: Split(nil) tells whether a framer can be used.
	Split(data []byte) (packet []byte, n int, err error)

	// Append appends the framed payload to dst, as the built-in append does, and returns the result. Split of these
	// bytes gives the payload again. With an error dst comes back as it was: the payload is larger than the maximum
	// (ErrTooLarge), could not be told from something else by Split (ErrMalformed), or the framer itself is invalid.
	//
	// payload must not lie in the spare capacity of dst. Both remain the caller's.
	Append(dst, payload []byte) ([]byte, error)
}

// A Sizer is a Framer that knows how long a packet is before all of it is there.
type Sizer interface {
	// SizeOf returns how many bytes the first packet of data takes in all, its n, or 0 while that is not known and
	// where Split returns an error. It never exceeds what the framer's maximum allows. Bytes of a header are cheap
	// to send: who sizes a buffer by it should still let it grow with what has arrived.
	SizeOf(data []byte) int
}

// A Resumer is a Framer that has to search for the end of a packet, and can go on where it stopped. Without it, a long
// packet that comes in many small reads is searched from its beginning at each of them, which is quadratic.
type Resumer interface {
	// SplitFrom is Split for a caller that was told "not whole yet" for data[:scanned] before. Those bytes are not
	// searched again, but for as many as a delimiter may have begun in. SplitFrom(data, 0) is Split(data).
	SplitFrom(data []byte, scanned int) (packet []byte, n int, err error)
}
