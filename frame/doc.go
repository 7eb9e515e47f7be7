// Package frame cuts a stream of bytes into packets. TCP keeps the order of the bytes but not the boundaries of the
// writes: what one side sends in three writes, the other may receive in one read, or in five. A [Framer] adds headers or
// delimiters to the stream, by which the other side finds the packets. Framers hold no state, do no I/O, and know
// nothing of the engine. Split takes received bytes and returns slices of them.
//
//	buf = append(buf, received...)
//	for {
//		packet, n, err := framer.Split(buf)
//		if err != nil {
//			return err // the connection must end
//		}
//		if n == 0 {
//			break // the packet is not complete yet
//		}
//		handle(packet) // a slice of buf: copy what is kept
//		buf = buf[n:]
//	}
//
// # Choosing a framer
//
//	the peer is, or its protocol has             use
//	a client of the C# ServerCore lesson         ServerCore
//	your own program, with any protocol          LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}, or Varint
//	a length in a binary header                  LengthField: set offset, width, byte order, and what the length counts
//	length-delimited protobuf messages           Varint
//	lines of text, or a person with nc           Line
//	a delimiter at the end of each message       Delimiter
//	records of one size                          Fixed
//	anything else                                a Framer of your own: see its example
//
// With a length in front, the receiver knows the size of a packet from its first bytes, and the payload may contain any
// bytes. With a delimiter at the end, the sender need not know the size, and a person can type a packet. The payload
// must not contain the delimiter: Append refuses one that does.
//
// # Layouts
//
//	framer       on the wire; ^^^ marks the packet that Split returns     maximum, default   also a
//	ServerCore   [size:2 little-endian, counts itself][payload]           payload, 65533     Sizer
//	                                                  ^^^^^^^^^
//	LengthField  [header..[length:1,2,3,4,8]..][rest]                     frame, 64 KiB      Sizer
//	              strip ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
//	Delimiter    [payload][delimiter]                                     payload, 64 KiB    Resumer
//	             ^^^^^^^^^ (with Keep, the delimiter too)
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
// A Framer of your own must keep F1, F2 and F4.
//
//	F1  A packet lies within the n bytes that it took. n is at most len(data), and n > 0 exactly if there is a packet.
//	F2  The boundaries of the reads do not matter. The packets are the same, and so are the bytes that are left, or the
//	    kind of the error.
//	F3  A packet over the maximum is refused when its header has arrived, before its body. A packet without a header is
//	    refused as soon as it passes the maximum. So a caller never has to hold more than the maximum.
//	F4  Split returns what was given to Append on the other side. Append refuses a payload for which this would not hold.
//	F5  No input and no field value makes a framer panic, overflow or stall. An invalid field makes both methods return
//	    an error that names the field.
//	F6  Split allocates nothing, unless it returns an error. Append allocates only if dst has too little capacity.
//	F7  No byte is searched twice, except for the length of a delimiter. With SizeOf or SplitFrom the cost of a packet
//	    depends on its length, not on the number of reads.
//
// Not guaranteed: that a packet is what the peer meant, because any length within the maximum is accepted; and that an
// end of the stream in the middle of a packet is detected. The caller decides what it means if bytes are left when the
// peer closes.
package frame
