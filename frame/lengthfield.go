package frame

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// maxStrip bounds LengthField.InitialBytesToStrip, because Append writes that many bytes.
const maxStrip = 64 << 10

// LengthField is a packet with its length in a header. Its fields have the names and meanings of the parameters of
// Netty's LengthFieldBasedFrameDecoder. In bytes:
//
//	+-------------------+-------------------+---------------------------+
//	| other header      | length            | rest of the frame         |
//	| LengthFieldOffset | LengthFieldLength | length + LengthAdjustment |
//	+-------------------+-------------------+---------------------------+
//	| InitialBytesToStrip     | the packet that Split returns           |
//	+-------------------------+-----------------------------------------+
//
// Common settings, for a length of two bytes:
//
//	LengthField{LengthFieldLength: 2, InitialBytesToStrip: 2}                        length of the payload, payload
//	LengthField{LengthFieldLength: 2, InitialBytesToStrip: 2, LengthAdjustment: -2}  the length counts itself too
//	LengthField{LengthFieldLength: 2, LengthFieldOffset: 1}                          a type of one byte before the length
//
// # Split
//
// Split does what Netty's decoder does. It returns ErrMalformed for a length that makes the frame shorter than its
// header or than InitialBytesToStrip, and for a length of eight bytes above the largest int64, which Netty reads as a
// negative number.
//
// # Append
//
// Append is the inverse of Split, so payload is the frame without its first InitialBytesToStrip bytes. For the header
// this means:
//
//	length, stripped                 Append writes it
//	length, not stripped             payload contains it; ErrMalformed if it does not match the size
//	other header byte, stripped      Append writes 0; Split on the other side ignores it
//	other header byte, not stripped  payload contains it
//
// If a stripped byte must have another value, embed LengthField and give the type its own Append, as in the example.
//
// Append returns ErrMalformed for a payload too short for the header bytes that it must contain, and ErrTooLarge for a
// payload whose length does not fit the length field.
//
// LengthField is a [Sizer]. LengthFieldLength must be set; everything else may be left at 0.
type LengthField struct {
	// MaxFrameLength is the size of the largest frame, in bytes, with its header and before anything is stripped. 0
	// means DefaultMax. The length field must fit into it.
	MaxFrameLength int

	// LengthFieldOffset is the number of bytes before the length field. A negative one is invalid.
	LengthFieldOffset int

	// LengthFieldLength is the size of the length field, in bytes: 1, 2, 3, 4 or 8. It has no default.
	LengthFieldLength int

	// LengthAdjustment is added to the length to get the number of bytes after the length field. It is negative if the
	// length also counts the header or a part of it, and positive if it leaves out bytes after the length field.
	LengthAdjustment int

	// InitialBytesToStrip is the number of bytes at the beginning of the frame that Split leaves out of the packet, at
	// most 65536. With 0, a packet is the whole frame.
	InitialBytesToStrip int

	// ByteOrder is the byte order of the length: binary.BigEndian (also for nil), binary.LittleEndian or
	// binary.NativeEndian.
	ByteOrder binary.ByteOrder
}

// fourBytes is the input by which check recognizes a byte order. A local slice would escape through the method call and
// allocate.
var fourBytes = []byte{1, 2, 3, 4}

// check returns the maximum, the offset of the end of the length field, and whether the length is little-endian.
func (f LengthField) check() (most, end int, little bool, err error) {
	if most, err = maximum("LengthField.MaxFrameLength", f.MaxFrameLength); err != nil {
		return 0, 0, false, err
	}
	switch f.LengthFieldLength {
	case 1, 2, 3, 4, 8:
	default:
		return 0, 0, false, invalid("LengthField.LengthFieldLength", f.LengthFieldLength, "1, 2, 3, 4 or 8")
	}
	if f.LengthFieldOffset < 0 {
		return 0, 0, false, invalid("LengthField.LengthFieldOffset", f.LengthFieldOffset, "0 or more")
	}
	if f.InitialBytesToStrip < 0 || f.InitialBytesToStrip > maxStrip {
		return 0, 0, false, invalid("LengthField.InitialBytesToStrip", f.InitialBytesToStrip, "0 to "+strconv.Itoa(maxStrip))
	}
	if f.LengthFieldOffset > most-f.LengthFieldLength {
		return 0, 0, false, invalid("LengthField.MaxFrameLength", most, "LengthFieldOffset + LengthFieldLength or more")
	}
	if f.ByteOrder != nil {
		switch f.ByteOrder.Uint32(fourBytes) {
		case 0x01020304:
		case 0x04030201:
			little = true
		default:
			return 0, 0, false, invalid("LengthField.ByteOrder", f.ByteOrder, "big or little endian")
		}
	}
	return most, f.LengthFieldOffset + f.LengthFieldLength, little, nil
}

