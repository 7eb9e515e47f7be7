package websocket

import (
	"sync"

	"github.com/servercore-go/servercore/pool"
)

// work is what a layer keeps while something is under way: a frame that has come in part, a message in pieces, pongs that wait. An idle
// layer has none.
type work struct {
	head      [maxHeader]byte // the beginning of a header
	headLen   uint8
	inFrame   bool   // a header is complete, and its payload is not
	frame     header // of that frame; its key is turned to the next byte
	left      int64  // bytes of its payload that have not come
	message   message
	delivered *pool.Buffer // what Open has returned last, if it lies in the layer's memory

	control [maxControl]byte // payload of a control frame under way
	close   [maxControl]byte // payload of the close frame that is due
	// Their lengths.
	controlLen, closeLen uint8

	pongs *pool.Buffer // frames that are due, nil for none
}

var workPool = sync.Pool{New: func() any { return new(work) }}

// needWork returns the layer's work.
func (l *Layer) needWork() *work {
	if l.work == nil {
		l.work = workPool.Get().(*work)
	}
	return l.work
}

// putWork gives the work back. Its buffers are released already.
func (l *Layer) putWork() {
	w := l.work
	w.headLen, w.inFrame, w.frame, w.left, w.message = 0, false, header{}, 0, message{}
	w.controlLen, w.closeLen = 0, 0
	workPool.Put(w)
	l.work = nil
}

// dropPongs gives their memory back.
func (w *work) dropPongs() {
	if w.pongs != nil {
		w.pongs.Release()
		w.pongs = nil
	}
}

// rest gives the work back if nothing is under way.
func (l *Layer) rest() {
	w := l.work
	if w != nil && w.headLen == 0 && !w.inFrame && !w.message.open && w.delivered == nil && l.due&(duePong|dueClose) == 0 {
		l.putWork()
	}
}
