package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/servercore-go/servercore/pool"
)

// lastBlock stands behind a message's payload when it is inflated: what the sender took off, and a final block, so that the reader ends.
const lastBlock = flushed + "\x01\x00\x00\xff\xff"

// maxFinals is how many final blocks a message may have besides lastBlock. RFC 7692, section 7.2.3.4, allows them; a sender makes one for a
// message, or for a fragment. Each costs a new beginning, so a message made of them alone would cost much work for few bytes.
const maxFinals = 16

// inflater inflates one message after another. Its window has 32 KB, so inflaters are pooled.
type inflater struct {
	reader io.ReadCloser
	input  input
}

// input gives a message's payload and then lastBlock. It is an io.ByteReader, so the reader takes nothing behind a final block.
type input struct {
	payload, last bytes.Reader
}

func (in *input) set(payload []byte) {
	in.payload.Reset(payload)
	in.last.Reset(lastBlockBytes)
}

var lastBlockBytes = []byte(lastBlock)

func (in *input) Read(p []byte) (int, error) {
	if in.payload.Len() > 0 {
		return in.payload.Read(p)
	}
	return in.last.Read(p)
}

func (in *input) ReadByte() (byte, error) {
	if in.payload.Len() > 0 {
		return in.payload.ReadByte()
	}
	return in.last.ReadByte()
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.reader = flate.NewReader(&f.input)
	return f
}}

var (
	errInflate = &ProtocolError{codeBadPayload, "a compressed message is not deflate"}
	errFinals  = &ProtocolError{codeBadPayload, "a compressed message has too many final blocks"}
)

// inflate returns what payload inflates to, at most most bytes. The result is in dst if it fits, else in buf, which is the caller's then.
// What is longer than most is refused when that many bytes were inflated.
func inflate(dst, payload []byte, most int) (data []byte, buf *pool.Buffer, err error) {
	data = dst[:0]
	if data == nil {
		data = empty
	}
	if len(payload) == 0 { // not what RFC 7692 calls an empty message (a zero), but zlib takes it
		return data, nil, nil
	}
	f := inflaters.Get().(*inflater)
	defer func() {
		f.input.set(nil)
		inflaters.Put(f)
	}()
	f.input.set(payload)
	resetter := f.reader.(flate.Resetter)
	if err := resetter.Reset(&f.input, nil); err != nil {
		return nil, nil, err
	}
	for finals := 0; ; {
		if len(data) == cap(data) {
			if len(data) > most {
				return nil, buf, tooLong(most)
			}
			buf = growOutput(buf, data, len(payload), most)
			data = buf.B
		}
		n, err := f.reader.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if buf != nil {
			buf.B = data
		}
		switch {
		case len(data) > most:
			return nil, buf, tooLong(most)
		case errors.Is(err, io.EOF):
			if f.input.last.Len() == 0 {
				return data, buf, nil
			}
			if finals++; finals > maxFinals {
				return nil, buf, errFinals
			}
			if err := resetter.Reset(&f.input, data[max(0, len(data)-1<<maxBits):]); err != nil {
				return nil, buf, err
			}
		case err != nil:
			return nil, buf, errInflate
		}
	}
}

// growOutput returns a larger buffer with what was inflated to data. It doubles, beginning at twice what is compressed, and has a byte more
// than most at the end: that byte tells a message that is too long.
func growOutput(buf *pool.Buffer, data []byte, compressed, most int) *pool.Buffer {
	larger := pool.GetSize(min(max(pool.Small, 2*compressed, 2*len(data)), most+1))
	larger.B = append(larger.B, data...)
	if buf != nil {
		buf.Release()
	}
	return larger
}

func tooLong(most int) error {
	return &ProtocolError{codeTooBig, fmt.Sprintf("a message inflates to more than %d bytes", most)}
}