// size returns the length of the frame, or 0 while the header is incomplete. The arithmetic is unsigned and has 64 bits,
// so that no step overflows: a length is at most 2^63-1, and the magnitude of an adjustment at most 2^63.
func (f LengthField) size(data []byte) (int, error) {
	most, end, little, err := f.check()
	if err != nil || len(data) < end {
		return 0, err
	}
	length := readLength(data[f.LengthFieldOffset:end], little)
	if length > math.MaxInt64 {
		return 0, refuse(ErrMalformed, "length of %d, at most %d", length, int64(math.MaxInt64))
	}
	rest := length
	if by := int64(f.LengthAdjustment); by >= 0 {
		rest += uint64(by)
	} else {
		if length < uint64(-by) {
			return 0, refuse(ErrMalformed, "length of %d with LengthAdjustment %d", length, by)
		}
		rest -= uint64(-by)
	}
	if rest > uint64(most-end) {
		return 0, tooLarge(min(rest, math.MaxUint64-uint64(end))+uint64(end), most)
	}
	size := end + int(rest)
	if size < f.InitialBytesToStrip {
		return 0, refuse(ErrMalformed, "packet of %d bytes with InitialBytesToStrip %d", size, f.InitialBytesToStrip)
	}
	return size, nil
}

// Split finds the first packet; see [Framer].
func (f LengthField) Split(data []byte) (packet []byte, n int, err error) {
	size, err := f.size(data)
	if err != nil || size == 0 || len(data) < size {
		return nil, 0, err
	}
	return data[f.InitialBytesToStrip:size:size], size, nil
}

// SizeOf returns the length of the first frame, header included; see [Sizer].
func (f LengthField) SizeOf(data []byte) int {
	size, _ := f.size(data)
	return size
}

// Append appends the stripped bytes and the payload; see the type's comment and [Framer].
func (f LengthField) Append(dst, payload []byte) ([]byte, error) {
	most, end, little, err := f.check()
	if err != nil {
		return dst, err
	}
	strip := f.InitialBytesToStrip
	if len(payload) > most-strip {
		return dst, tooLarge(uint64(strip)+uint64(len(payload)), most)
	}
	size := strip + len(payload)
	if size < end {
		return dst, refuse(ErrMalformed, "payload of %d bytes, at least %d", len(payload), end-strip)
	}
	length, err := f.length(size, end)
	if err != nil {
		return dst, err
	}
	var field [8]byte
	writeLength(field[:f.LengthFieldLength], length, little)
	// Split strips the first bytes of the field: none, some or all of them. payload contains the others.
	stripped := field[:max(0, min(strip-f.LengthFieldOffset, f.LengthFieldLength))]
	carried := field[len(stripped):f.LengthFieldLength]
	if at := end - strip; len(carried) > 0 && !bytes.Equal(payload[at-len(carried):at], carried) {
		return dst, refuse(ErrMalformed, "length in a payload of %d bytes is not %d", len(payload), length)
	}
	start := len(dst)
	dst = append(slices.Grow(dst, size), make([]byte, strip)...)
	if len(stripped) > 0 {
		copy(dst[start+f.LengthFieldOffset:], stripped)
	}
	return append(dst, payload...), nil
}

// length returns the value of the length field for a frame of size bytes.
func (f LengthField) length(size, end int) (uint64, error) {
	length := uint64(size - end)
	if by := int64(f.LengthAdjustment); by < 0 {
		length += uint64(-by)
	} else {
		if length < uint64(by) {
			return 0, refuse(ErrMalformed, "packet of %d bytes with LengthAdjustment %d", size, by)
		}
		length -= uint64(by)
	}
	holds := min(uint64(math.MaxUint64)>>(64-8*f.LengthFieldLength), math.MaxInt64)
	if length > holds {
		return 0, refuse(ErrTooLarge, "length of %d in a field of %d bytes", length, f.LengthFieldLength)
	}
	return length, nil
}

func readLength(field []byte, little bool) (length uint64) {
	for i, b := range field {
		if little {
			length |= uint64(b) << (8 * i)
		} else {
			length = length<<8 | uint64(b)
		}
	}
	return length
}

func writeLength(field []byte, length uint64, little bool) {
	for i := range field {
		shift := 8 * i
		if !little {
			shift = 8 * (len(field) - 1 - i)
		}
		field[i] = byte(length >> shift)
	}
}
