//go:build linux

package trials

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"testing"
)

// A stream is a sequence of records, from either side. By itself it proves that it is complete, in order, and of its own connection (O4).
//
//	connection   sequence number   length of payload   CRC-32 of all others   payload
//	8 bytes      4                 4                   4                      up to 64 KiB
//
// The first byte of a payload is a verb, which tells the server what to do.
const (
	headerSize = 20
	maxPayload = 64 << 10
)

// writer numbers the records of one direction.
type writer struct {
	id  uint64
	seq uint32
}

// add appends a record to dst and returns it.
func (w *writer) add(dst, payload []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, w.id)
	dst = binary.LittleEndian.AppendUint32(dst, w.seq)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[at:], payload))
	w.seq++
	return append(dst, payload...)
}

func checksum(header, payload []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(header), crc32.IEEETable, payload)
}

// memories is a pool of buffers for records, so that the byte path makes no garbage: the growth of a server's memory is the engine's.
var memories = sync.Pool{New: func() any { return new([]byte) }}

// reader checks the records of one direction. A stream may end anywhere, but must not contain anything else.
type reader struct {
	id      uint64  // that of the first record, unless set before
	seq     uint32  // of the next record
	partial *[]byte // of a record that is not whole yet, from memories, or nil
	bytes   int64
	wrong   error
}

// feed takes the next bytes and calls each for every record that is now complete; payload is valid until each returns. After an error,
// feed takes nothing more.
func (r *reader) feed(data []byte, each func(payload []byte)) error {
	r.bytes += int64(len(data))
	if r.partial != nil {
		*r.partial = append(*r.partial, data...)
		data = *r.partial
	}
	for r.wrong == nil && len(data) >= headerSize {
		n := headerSize + int(binary.LittleEndian.Uint32(data[12:]))
		if r.wrong = r.check(data, n); r.wrong != nil || len(data) < n {
			break
		}
		if sum := checksum(data[:headerSize-4], data[headerSize:n]); sum != binary.LittleEndian.Uint32(data[16:]) {
			r.wrong = fmt.Errorf("record %d of connection %x: checksum is wrong", r.seq, r.id)
			break
		}
		r.seq++
		if each != nil {
			each(data[headerSize:n])
		}
		data = data[n:]
	}
	switch {
	case len(data) > 0 && r.wrong == nil:
		if r.partial == nil {
			r.partial = memories.Get().(*[]byte)
		}
		*r.partial = append((*r.partial)[:0], data...)
	case r.partial != nil: // who is silent, or has nothing more to say, holds none
		memories.Put(r.partial)
		r.partial = nil
	}
	return r.wrong
}

// check checks a header.
func (r *reader) check(data []byte, n int) error {
	id, seq := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint32(data[8:])
	if r.seq == 0 && r.id == 0 && seq == 0 {
		r.id = id
	}
	switch {
	case id != r.id:
		return fmt.Errorf("record %d of connection %x: came with the number of connection %x", r.seq, r.id, id)
	case seq != r.seq:
		return fmt.Errorf("record %d of connection %x: number %d came in its place", r.seq, r.id, seq)
	case n > headerSize+maxPayload || n == headerSize:
		return fmt.Errorf("record %d of connection %x: %d bytes long", r.seq, r.id, n)
	}
	return nil
}

// whole reports whether the stream ends with a complete record.
func (r *reader) whole() bool { return r.wrong == nil && r.partial == nil }

// lastConnection is the number of the last connection. Numbers of another process are above 1<<40.
var lastConnection atomic.Uint64

// The reader finds a byte that is changed, lost, duplicated, or of another connection. A check that cannot fail proves nothing.
func TestStreamFindsWhatIsWrong(t *testing.T) {
	w := writer{id: 7}
	var good []byte
	for i := range 5 {
		good = w.add(good, []byte{'n', byte(i), 3, 4})
	}
	record := len(good) / 5
	other := (&writer{id: 8, seq: 1}).add(nil, []byte{'n', 1, 3, 4})
	flipped := append([]byte(nil), good...)
	flipped[record+headerSize+2] ^= 1
	for name, tt := range map[string]struct {
		stream []byte
		whole  bool
		wrong  bool
	}{
		"as sent":          {good, true, false},
		"a prefix":         {good[:3*record+5], false, false},
		"a byte changed":   {flipped, false, true},
		"a byte lost":      {append(append([]byte(nil), good[:record+3]...), good[record+4:]...), false, true},
		"a record lost":    {append(append([]byte(nil), good[:record]...), good[2*record:]...), false, true},
		"a record doubled": {append(append([]byte(nil), good[:2*record]...), good[record:]...), false, true},
		"a foreign record": {append(append([]byte(nil), good[:record]...), other...), false, true},
	} {
		for _, cut := range []int{1, 7, record, len(tt.stream)} {
			var r reader
			for rest := tt.stream; len(rest) > 0; {
				n := min(cut, len(rest))
				_ = r.feed(rest[:n], nil)
				rest = rest[n:]
			}
			if r.whole() != tt.whole || (r.wrong != nil) != tt.wrong {
				t.Errorf("%s, in pieces of %d: whole %v, wrong: %v", name, cut, r.whole(), r.wrong)
			}
		}
	}
}
