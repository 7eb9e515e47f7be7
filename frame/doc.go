// Package frame cuts a stream of bytes into packets. TCP keeps the bytes in order and forgets how they were written: what
// one side sends in three pieces the other may read in one, or in five. A [Framer] puts marks into the stream by which
// the other side finds the packets again. Framers hold no state, open nothing and know no engine: bytes go in, and
// packets, which are parts of them, come out.
//
//	buf = append(buf, received...)
//	for {
//		packet, n, err := framer.Split(buf)
//		if err != nil {
//			return err // the connection cannot go on
//		}
//		if n == 0 {
//			break // the packet is not whole yet
//		}
//		handle(packet) // part of buf: copy what is to be kept
//		buf = buf[n:]
//	}
//
// # Which one
//
//	the other side is                            take
//	a client of the C# ServerCore lesson         ServerCore
//	yours, and any protocol will do              LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}, or Varint
//	binary, with a length in its header          LengthField: offset, width, byte order, what the length counts
//	a writer of protobuf messages                Varint
//	text, or a person with nc or telnet          Line
//	one that ends its messages with a mark       Delimiter
//	a device with records of one size            Fixed
//	something else                               a Framer of your own: see its example
//
// With a length in front the receiver knows the size of a packet from the first few bytes, and the payload may hold
// anything. With a mark at the end the sender need not know the size, a person can type it, and the payload must not
// contain the mark: Append refuses one that does.
//
// # Layouts
//
//	framer       on the wire, and below it the packet passed on           largest, default   also
//	ServerCore   [size:2 little-endian, counts itself][payload]           payload, 65533     Sizer
//	                                                  ^^^^^^^^^
//	LengthField  [header..[length:1,2,3,4,8]..][rest]                     frame, 64 KiB      Sizer
//	              strip ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
//	Delimiter    [payload][delimiter]                                     payload, 64 KiB    Resumer
//	             ^^^^^^^^^ (and the delimiter with Keep)
//	Line         [line][\r?][\n]                                          line, 64 KiB       Resumer
//	             ^^^^^^
//	Fixed        [Size bytes]                                             Size, none         Sizer
//	             ^^^^^^^^^^^^
//	Varint       [length:1-5 base 128][payload]                           payload, 64 KiB    Sizer
//	                                  ^^^^^^^^^
//
// The same payload, "hi", in each:
//
//	ServerCore{}                                                04 00 68 69
//	LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}   00 00 00 02 68 69
//	Delimiter{Delimiter: []byte("||")}                          68 69 7c 7c
//	Line{}                                                      68 69 0a
//	Fixed{Size: 2}                                              68 69
//	Varint{}                                                    02 68 69
//
// # Guaranteed
//
// F1, F2 and F4 must hold for a Framer of yours too.
//
//	F1  A packet is inside the n bytes it took, n is never more than there is, and n > 0 exactly when there is a packet.
//	F2  How the stream was cut into reads does not matter: the packets are the same, and so is what is left or the kind
//	    of the error after them.
//	F3  A packet over the maximum is refused on its header, before a byte of its body is there, or where it has no
//	    header, as soon as the maximum is passed. No framer asks its caller to hold more.
//	F4  What one side sends is what Split returns on the other: Append refuses what it could not keep this for.
//	F5  No bytes and no fields make a framer panic, overflow or stand still. An invalid field is an error of both
//	    methods that names it.
//	F6  Split allocates nothing, unless it returns an error. Append allocates what dst has no room for.
//	F7  Nothing is searched twice, but for the length of a delimiter: with SizeOf or SplitFrom a packet costs what its
//	    length costs, in one read or many.
//
// Not guaranteed: that a packet is what the peer meant (a length that lies within the bounds is believed), and that
// an end of the stream in the middle of a packet is noticed: bytes that are left when the peer closes are for the
// caller to judge.
package frame
