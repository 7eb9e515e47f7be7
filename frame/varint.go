package frame

import (
	"encoding/binary"
	"math"
)

// Varint is protobuf's delimited stream, as writeDelimitedTo in Java and protodelim in Go write it: the length as an
// unsigned varint, and the payload. A varint has seven bits in each byte, the lowest first; the top bit is set in each
// byte but the last. Split returns the payload. The zero value is ready to use.
//
//	+----------------+---------------------+
//	| length         | payload             |    length = length of the payload
//	| 1 to 5 bytes   | length bytes        |
//	+----------------+---------------------+
//
// Split returns ErrMalformed for a length of more than 5 bytes or 32 bits. Like protobuf's decoders, it accepts a length
// in more bytes than necessary, such as 80 00 for 0, within these 5 bytes. Append writes the shortest form. Varint is a
// [Sizer].
type Varint struct {
	// Max is the size of the largest payload, in bytes. 0 means DefaultMax.
	Max int
}

// max returns the size of the largest payload. The size of a packet must fit an int also where an int has 32 bits.
func (f Varint) max() (int, error) {
	most, err := maximum("Varint.Max", f.Max)
	return min(most, math.MaxInt-binary.MaxVarintLen32), err
}

// size returns the lengths of the header and of the whole packet, or zeros while the header is incomplete.
func (f Varint) size(data []byte) (header, size int, err error) {
	most, err := f.max()
	if err != nil {
		return 0, 0, err
	}
	var length uint64
	for i, b := range data {
		length |= uint64(b&0x7f) << (7 * i)
		switch header = i + 1; {
		case b < 0x80 && length > math.MaxUint32:
			return 0, 0, refuse(ErrMalformed, "length of %d, at most %d", length, uint32(math.MaxUint32))
		case b < 0x80 && length > uint64(most):
			return 0, 0, tooLarge(length, most)
		case b < 0x80:
			return header, header + int(length), nil
		case header == binary.MaxVarintLen32:
			return 0, 0, refuse(ErrMalformed, "length of more than %d bytes", binary.MaxVarintLen32)
		}
	}
	return 0, 0, nil
}

// Split finds the first packet; see [Framer].
func (f Varint) Split(data []byte) (packet []byte, n int, err error) {
	header, size, err := f.size(data)
	if err != nil || size == 0 || len(data) < size {
		return nil, 0, err
	}
	return data[header:size:size], size, nil
}

// SizeOf returns the size of the first packet, header included; see [Sizer].
func (f Varint) SizeOf(data []byte) int {
	_, size, _ := f.size(data)
	return size
}

// Append appends the length and the payload; see [Framer].
func (f Varint) Append(dst, payload []byte) ([]byte, error) {
	most, err := f.max()
	if err != nil {
		return dst, err
	}
	if most = int(min(uint64(most), math.MaxUint32)); len(payload) > most {
		return dst, tooLarge(uint64(len(payload)), most)
	}
	return append(binary.AppendUvarint(dst, uint64(len(payload))), payload...), nil
}
