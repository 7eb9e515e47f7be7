package bench

import (
	"sync"
	"sync/atomic"
)

// A fan is the publisher of a fanout run, and the state that the workers share. The publisher is connection 0 of worker 0 and sends
// stream 0. All other connections are subscribers and must get that stream.
//
// The publisher may be a window of messages ahead of the slowest subscriber. In a closed loop the window is one message, so that a round
// ends before the next begins. The worker that gets the last delivery of a message sends the next one itself, so that no worker waits
// until another wakes up.
type fan struct {
	window uint64 // messages

	published atomic.Uint64  // messages that have left, or are about to
	sentAt    []atomic.Int64 // ring by sequence number: when the message left, or with a rate was due
	leftAt    []atomic.Int64 // when it left; with a rate
	done      []paddedUint64 // per worker: messages that all its subscribers that have joined have got
	dialled   atomic.Int32   // workers that have tried all their connections
	begun     atomic.Int32   // workers that count deliveries
	open      atomic.Int64   // subscribers
	joined    atomic.Int64   // subscribers that got a first message
	places    []audience     // by target

	mu      sync.Mutex
	conn    *conn // the publisher, nil when it is gone
	pace    *pace // nil without Plan.Rate
	rounds  uint64
	buffer  []byte
	pending []byte // of buffer, or of control, not taken by the kernel yet
	control []byte // control frames of WebSocket, to be sent between two messages
}

type paddedUint64 struct {
	atomic.Uint64
	_ [56]byte // a cache line of its own
}

// newFan returns the fan of a plan whose messages are sent as wire bytes each.
func newFan(p *Plan, wire int) *fan {
	window := 1
	if p.Stream || p.Rate > 0 {
		window = max(1, p.Window/p.Size)
	}
	ring := 2
	for ring < window {
		ring *= 2
	}
	f := &fan{window: uint64(window), sentAt: make([]atomic.Int64, ring), done: make([]paddedUint64, p.Threads)}
	f.buffer = make([]byte, max(wire, min(64<<10, window*wire)))
	if p.Rate > 0 {
		f.pace, f.leftAt = newPace(p), make([]atomic.Int64, ring)
	}
	return f
}

func (f *fan) at(seq uint64) *atomic.Int64 { return &f.sentAt[seq&uint64(len(f.sentAt)-1)] }

// leaving is when message seq has left.
func (f *fan) leaving(seq uint64) *atomic.Int64 {
	if f.leftAt == nil {
		return f.at(seq)
	}
	return &f.leftAt[seq&uint64(len(f.leftAt)-1)]
}

// publishLocked sends messages up to number upto, as far as the kernel takes them. f.mu is held.
func (f *fan) publishLocked(w *worker, upto uint64) {
	p := w.run.pattern
	for f.conn != nil {
		if len(f.pending) > 0 {
			n, errno := f.conn.write(f.pending)
			if errno != 0 {
				return // full: an event comes; broken: the read of its worker finds out why
			}
			f.pending = f.pending[n:]
			continue
		}
		if len(f.control) > 0 {
			f.pending, f.control = f.control, nil
			continue
		}
		n, seq, now := 0, f.published.Load(), w.run.now()
		for ; seq < upto && n+p.wire() <= len(f.buffer); seq++ {
			n += p.fill(f.buffer[n:], 0, seq, 0)
			f.at(seq).Store(f.pace.sendTime(w, now))
			f.leaving(seq).Store(now)
		}
		if n == 0 {
			return
		}
		w.left(seq-f.published.Load(), now)
		f.published.Store(seq) // before the bytes leave: subscribers ask it what can have come
		f.pending = f.buffer[:n]
	}
}

// advance sends as many messages as the window allows.
func (f *fan) advance(w *worker, now int64) {
	if int(f.begun.Load()) < len(f.done) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slowest := f.done[0].Load()
	for i := range f.done[1:] {
		slowest = min(slowest, f.done[1+i].Load())
	}
	for ; f.rounds < slowest; f.rounds++ {
		if w.run.measured(now) {
			w.rec.now.cycles++
		}
		if sent := f.at(f.rounds).Load(); w.run.measured(sent) {
			w.rec.time(roundTime, now-sent)
		}
	}
	upto := f.published.Load() // what is pending goes on even after the end
	switch {
	case f.pace != nil:
		upto = f.pace.upto(w, w.run.now(), slowest+f.window, upto, len(f.pending) == 0)
	case w.run.now() < w.run.end.Load(): // asked under mu, and anew: see idle
		upto = slowest + f.window
	}
	f.publishLocked(w, upto)
}

// caughtUp reports whether all joined subscribers have got every message. The next message waits for that. With 10,000 subscribers a
// delivery takes longer than the time between two messages, and a server that is busy with messages would not learn of the other
// subscribers.
func (f *fan) caughtUp() bool {
	published := f.published.Load()
	for i := range f.done {
		if f.done[i].Load() < published {
			return false
		}
	}
	return true
}
