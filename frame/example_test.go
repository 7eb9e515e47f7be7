package frame_test

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/servercore-go/servercore/frame"
)

// The packets do not depend on how the network cuts the stream.
func Example() {
	var framer frame.Framer = frame.ServerCore{}
	var buf []byte
	for _, received := range []string{"\x07", "\x00hel", "lo\x07\x00world\x02", "\x00\x01\x00"} {
		buf = append(buf, received...)
		for {
			packet, n, err := framer.Split(buf)
			if err != nil {
				fmt.Println(err)
				return
			}
			if n == 0 {
				break
			}
			fmt.Printf("%q\n", packet)
			buf = buf[n:]
		}
	}
	// Output:
	// "hello"
	// "world"
	// ""
	// frame: size of 1 bytes, at least 2: malformed packet
}

// typed is a Framer for a protocol of your own: a header of four bytes with the type and the length of the body, two
// bytes each. Split returns the packet with its header, because the application needs the type. Each type has its own
// maximum, which LengthField cannot express.
type typed struct{}

const (
	move = 1
	chat = 2
)

var largest = map[uint16]int{move: 12, chat: 1000}

func (typed) Split(data []byte) (packet []byte, n int, err error) {
	if len(data) < 4 {
		return nil, 0, nil // not complete yet
	}
	body := int(binary.BigEndian.Uint16(data[2:]))
	if err := fits(data, body); err != nil {
		return nil, 0, err // before the body has arrived
	}
	if n = 4 + body; len(data) < n {
		return nil, 0, nil
	}
	return data[:n:n], n, nil
}

// Append takes what Split returns: a payload with its header.
func (typed) Append(dst, payload []byte) ([]byte, error) {
	if len(payload) < 4 || int(binary.BigEndian.Uint16(payload[2:])) != len(payload)-4 {
		return dst, fmt.Errorf("game: wrong header: %w", frame.ErrMalformed)
	}
	if err := fits(payload, len(payload)-4); err != nil {
		return dst, err
	}
	return append(dst, payload...), nil
}

func fits(header []byte, body int) error {
	kind := binary.BigEndian.Uint16(header)
	most, known := largest[kind]
	if !known {
		return fmt.Errorf("game: type %d: %w", kind, frame.ErrMalformed)
	}
	if body > most {
		return fmt.Errorf("game: type %d with %d bytes, at most %d: %w", kind, body, most, frame.ErrTooLarge)
	}
	return nil
}

// A Framer for a protocol that no framer of this package fits.
func ExampleFramer() {
	var framer frame.Framer = typed{}
	stream, err := framer.Append(nil, []byte("\x00\x02\x00\x05hello"))
	fmt.Printf("%q %v\n", stream, err)

	packet, n, err := framer.Split(stream)
	fmt.Printf("type %d, %q, %d bytes, error %v\n", packet[1], packet[4:], n, err)

	_, n, err = framer.Split(stream[:7])
	fmt.Println(n, err)

	_, _, err = framer.Split([]byte("\x00\x01\xff\xff"))
	fmt.Println(err, errors.Is(err, frame.ErrTooLarge))
	// Output:
	// "\x00\x02\x00\x05hello" <nil>
	// type 2, "hello", 9 bytes, error <nil>
	// 0 <nil>
	// game: type 1 with 65535 bytes, at most 12: frame: packet too large true
}

// magic has a header of three bytes that Split strips: 0xCA and the length of the payload. LengthField would send 0 as the
// first byte.
type magic struct{ frame.LengthField }

func (m magic) Append(dst, payload []byte) ([]byte, error) {
	begin := len(dst)
	dst, err := m.LengthField.Append(dst, payload)
	if err == nil {
		dst[begin] = 0xCA
	}
	return dst, err
}

// LengthField, embedded, with a value in a header byte that Split strips.
func ExampleLengthField() {
	framer := magic{frame.LengthField{LengthFieldOffset: 1, LengthFieldLength: 2, InitialBytesToStrip: 3}}
	stream, _ := framer.Append(nil, []byte("hello"))
	fmt.Printf("%q\n", stream)

	packet, n, err := framer.Split(stream)
	fmt.Printf("%q %d %v\n", packet, n, err)
	// Output:
	// "\xca\x00\x05hello"
	// "hello" 8 <nil>
}
