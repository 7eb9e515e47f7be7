// Package wsconn is the client's side of a WebSocket as a net.Conn, for tests. It is layer/websocket over a connection of package net: what
// is written becomes binary messages, what is read comes out of messages.
package wsconn

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/servercore-go/servercore/layer/websocket"
)

// Conn is a client's connection. One goroutine may read and another one write. Pings are answered while it is read from.
type Conn struct {
	net.Conn // the wire

	// Of the reader.
	raw, have []byte
	more      bool
	left      []byte // what was opened and not read yet
	word      error  // the peer's close frame

	writing sync.Mutex // for the order of the wire, and failed
	failed  error
	out     []byte

	mu         sync.Mutex // for the layer; held for no I/O
	layer      *websocket.Layer
	closed     bool
	background sync.WaitGroup
}

// Client asks conn for WebSocket at a ws or wss URL, and waits for the answer. TLS is the caller's. conn needs a CloseWrite method that
// sends FIN.
func Client(conn net.Conn, o websocket.Options, url string, header http.Header) (*Conn, error) {
	l, err := websocket.NewClient(o, url, header)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn, layer: l, raw: make([]byte, 16<<10)}
	if err := c.sendOwn(); err != nil {
		return nil, err
	}
	for !l.Established() {
		if _, _, err := c.open(); err != nil {
			l.Drop()
			return nil, err
		}
	}
	return c, nil
}

// Layer returns the layer, to be looked at while nobody reads or writes.
func (c *Conn) Layer() *websocket.Layer { return c.layer }

// ReadMessage returns the next message: after the peer's close frame and FIN io.EOF, and session.ErrTruncated for a FIN without a close
// frame.
func (c *Conn) ReadMessage() (data []byte, text bool, err error) {
	for data == nil && err == nil {
		data, text, err = c.open()
	}
	return data, text, err
}

// open opens what has come, after it has read from the wire if there is nothing.
func (c *Conn) open() (data []byte, text bool, err error) {
	if len(c.have) == 0 && !c.more {
		n, err := c.Conn.Read(c.raw)
		if c.have = c.raw[:n]; n == 0 {
			return nil, false, c.wireError(err)
		}
	}
	if c.word != nil {
		return nil, false, errors.New("wsconn: bytes behind the close frame")
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, false, net.ErrClosed
	}
	established := c.layer.Established()
	var dst []byte
	if established {
		dst = make([]byte, len(c.have))
	}
	data, n, more, err := c.layer.Open(dst, c.have)
	if data != nil {
		data = append([]byte{}, data...) // it may be in memory of the layer
	}
	c.have, c.more, text = c.have[n:], more, c.layer.Text()
	pending := c.layer.Pending()
	if errors.Is(err, io.EOF) {
		c.word, c.have, err = err, nil, nil // FIN must follow
	}
	c.mu.Unlock()
	if pending {
		c.background.Go(func() { _ = c.sendOwn() }) // not here: the peer may wait for this reader
	}
	return data, text, err
}

// wireError returns what Read returns for an error of the wire.
func (c *Conn) wireError(err error) error {
	if err != io.EOF || c.word != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layer.Ended()
}

// Read reads the payload of messages.
func (c *Conn) Read(p []byte) (n int, err error) {
	for len(c.left) == 0 && len(p) > 0 && err == nil {
		c.left, _, err = c.ReadMessage()
	}
	n = copy(p, c.left)
	c.left = c.left[n:]
	return n, err
}

// Word returns the peer's close frame if a read has come to it: an error that is a *session.CloseError for errors.As.
func (c *Conn) Word() error { return c.word }

// Write writes p as binary messages of 16 KiB at most.
func (c *Conn) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+16<<10)]
		if err := c.WriteMessage(piece, false); err != nil {
			return n, err
		}
		if n += len(piece); n == len(p) {
			return n, nil
		}
	}
}

// WriteMessage writes p as one message.
func (c *Conn) WriteMessage(p []byte, text bool) error {
	first := byte(0x82)
	if text {
		first = 0x81
	}
	return c.send(func(b []byte) []byte { return AppendFrame(b, first, p) })
}

// AppendFrame appends a client's frame; first is its first byte. The mask is zeros.
func AppendFrame(b []byte, first byte, p []byte) []byte {
	switch n := len(p); {
	case n < 126:
		b = append(b, first, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), p...)
}

func (c *Conn) sendOwn() error { return c.send(func(b []byte) []byte { return b }) }

// send writes the layer's own frames, then what more appends.
func (c *Conn) send(more func([]byte) []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.failed != nil {
		return c.failed
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.out = more(c.layer.Own(c.out[:0], true))
	c.mu.Unlock()
	if len(c.out) > 0 {
		_, c.failed = c.Conn.Write(c.out)
	}
	return c.failed
}

// CloseWrite sends the close frame for reason nil, then FIN. Reading goes on.
func (c *Conn) CloseWrite() error { return c.CloseWriteWith(nil) }

// CloseWriteWith is CloseWrite with a reason; see websocket.Layer.Finish.
func (c *Conn) CloseWriteWith(reason error) error {
	c.mu.Lock()
	c.layer.Finish(reason)
	c.mu.Unlock()
	if err := c.sendOwn(); err != nil {
		return err
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("wsconn: the connection has no CloseWrite")
	}
	return half.CloseWrite()
}

// Close closes the connection, after a close frame if no write is under way.
func (c *Conn) Close() error {
	if c.writing.TryLock() {
		c.writing.Unlock()
		c.mu.Lock()
		c.layer.Finish(nil)
		c.mu.Unlock()
		_ = c.sendOwn()
	}
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.layer.Drop()
	}
	c.mu.Unlock()
	err := c.Conn.Close()
	c.background.Wait()
	return err
}
