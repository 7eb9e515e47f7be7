package checksum

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection with a layer, for tests: what is written becomes records, what is read comes out of records. It answers probes while
// it is read from. Any goroutine may use it.
//
// Write does not wait for the peer's hello. A Write that fails, also by a deadline, has left part of a record: later ones return the same
// error. Read returns io.EOF after the peer's last word and FIN, and an error if any byte comes between.
type Conn struct {
	net.Conn // the wire

	// Tolerant makes Read return io.EOF also for a FIN without the last word, in place of session.ErrTruncated. Truncated tells which it was.
	// It may be set before the first Read.
	Tolerant bool

	// OnAnswer, if not nil, is called in Read with the number of our probes that were answered so far, when that has grown. It may be set before
	// the first Read.
	OnAnswer func(answered int)

	shaken   chan struct{} // closed when the handshake is done, or unshaken says why not
	unshaken error

	reading sync.Mutex // for what is below, up to writing
	raw     []byte     // memory for what is read from the wire
	have    []byte     // of it, what is not opened yet
	more    bool       // the layer has data without more input
	plain   []byte     // memory for Open
	left    []byte     // what was opened and not read yet

	writing sync.Mutex // for what is below, up to mu, and for the order of the wire; may be held while the wire is written
	out     []byte
	failed  error // of an earlier write

	mu         sync.Mutex // for what is below; held for no I/O
	layer      *Layer
	sealer     *Sealer // the same, nil for Framing
	word       error   // the peer's last word
	truncated  bool
	closed     bool
	writers    atomic.Int32   // Writes under way
	background sync.WaitGroup // goroutines that send what the layer has to send
}

// Client returns a Conn of the client's side over conn and begins the handshake, without waiting for it.
func Client(conn net.Conn, shape Shape) *Conn { return newConn(conn, shape, Options{}) }

// Server returns a Conn of the server's side over conn.
func Server(conn net.Conn, shape Shape) *Conn { return newConn(conn, shape, Options{Server: true}) }

func newConn(conn net.Conn, shape Shape, o Options) *Conn {
	c := &Conn{Conn: conn, shaken: make(chan struct{}), raw: make([]byte, 16<<10), plain: make([]byte, 4<<10)}
	if shape == Sealing {
		c.sealer = NewSealer(o)
		c.layer = &c.sealer.Layer
	} else {
		c.layer = NewLayer(o)
	}
	c.sendPending()
	return c
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Handshake waits until the peer's hello has come. It need not be called. It reads, unless another goroutine does. If the first error of a read
// came before the hello, also by a deadline, it returns that each time.
func (c *Conn) Handshake() error {
	for {
		if c.isShaken() {
			return c.unshaken
		}
		if !c.reading.TryLock() {
			<-c.shaken
			continue
		}
		if !c.isShaken() { // the last reader may have been quicker
			_, _ = c.open() // no data comes before the hello
		}
		c.reading.Unlock()
	}
}

func (c *Conn) isShaken() bool {
	select {
	case <-c.shaken:
		return true
	default:
		return false
	}
}

// Read reads the application's bytes: of one record or message, or what is left of it.
func (c *Conn) Read(p []byte) (n int, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for len(c.left) == 0 && len(p) > 0 && err == nil {
		c.left, err = c.open()
	}
	n = copy(p, c.left)
	c.left = c.left[n:]
	return n, err
}

// open is openNext, and tells Handshake.
func (c *Conn) open() (data []byte, err error) {
	data, err = c.openNext()
	if !c.isShaken() {
		c.mu.Lock()
		established := c.layer.Established()
		c.mu.Unlock()
		if err != nil || established {
			c.unshaken = err
			close(c.shaken)
		}
	}
	return data, err
}

// openNext opens what has come, after it has read from the wire if there is nothing. It returns no data if that gave none.
func (c *Conn) openNext() (data []byte, err error) {
	if len(c.have) == 0 && !c.more {
		n, err := c.Conn.Read(c.raw)
		c.have = c.raw[:n]
		if n == 0 {
			return nil, c.wireError(err)
		}
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, net.ErrClosed
	}
	before := c.layer.counts.Answered
	data, n, more, err := c.layer.Open(c.plain, c.have)
	c.have, c.more = c.have[n:], more
	answered := c.layer.counts.Answered
	if c.layer.peerDone && errors.Is(err, io.EOF) {
		c.word, err = err, nil // FIN must follow
	}
	c.mu.Unlock()
	c.sendPending()
	if answered > before && c.OnAnswer != nil {
		c.OnAnswer(answered)
	}
	return data, err
}

// wireError returns what Read returns for an error of the wire.
func (c *Conn) wireError(err error) error {
	if err != io.EOF {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err = c.layer.Ended(); err != nil {
		c.truncated = true
	}
	if err == nil || c.Tolerant {
		return io.EOF
	}
	return err
}

// Word returns the peer's last word if Read has come to it: io.EOF, or an error that matches it and is a *session.CloseError. nil: not yet.
func (c *Conn) Word() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.word
}

// Truncated reports whether Read has come to a FIN without the last word.
func (c *Conn) Truncated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.truncated
}

