package bench

import "sync"

// A distribution is a kind of time that is measured.
type distribution uint8

const (
	replyTime     distribution = iota // echo, idle, ramp: from send to reply. rate: from the actual send
	plannedTime                       // rate: from the planned send
	pacingLag                         // rate: how late the client was by itself
	connectTime                       // from connect to connected
	cycleTime                         // churn: from connect to the last byte
	deliveryTime                      // fanout: from the publisher's send to one subscriber; with a rate from the planned send
	roundTime                         // fanout: to the last subscriber
	handshakeTime                     // TLS: from connected to the end of the handshake
	upgradeTime                       // WebSocket: from the request to the answer
	distributions
)

// A phase is the part of a run that something was recorded in.
type phase uint8

const (
	before phase = iota // connecting and warm-up
	within              // the measured part
	after               // waiting for replies
)

// A chunk is what one worker recorded in one interval of the series, or before or after the measured part.
type chunk struct {
	phase phase
	index int  // of the interval, within the measured part
	whole bool // the interval has its full length

	// What happened in the measured part, and is compared with its length.
	messages uint64 // right replies, or deliveries, that came
	bytes    uint64 // of these messages
	cycles   uint64 // that were completed
	spoiled  uint64 // messages that were found wrong or lost
	offered  uint64 // messages that left
	planned  uint64 // messages that were due
	inTime   uint64 // connections made

	afterEnd   uint64 // right replies to messages of the measured part that came after it
	sent       uint64 // messages that left in the whole run
	opened     uint64 // connections made in the whole run
	handshakes uint64 // of TLS, in the whole run
	resumed    uint64 // of those
	upgrades   uint64 // to WebSocket, in the whole run
	echoed     uint64 // connections whose message before the load came back
	cut        uint64 // messages under way, or waiting, when their connection ended
	errors     ErrorCounts
	times      [distributions]*histogram // nil until something is recorded
	places     []place                   // fanout with Plan.Subscribe: by target
}

// place is what came for the subscribers at one address.
type place struct {
	deliveries uint64 // right ones that came in the measured part
	// Of the whole run.
	lost, doubled, disordered, overdue, wrong uint64
	times                                     *histogram // nil until something is recorded
}

// add merges what other holds into p.
func (p *place) add(other *place) {
	p.deliveries += other.deliveries
	p.lost += other.lost
	p.doubled += other.doubled
	p.disordered += other.disordered
	p.overdue += other.overdue
	p.wrong += other.wrong
	if other.times != nil && other.times.count() > 0 {
		if p.times == nil {
			p.times = newHistogram()
		}
		p.times.merge(other.times)
	}
}

// grow makes places up to number n.
func (c *chunk) grow(n int) {
	for len(c.places) <= n {
		c.places = append(c.places, place{})
	}
}

// recycle gives an empty c back to the pool.
func (c *chunk) recycle() {
	for _, h := range c.times {
		if h != nil && h.count() > 0 {
			h.reset()
		}
	}
	for i, p := range c.places {
		if p.times != nil && p.times.count() > 0 {
			p.times.reset()
		}
		c.places[i] = place{times: p.times}
	}
	*c = chunk{times: c.times, places: c.places}
	chunks.Put(c)
}

// add merges what other holds into c.
func (c *chunk) add(other *chunk) {
	c.messages += other.messages
	c.bytes += other.bytes
	c.cycles += other.cycles
	c.spoiled += other.spoiled
	c.offered += other.offered
	c.planned += other.planned
	c.inTime += other.inTime
	c.afterEnd += other.afterEnd
	c.sent += other.sent
	c.opened += other.opened
	c.handshakes += other.handshakes
	c.resumed += other.resumed
	c.upgrades += other.upgrades
	c.echoed += other.echoed
	c.cut += other.cut
	for k, n := range other.errors {
		c.errors[k] += n
	}
	for d, h := range other.times {
		if h == nil || h.count() == 0 {
			continue
		}
		if c.times[d] == nil {
			c.times[d] = newHistogram()
		}
		c.times[d].merge(h)
	}
	c.grow(len(other.places) - 1)
	for i := range other.places {
		c.places[i].add(&other.places[i])
	}
}

// chunks are reused: each holds histograms of 250 KiB.
var chunks = sync.Pool{New: func() any { return new(chunk) }}

// A recorder takes one worker's measurements and hands them on, interval by interval. Used by its worker only; what
// it has handed on belongs to the receiver.
type recorder struct {
	out      chan<- *chunk
	now      *chunk
	interval int64
	next     int64 // when the chunk at hand ends, unless the measured part ends before
	edge     int64 // next, or the end of the measured part if that was earlier at the last roll
}

func newRecorder(out chan<- *chunk, interval int64) *recorder {
	return &recorder{out: out, interval: interval, next: forever, edge: forever, now: chunks.Get().(*chunk)}
}

// time records one time.
func (r *recorder) time(d distribution, ns int64) {
	h := r.now.times[d]
	if h == nil {
		h = newHistogram()
		r.now.times[d] = h
	}
	h.record(ns)
}

// times records the same time n times.
func (r *recorder) times(d distribution, ns int64, n uint64) {
	if r.now.times[d] == nil {
		r.now.times[d] = newHistogram()
	}
	r.now.times[d].recordTimes(ns, n)
}

// place returns what is recorded of a target's subscribers.
func (r *recorder) place(n int32) *place {
	r.now.grow(int(n))
	return &r.now.places[n]
}

// time records how long a delivery took.
func (p *place) time(ns int64) {
	if p.times == nil {
		p.times = newHistogram()
	}
	p.times.record(ns)
}

// begin says when the measured part begins.
func (r *recorder) begin(from int64) { r.next, r.edge = from, from }

// roll hands on the chunks that ended at now or before. end is that of the measured part; it may have been moved.
func (r *recorder) roll(now, end int64) {
	for r.now.phase != after && now >= min(r.next, end) {
		next := chunk{phase: within}
		if r.now.phase == within {
			r.now.whole = r.next <= end
			next.index = r.now.index + 1
		}
		if r.next >= end && (r.now.phase == within || r.next > end) { // the measured part is over, or never began
			next, r.next = chunk{phase: after}, forever
		} else {
			r.next += r.interval
		}
		r.send(next)
	}
	if r.edge = r.next; r.now.phase != after {
		r.edge = min(r.next, end)
	}
}

// finish hands on the rest. Nothing may be recorded afterwards.
func (r *recorder) finish() { r.send(chunk{phase: after}) }

// send hands on the chunk at hand and goes on with one of the phase and index of next.
func (r *recorder) send(next chunk) {
	c := r.now
	r.now = chunks.Get().(*chunk)
	r.now.phase, r.now.index = next.phase, next.index
	r.out <- c
}
