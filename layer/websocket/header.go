package websocket

import "encoding/binary"

// Opcodes of frames: RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Bits of the first two bytes of a frame: RFC 6455, section 5.2.
const (
	bitFin     = 0x80
	bitRSV1    = 0x40 // compressed, by RFC 7692; in the first frame of a message only
	bitsRSV23  = 0x30
	bitControl = 0x08 // of an opcode
	maskOpcode = 0x0F
	bitMask    = 0x80
	maskLength = 0x7F
)

const (
	maxHeader  = 14  // bytes: 2, a length of 8, a key of 4
	maxControl = 125 // bytes of a control frame's payload
	maxReason  = maxControl - 2
)

// header is the header of a frame.
type header struct {
	op      byte
	fin     bool
	rsv1    bool
	masked  bool
	key     uint32 // little-endian: its lowest byte masks the first byte of the payload
	payload int64  // bytes
}

// parseHeader returns the header at the beginning of b and its length in bytes, 0 if b has not all of it.
func parseHeader(b []byte) (h header, n int, err error) {
	if len(b) < 2 {
		return header{}, 0, nil
	}
	h = header{op: b[0] & maskOpcode, fin: b[0]&bitFin != 0, rsv1: b[0]&bitRSV1 != 0, masked: b[1]&bitMask != 0}
	n = 2
	length, shortest := uint64(b[1]&maskLength), uint64(0)
	switch length {
	case 126:
		if n, shortest = 4, 126; len(b) >= n {
			length = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if n, shortest = 10, 1<<16; len(b) >= n {
			length = binary.BigEndian.Uint64(b[2:])
		}
	}
	if len(b) < n {
		return header{}, 0, nil
	}
	if length>>63 != 0 {
		return header{}, 0, protocolErrorf("a frame of %d bytes: the length has 63 bits", length)
	}
	if length < shortest {
		return header{}, 0, protocolErrorf("a length of %d in %d bytes: it fits in fewer", length, n-2)
	}
	h.payload = int64(length)
	if h.masked {
		if len(b) < n+4 {
			return header{}, 0, nil
		}
		h.key = binary.LittleEndian.Uint32(b[n:])
		n += 4
	}
	return h, n, nil
}

// appendHeader appends a header: first is its first byte, size the payload's in bytes.
func appendHeader(dst []byte, first byte, size int, masked bool, key uint32) []byte {
	var second byte
	if masked {
		second = bitMask
	}
	switch {
	case size < 126:
		dst = append(dst, first, second|byte(size))
	case size < 1<<16:
		dst = append(dst, first, second|126, byte(size>>8), byte(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, second|127), uint64(size))
	}
	if masked {
		dst = binary.LittleEndian.AppendUint32(dst, key)
	}
	return dst
}
