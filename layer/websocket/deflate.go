package websocket

import (
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/servercore-go/servercore/pool"
)

// flushed is how a flushed deflate stream ends: the header of an empty block. A message is sent without it (RFC 7692, section 7.2.1).
const flushed = "\x00\x00\xff\xff"

// compressAbove is the size, in bytes, from which a message is compressed. Below it, what is saved is less than what a packet of TCP and IP
// costs anyway, for some 5 microseconds of work; docs/decisions/0021-websocket.md has the figures.
const compressAbove = 512

// deflater compresses one message after another, without context. Its writer has about 500 KB, so deflaters are pooled: there are as many
// as goroutines compress at once.
type deflater struct {
	writer *flate.Writer
	out    []byte
}

// Write takes what the writer makes.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.writer, _ = flate.NewWriter(d, flate.BestSpeed) // the error is for a wrong level
	return d
}}

// deflate compresses payload for a peer that has a window of that many bits. The result is in d.out. A window of less than 32 KiB is kept
// by compressing pieces of its size, each without a look at the one before.
func (d *deflater) deflate(payload []byte, bits uint8) error {
	d.out = d.out[:0]
	piece := len(payload)
	if bits < maxBits {
		piece = 1 << bits
	}
	for len(payload) > 0 {
		n := min(piece, len(payload))
		d.writer.Reset(d)
		if _, err := d.writer.Write(payload[:n]); err != nil {
			return err
		}
		if err := d.writer.Flush(); err != nil {
			return err
		}
		payload = payload[n:]
	}
	d.out = d.out[:len(d.out)-len(flushed)]
	return nil
}

// put gives d back, but not memory of a huge message.
func (d *deflater) put() {
	if cap(d.out) > pool.Large {
		d.out = nil
	}
	deflaters.Put(d)
}
