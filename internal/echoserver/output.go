package echoserver

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"sync"
	"syscall"
	"time"
)

const (
	// maxQueued is the largest number of bytes in the queue of one stream.
	maxQueued = 256 << 10
	// flushTime is how long the program waits at its end for the readers of its streams.
	flushTime = time.Second
	// atomicWrite is how many bytes a pipe takes as a whole (PIPE_BUF of Linux). The two processes of a restart share
	// their streams: with writes of at most this size, no line of one lands inside a line of the other.
	atomicWrite = 4096
	// retryWrite is the wait before another try if another process has made the stream non-blocking and it is full.
	retryWrite = 10 * time.Millisecond
)

// An asyncWriter writes lines to a stream and never blocks its caller, whatever the reader of the stream does. It queues up to maxQueued
// bytes. A line that does not fit, or cannot be written, is dropped and counted. When the stream takes lines again, a
// line has the count. Any goroutine may write.
type asyncWriter struct {
	stream io.Writer
	notice func(lost int) []byte // returns the line with the count
	wake   chan struct{}         // capacity 1
	done   chan struct{}         // closed when run has returned

	mu     sync.Mutex
	queue  []byte
	lost   int // lines that did not fit
	closed bool
}

func newAsyncWriter(stream io.Writer, notice func(lost int) []byte) *asyncWriter {
	a := &asyncWriter{stream: stream, notice: notice, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go a.run()
	return a
}

// Write queues p, which must be whole lines. It never fails. After close it does nothing.
func (a *asyncWriter) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
	case len(a.queue)+len(p) > maxQueued:
		a.lost += countLines(p)
	default:
		a.queue = append(a.queue, p...)
		a.signal()
	}
	return len(p), nil
}

func (a *asyncWriter) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// close ends the writer when its queue is written. It does not wait for that; done is closed then.
func (a *asyncWriter) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.signal()
}

// run writes the queue to the stream until close.
func (a *asyncWriter) run() {
	defer close(a.done)
	var batch []byte
	lost := 0
	for range a.wake {
		a.mu.Lock()
		batch, a.queue = a.queue, batch[:0]
		lost += a.lost
		a.lost = 0
		closed := a.closed
		a.mu.Unlock()

		for rest := batch; len(rest) > 0; {
			n := wholeLines(rest)
			lost += countLines(a.put(rest[:n]))
			rest = rest[n:]
		}
		if lost > 0 && len(a.put(a.notice(lost))) == 0 {
			lost = 0
		}
		if closed {
			return
		}
	}
}

// put writes p and returns the part that could not be written.
func (a *asyncWriter) put(p []byte) []byte {
	for len(p) > 0 {
		n, err := a.stream.Write(p)
		p = p[n:]
		if errors.Is(err, syscall.EAGAIN) {
			time.Sleep(retryWrite)
		} else if err != nil {
			break
		}
	}
	return p
}

func countLines(p []byte) int { return bytes.Count(p, []byte{'\n'}) }

// wholeLines returns how many bytes of p to write at once: as many whole lines as fit into atomicWrite, but at least one.
func wholeLines(p []byte) int {
	if len(p) <= atomicWrite {
		return len(p)
	}
	if n := bytes.LastIndexByte(p[:atomicWrite], '\n'); n >= 0 {
		return n + 1
	}
	if n := bytes.IndexByte(p, '\n'); n >= 0 {
		return n + 1
	}
	return len(p)
}

// sameStream reports whether two writers lead to the same file, pipe or terminal.
func sameStream(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, both := b.(*os.File)
	if !ok || !both {
		return reflect.TypeOf(a).Comparable() && a == b
	}
	x, err := f.Stat()
	y, errY := g.Stat()
	return err == nil && errY == nil && os.SameFile(x, y)
}