// Counts returns the probes and answers so far.
func (c *Conn) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layer.Counts()
}

// Write writes p in records. Shape Framing: p is one message, or several of 64 KiB and a rest. n counts what was written whole, by 16 KiB or
// by messages.
func (c *Conn) Write(p []byte) (n int, err error) {
	unit := MaxSeal
	if c.sealer == nil {
		unit = MaxMessage
	}
	c.writers.Add(1)
	defer c.sendPending() // what could not be sent meanwhile
	defer c.writers.Add(-1)
	c.writing.Lock()
	defer c.writing.Unlock()
	for {
		piece := p[n:min(len(p), n+unit)]
		if err := c.send(piece, true); err != nil {
			return n, err
		}
		n += len(piece)
		if n == len(p) {
			return n, nil
		}
	}
}

// send writes the layer's own records, then those of p if there is a p. Under writing.
func (c *Conn) send(p []byte, data bool) (err error) {
	if c.failed != nil {
		return c.failed
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.out = c.layer.Own(c.out[:0], true)
	switch {
	case data && c.layer.finishing:
		err = errors.New("checksum: Write after CloseWrite")
	case data && c.sealer != nil:
		c.out, err = c.sealer.Seal(c.out, p)
	case data:
		c.out, err = Framer{Server: c.layer.server}.Append(c.out, p)
	}
	c.mu.Unlock()
	if len(c.out) > 0 {
		if _, failed := c.Conn.Write(c.out); failed != nil {
			c.failed = failed
			return failed
		}
	}
	return err
}

// sendPending sends what the layer has to send, on another goroutine: the caller may be the reader, and the peer may wait for it to read.
func (c *Conn) sendPending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.layer.Pending() {
		return
	}
	c.background.Go(func() {
		var err error                                          // the next Write returns it too
		for err == nil && c.pending() && c.writing.TryLock() { // a Write under way looks when it is done
			err = c.send(nil, false)
			c.writing.Unlock()
		}
	})
}

func (c *Conn) pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layer.Pending()
}

// Probe sends a probe with payload, at most 1 KiB. The handshake must be done. The answer comes during a Read.
func (c *Conn) Probe(payload []byte) error {
	defer c.sendPending()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	err := c.layer.Probe(payload)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.send(nil, false)
}

// CloseWrite sends the last word, then FIN. Read goes on.
func (c *Conn) CloseWrite() error { return c.CloseWriteWith(nil) }

// CloseWriteWith is CloseWrite with a reason; see [Layer.Finish].
func (c *Conn) CloseWriteWith(reason error) error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("checksum: the connection has no CloseWrite")
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.finish(reason); err != nil {
		return err
	}
	return half.CloseWrite()
}

// finish sends the last word. Under writing.
func (c *Conn) finish(reason error) error {
	c.mu.Lock()
	c.layer.Finish(reason)
	c.mu.Unlock()
	return c.send(nil, false)
}

// lastWordWithin is how long Close waits for the kernel to take the last word.
const lastWordWithin = time.Second

// Close sends the last word, unless a Write is under way or has failed, and closes the connection. To reset it instead, close NetConn first.
func (c *Conn) Close() error {
	if c.writers.Load() == 0 && c.Conn.SetWriteDeadline(time.Now().Add(lastWordWithin)) == nil {
		c.writing.Lock()
		_ = c.finish(nil)
		c.writing.Unlock()
	}
	c.mu.Lock()
	again := c.closed
	c.closed = true
	if !again {
		c.layer.Drop()
	}
	c.mu.Unlock()
	err := c.Conn.Close()
	c.background.Wait()
	return err
}
