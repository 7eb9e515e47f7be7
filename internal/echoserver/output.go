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
	// maxQueued is how many bytes of text may wait for the reader of one stream.
	maxQueued = 256 << 10
	// flushTime is how long the end of the program waits for those readers.
	flushTime = time.Second
	// atomicWrite is how many bytes a pipe takes as a whole (PIPE_BUF of Linux). The two processes of a restart share
	// their streams, and so no line of one lands inside a line of the other.
	atomicWrite = 4096
	// retryWrite is the wait before the next try on a stream that another process has made non-blocking.
	retryWrite = 10 * time.Millisecond
)

// An asyncWriter passes lines to a stream and never blocks its caller, whatever the reader of the stream does. Up to
// maxQueued bytes wait. A line that does not fit, or that cannot be written, is lost and counted; the count is told once
// something gets through again. Any goroutine may write.
type asyncWriter struct {
	stream io.Writer
	notice func(lost int) []byte // the line that tells the count
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

// Write takes whole lines. It never fails; after close it does nothing.
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

// close ends the writer once the queue is written. It does not wait: done is closed then.
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

// put writes p and returns what could not be written.
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

// wholeLines returns how much of p to write at once: as many lines as a pipe takes as a whole, at least one.
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
