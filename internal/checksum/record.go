package checksum

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes, in bytes.
const (
	MaxPayload = 1 << 10        // the payload of a record that is no message
	MaxMessage = 64 << 10       // the payload of a message
	MaxSeal    = 16 << 10       // what one Seal takes
	headerSize = 8              // kind, length, number
	Overhead   = headerSize + 4 // what a record adds to its payload
)

// kind is what a record is for.
type kind byte

const (
	kindHello kind = iota + 1
	kindData
	kindProbe
	kindAnswer
	kindClose

	fromServer kind = 0x80 // or'ed to the kind by servers
)

func (k kind) String() string {
	if k >= kindHello && k <= kindClose {
		return [...]string{"hello", "data", "probe", "answer", "close"}[k-kindHello]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// castagnoli is the table of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record. k has the bit of the side that sends it.
func appendRecord(dst []byte, k kind, number uint32, payload []byte) []byte {
	begin, n := len(dst), len(payload)
	dst = append(dst, byte(k), byte(n>>16), byte(n>>8), byte(n))
	dst = binary.BigEndian.AppendUint32(dst, number)
	dst = append(dst, payload...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

// record is a record that has come whole. Its payload aliases the bytes that it was parsed from.
type record struct {
	whole    bool // false: there is none
	kind     kind // without the bit of the side
	server   bool
	number   uint32
	payload  []byte
	sum, has uint32 // the CRC that it says, and that of its bytes
}

// parse returns the record that b is.
func parse(b []byte) record {
	end := len(b) - 4
	return record{
		whole:   true,
		kind:    kind(b[0]) &^ fromServer,
		server:  kind(b[0])&fromServer != 0,
		number:  binary.BigEndian.Uint32(b[4:]),
		payload: b[headerSize:end:end],
		sum:     binary.BigEndian.Uint32(b[end:]),
		has:     crc32.Checksum(b[:end], castagnoli),
	}
}

// sizeOf returns the size in bytes of the record that begins with b, by its header: 0 while that is incomplete. The payload of a data record
// may have mostData bytes.
func sizeOf(b []byte, mostData int) (size int, err error) {
	if len(b) < headerSize {
		return 0, nil
	}
	k, length, most := kind(b[0])&^fromServer, int(b[1])<<16|int(b[2])<<8|int(b[3]), MaxPayload
	if k == kindData {
		most = mostData
	}
	if length > most {
		return 0, fmt.Errorf("a record (%v) of %d bytes, at most %d", k, length, most)
	}
	return length + Overhead, nil
}
