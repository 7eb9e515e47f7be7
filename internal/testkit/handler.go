package testkit

import (
	"fmt"
	"net"
	"sync/atomic"

	"github.com/servercore-go/servercore/session"
)

// Handler is a session.Handler that records its callbacks in order and calls the functions in its fields. It reports a fault to
// its loop if a callback is nested, overlaps another, comes before OnConnected or after OnDisconnected, or runs while the session
// is locked. The exported fields may be set before the connection and read on the loop's goroutine.
type Handler struct {
	session.Session

	Connected    func(h *Handler)
	Recv         func(h *Handler, data []byte)
	Sent         func(h *Handler, n int)
	Disconnected func(h *Handler)
	Writable     func(h *Handler, writable bool)

	Quiet  bool // record only sums
	Framed bool // allow empty packets

	Log      []string // "connected", "recv abc", "sent 3", "post name", "disconnected"
	Received []byte   // all bytes of OnRecv
	SentSum  int      // sum of the arguments of OnSend, in bytes
	SentN    int      // calls of OnSend
	Begun    int      // calls of OnConnected
	Over     int      // calls of OnDisconnected
	Waits    bool     // the last call of OnWritable was OnWritable(false)

	loop *Loop
	busy atomic.Bool
}

// HalfOpen is a Handler that keeps its session open after the peer's FIN.
type HalfOpen struct {
	Handler
	HalfClosed func(h *Handler)

	Half int // calls of OnHalfClose
}

// OnHalfClose implements session.HalfCloser.
func (h *HalfOpen) OnHalfClose() {
	h.enter("OnHalfClose")
	defer h.leave()
	h.Half++
	h.note("half-closed")
	if h.HalfClosed != nil {
		h.HalfClosed(&h.Handler)
	}
}

// record returns the Handler behind h, or nil if h is another type.
func record(h session.Handler) *Handler {
	switch h := h.(type) {
	case *Handler:
		return h
	case *HalfOpen:
		return &h.Handler
	}
	return nil
}

func (h *Handler) enter(callback string) {
	if !h.busy.CompareAndSwap(false, true) {
		h.loop.fault("%s inside another callback", callback)
	}
	switch {
	case !h.loop.inside.Load():
		h.loop.fault("%s outside of a visit", callback)
	case callback == "OnConnected" && h.Begun > 0:
		h.loop.fault("OnConnected twice")
	case callback != "OnConnected" && h.Begun == 0:
		h.loop.fault("%s before OnConnected", callback)
	case h.Over > 0:
		h.loop.fault("%s after OnDisconnected", callback)
	}
	h.Pending() // blocks for ever if the session is locked
}

func (h *Handler) leave() { h.busy.Store(false) }

func (h *Handler) note(format string, args ...any) {
	if !h.Quiet {
		h.Log = append(h.Log, fmt.Sprintf(format, args...))
	}
}

func (h *Handler) address(a net.Addr) {
	if a == nil || a.String() != h.RemoteAddr().String() {
		h.loop.fault("address %v, want %v", a, h.RemoteAddr())
	}
}

// OnConnected implements session.Handler.
func (h *Handler) OnConnected(a net.Addr) {
	h.enter("OnConnected")
	defer h.leave()
	h.address(a)
	h.Begun++
	h.note("connected")
	if h.Connected != nil {
		h.Connected(h)
	}
}

// OnRecv implements session.Handler.
func (h *Handler) OnRecv(data []byte) {
	h.enter("OnRecv")
	defer h.leave()
	if len(data) == 0 && !h.Framed {
		h.loop.fault("OnRecv of nothing")
	}
	if !h.Quiet {
		h.note("recv %s", data)
		h.Received = append(h.Received, data...)
	}
	if h.Recv != nil {
		h.Recv(h, data)
	}
}

// OnSend implements session.Handler.
func (h *Handler) OnSend(n int) {
	h.enter("OnSend")
	defer h.leave()
	if n < 0 || n == 0 && !h.Framed {
		h.loop.fault("OnSend(%d)", n)
	}
	h.SentSum += n
	h.SentN++
	if !h.Quiet {
		h.note("sent %d", n)
	}
	if h.Sent != nil {
		h.Sent(h, n)
	}
}

// OnWritable implements session.Writability.
func (h *Handler) OnWritable(writable bool) {
	h.enter("OnWritable")
	defer h.leave()
	if writable != h.Waits {
		h.loop.fault("OnWritable(%t) out of turn", writable)
	}
	h.Waits = !writable
	h.note("writable %t", writable)
	if h.Writable != nil {
		h.Writable(h, writable)
	}
}

// OnDisconnected implements session.Handler.
func (h *Handler) OnDisconnected(a net.Addr) {
	h.enter("OnDisconnected")
	defer h.leave()
	h.address(a)
	h.Over++
	h.note("disconnected")
	if h.Err() == nil {
		h.loop.fault("OnDisconnected without a reason")
	}
	if h.Disconnected != nil {
		h.Disconnected(h)
	}
}

// Posted returns a function for Post that records name and calls f. f may be nil.
func (h *Handler) Posted(name string, f func()) func() {
	return func() {
		h.enter("Post")
		defer h.leave()
		h.note("post %s", name)
		if f != nil {
			f()
		}
	}
}
