package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// handshake is what a Layer needs until its handshake is done.
type handshake struct {
	pool   *Handshakes
	layer  *Layer
	config *tls.Config
	client bool
	most   int   // bytes that crypto/tls is given, 0 for no limit
	hello  hello // the loop's

	wakeMu sync.Mutex // held while wake runs: Drop waits for it
	wake   func()
	muted  bool

	// Guarded by Handshakes.mu.
	on         *queue
	prev, next *handshake
	since      time.Time          // when it got its turn
	blocked    bool               // it has a turn, but is not among the running
	parked     bool               // it waits for input
	fin        bool               // the peer sends nothing any more
	refused    bool               // Open has left input that there was no room for
	done       bool               // the goroutine has ended, or there will be none
	alert      byte               // the last one that was sent in clear text
	stopped    error              // why it has to fail; its buffers are not touched any more
	err        error              // why it failed: a *HandshakeError
	resume     chan struct{}      // ends the parking; nil before it is given to Handshakes
	cancel     context.CancelFunc // of the context that the application's callbacks see
	in, own    *pool.Buffer
	at         int     // how much of in the goroutine has taken
	taken      int     // bytes that crypto/tls was given
	arrived    records // where in ends
}

// run is the handshake's goroutine.
func (hs *handshake) run() {
	var err error = &HandshakeError{CausePanic, errors.New("a callback called runtime.Goexit")}
	defer func() {
		if value := recover(); value != nil {
			err = &HandshakeError{CausePanic, fmt.Errorf("a callback panicked: %v", value)}
		}
		hs.finish(err)
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, h := hs.layer, hs.pool
	h.mu.Lock()
	stopped := hs.stopped
	hs.cancel = cancel
	h.mu.Unlock()
	if stopped == nil {
		if hs.client {
			l.conn = tls.Client((*wire)(l), hs.config)
		} else {
			l.conn = tls.Server((*wire)(l), hs.config)
		}
		stopped = l.conn.HandshakeContext(ctx)
	}
	err = stopped
}

// finish tells the loop how it went.
func (hs *handshake) finish(err error) {
	h := hs.pool
	why, ended, text := outcome(err, hs.alert, hs.client) // before the lock is taken: it may panic, and call what it likes
	h.mu.Lock()
	switch {
	case hs.stopped != nil:
		hs.err = describe(hs.stopped, 0, hs.client)
	case ended && hs.fin:
		hs.err = describe(errTruncated, 0, hs.client)
	case why != nil:
		hs.err = why
		if text != "" && !hs.client {
			hs.own = appendBytes(hs.own, []byte(text))
		}
	}
	hs.done = true
	hs.cancel = nil
	h.leave(hs)
	h.mu.Unlock()
	hs.look()
}

// look asks the loop to call Open and Own. No lock of Handshakes is held.
func (hs *handshake) look() {
	hs.wakeMu.Lock()
	defer hs.wakeMu.Unlock()
	if !hs.muted {
		hs.wake()
	}
}

// receive takes what there is room for, on the loop. It returns how much that is, and whether the handshake is done.
func (hs *handshake) receive(in []byte) (used int, done bool) {
	h := hs.pool
	h.mu.Lock()
	defer h.mu.Unlock()
	if hs.done || hs.stopped != nil || hs.wake == nil {
		return 0, hs.done
	}
	used = len(in)
	if hs.in != nil {
		hs.in.B = hs.in.B[:copy(hs.in.B, hs.in.B[hs.at:])]
		hs.at = 0
		used = max(0, min(used, maxRecord-len(hs.in.B)))
	}
	used = min(used, maxRecord)
	hs.refused = used < len(in)
	if used == 0 {
		return 0, false
	}
	in = in[:used]
	hs.in = appendBytes(hs.in, in)
	switch full := len(hs.in.B) >= maxRecord; {
	case hs.resume == nil:
		if hs.hello.pass(in) || full {
			hs.arrived = hs.hello.records
			if len(hs.in.B) > headerSize {
				hs.in = splitHello(hs.in)
			}
			h.start(hs)
		}
	case hs.arrived.pass(in) > 0 || full:
		if hs.parked {
			h.unpark(hs)
		}
	}
	return used, false
}

// read is called by crypto/tls on the handshake's goroutine. It waits for input. It gives one record at a time, so that nothing that comes
// behind the handshake is in crypto/tls at its end.
func (hs *handshake) read(p []byte) (int, error) {
	h, l := hs.pool, hs.layer
	h.mu.Lock()
	for {
		if err := hs.stopped; err != nil {
			h.mu.Unlock()
			return 0, err
		}
		if hs.in != nil {
			n, _ := l.fed.take(p, hs.in.B[hs.at:], 1)
			if hs.taken += n; hs.most > 0 && hs.taken > hs.most {
				h.mu.Unlock()
				return 0, errTooMuch
			}
			if hs.at += n; hs.at == len(hs.in.B) {
				hs.in.Release()
				hs.in, hs.at = nil, 0
			}
			h.mu.Unlock()
			return n, nil
		}
		if hs.fin {
			h.mu.Unlock()
			return 0, io.ErrUnexpectedEOF
		}
		look := hs.own != nil || hs.refused
		hs.refused = false
		h.park(hs)
		h.mu.Unlock()
		if look {
			hs.look()
		}
		<-hs.resume
		h.mu.Lock()
	}
}

// write is called by crypto/tls on the handshake's goroutine.
func (hs *handshake) write(p []byte) (int, error) {
	h := hs.pool
	h.mu.Lock()
	defer h.mu.Unlock()
	if hs.stopped != nil {
		return 0, hs.stopped
	}
	hs.own = appendBytes(hs.own, p)
	if n := len(p) - headerSize - 2; n >= 0 && p[n] == typeAlert && p[n+1] == 3 && p[n+3] == 0 && p[n+4] == 2 {
		hs.alert = p[len(p)-1]
	}
	return len(p), nil
}

// takeOwn returns the bytes that wait to be sent. The caller owns them.
func (hs *handshake) takeOwn() *pool.Buffer {
	hs.pool.mu.Lock()
	defer hs.pool.mu.Unlock()
	own := hs.own
	hs.own = nil
	return own
}

func (hs *handshake) hasOwn() bool {
	hs.pool.mu.Lock()
	defer hs.pool.mu.Unlock()
	return hs.own != nil
}

// ended notes that the peer sends nothing any more. It returns an error if the handshake waits for more; else its outcome comes as always.
func (hs *handshake) ended() error {
	h := hs.pool
	h.mu.Lock()
	defer h.mu.Unlock()
	hs.fin = true
	if !hs.done && (hs.resume == nil || hs.parked) {
		return describe(errTruncated, 0, hs.client)
	}
	return nil
}

// mute makes sure that wake does not run, and is not called any more.
func (hs *handshake) mute() {
	hs.wakeMu.Lock()
	hs.muted = true
	hs.wakeMu.Unlock()
}

// drop ends the handshake. When it returns, wake does not run, and is not called any more. The goroutine ends by itself.
func (hs *handshake) drop() {
	hs.mute()
	h := hs.pool
	h.mu.Lock()
	h.stop(hs, errDropped)
	cancel := hs.cancel
	release(&hs.in)
	release(&hs.own)
	h.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// appendBytes appends p to the bytes of b. b may be nil.
func appendBytes(b *pool.Buffer, p []byte) *pool.Buffer {
	if b == nil {
		b = pool.GetSize(len(p))
	} else if len(b.B)+len(p) > cap(b.B) {
		larger := pool.GetSize(max(len(b.B)+len(p), 2*len(b.B)))
		larger.B = append(larger.B, b.B...)
		b.Release()
		b = larger
	}
	b.B = append(b.B, p...)
	return b
}

func release(b **pool.Buffer) {
	if *b != nil {
		(*b).Release()
		*b = nil
	}
}
