package websocket

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// xor writes src, masked or unmasked with key, to dst, which is at least as long and does not overlap it. It returns the key for the bytes
// that follow. It reads and writes once, 32 bytes in a round.
func xor(dst, src []byte, key uint32) uint32 {
	dst = dst[:len(src)]
	wide := uint64(key)<<32 | uint64(key)
	for len(src) >= 32 && len(dst) >= 32 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^wide)
		binary.LittleEndian.PutUint64(dst[8:16], binary.LittleEndian.Uint64(src[8:16])^wide)
		binary.LittleEndian.PutUint64(dst[16:24], binary.LittleEndian.Uint64(src[16:24])^wide)
		binary.LittleEndian.PutUint64(dst[24:32], binary.LittleEndian.Uint64(src[24:32])^wide)
		dst, src = dst[32:], src[32:]
	}
	for len(src) >= 8 && len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^wide)
		dst, src = dst[8:], src[8:]
	}
	for i, c := range src {
		dst[i] = c ^ byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}

// newKey returns a key for one frame. The source is the runtime's ChaCha8, a generator of cryptographic quality that the system seeds; it
// takes no lock and no system call. RFC 6455, section 5.3, asks for keys that the application cannot predict.
func newKey() uint32 { return rand.Uint32() }

// appendFrame appends a frame with payload. A client's is masked, with a new key.
func appendFrame(dst []byte, first byte, payload []byte, client bool) []byte {
	dst = slices.Grow(dst, maxHeader+len(payload))
	if !client {
		return append(appendHeader(dst, first, len(payload), false, 0), payload...)
	}
	key := newKey()
	dst = appendHeader(dst, first, len(payload), true, key)
	n := len(dst)
	dst = dst[:n+len(payload)]
	xor(dst[n:], payload, key)
	return dst
}
