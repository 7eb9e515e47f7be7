package frame

import (
	"encoding/binary"
	"strconv"
)

const (
	serverCoreHeader = 2                            // length of the size field, in bytes
	serverCoreMost   = 1<<16 - 1 - serverCoreHeader // largest payload, in bytes
)

// ServerCore is the packet of the C# ServerCore lesson: a size of two bytes, little-endian, and the payload. The size
// counts itself too. Split returns the payload. The zero value is ready to use.
//
//	+------+------+---------------------+
//	| size        | payload             |    size = 2 + length of the payload
//	| low  | high | size - 2 bytes      |
//	+------+------+---------------------+
//
// In the lesson, the first two bytes of the payload are the packet's number. It is left to the application.
//
// Split returns ErrMalformed for a size below 2. ServerCore is a [Sizer].
type ServerCore struct {
	// Max is the size of the largest payload, in bytes. 0 means 65533, the largest possible value.
	Max int
}

// max returns the size of the largest payload, in bytes.
func (f ServerCore) max() (int, error) {
	switch {
	case f.Max < 0 || f.Max > serverCoreMost:
		return 0, invalid("ServerCore.Max", f.Max, "0 to "+strconv.Itoa(serverCoreMost))
	case f.Max == 0:
		return serverCoreMost, nil
	}
	return f.Max, nil
}

func (f ServerCore) size(data []byte) (int, error) {
	most, err := f.max()
	if err != nil || len(data) < serverCoreHeader {
		return 0, err
	}
	size := int(binary.LittleEndian.Uint16(data))
	if size < serverCoreHeader {
		return 0, refuse(ErrMalformed, "size of %d bytes, at least %d", size, serverCoreHeader)
	}
	if payload := size - serverCoreHeader; payload > most {
		return 0, tooLarge(uint64(payload), most)
	}
	return size, nil
}

// Split finds the first packet; see [Framer].
func (f ServerCore) Split(data []byte) (packet []byte, n int, err error) {
	size, err := f.size(data)
	if err != nil || size == 0 || len(data) < size {
		return nil, 0, err
	}
	return data[serverCoreHeader:size:size], size, nil
}

// SizeOf returns the size of the first packet, header included; see [Sizer].
func (f ServerCore) SizeOf(data []byte) int {
	size, _ := f.size(data)
	return size
}

// Append appends the size and the payload; see [Framer].
func (f ServerCore) Append(dst, payload []byte) ([]byte, error) {
	most, err := f.max()
	if err != nil {
		return dst, err
	}
	if len(payload) > most {
		return dst, tooLarge(uint64(len(payload)), most)
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(serverCoreHeader+len(payload)))
	return append(dst, payload...), nil
}
