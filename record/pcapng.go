package record

import "encoding/binary"

// The blocks of a pcapng file, from draft-ietf-opsawg-pcapng. Each begins with its type and its length and ends with the length, which is a
// multiple of 4. Everything is little-endian.

const (
	blockSection    = 0x0A0D0D0A
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6 // Enhanced Packet Block

	byteOrderMagic = 0x1A2B3C4D
	linkRaw        = 101 // LINKTYPE_RAW: the packet begins with the IP header

	optEnd        = 0
	optComment    = 1
	optFlags      = 2 // of a packet
	optName       = 2 // of an interface
	optResolution = 9 // of an interface: 9 stands for 10^-9 s
	optReceived   = 4 // of statistics
	optDropped    = 5
	optApp        = 4 // of a section

	flagInbound  = 1
	flagOutbound = 2
)

var le = binary.LittleEndian

// padded returns n, rounded up to a multiple of 4.
func padded(n int) int { return (n + 3) &^ 3 }

// appendOption appends an option with its padding.
func appendOption(b []byte, code uint16, value string) []byte {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, "\x00\x00\x00"[:padded(len(value))-len(value)]...)
}

// appendUint64Option appends an option whose value is a number.
func appendUint64Option(b []byte, code uint16, value uint64) []byte {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, 8)
	return le.AppendUint64(b, value)
}

// appendBlock appends a block whose body is written by body, which only appends.
func appendBlock(b []byte, kind uint32, body func([]byte) []byte) []byte {
	began := len(b)
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, 0)
	b = body(b)
	length := uint32(len(b) - began + 4)
	le.PutUint32(b[began+4:], length)
	return le.AppendUint32(b, length)
}

// appendHeader appends what a file begins with: the section and its one interface.
func appendHeader(b []byte) []byte {
	b = appendBlock(b, blockSection, func(b []byte) []byte {
		b = le.AppendUint32(b, byteOrderMagic)
		b = le.AppendUint16(b, 1) // version 1.0
		b = le.AppendUint16(b, 0)
		b = le.AppendUint64(b, ^uint64(0)) // the length is not known
		b = appendOption(b, optApp, "servercore")
		return le.AppendUint32(b, optEnd)
	})
	return appendBlock(b, blockInterface, func(b []byte) []byte {
		b = le.AppendUint16(b, linkRaw)
		b = le.AppendUint16(b, 0)
		b = le.AppendUint32(b, 0) // packets are whole
		b = appendOption(b, optName, "sessions")
		b = appendOption(b, optResolution, "\x09")
		return le.AppendUint32(b, optEnd)
	})
}

// appendStatistics appends what a file ends with: how many records there are, and how many were left out. at is in nanoseconds since 1970.
func appendStatistics(b []byte, at int64, written, dropped uint64) []byte {
	return appendBlock(b, blockStatistics, func(b []byte) []byte {
		b = le.AppendUint32(b, 0) // the interface
		b = le.AppendUint32(b, uint32(at>>32))
		b = le.AppendUint32(b, uint32(at))
		b = appendUint64Option(b, optReceived, written+dropped)
		b = appendUint64Option(b, optDropped, dropped)
		return le.AppendUint32(b, optEnd)
	})
}
