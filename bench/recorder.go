package bench

import "sync"

// A distribution is a kind of time that is measured.
type distribution uint8

const (
	replyTime    distribution = iota // echo, idle, ramp: from send to reply. rate: from the actual send
	plannedTime                      // rate: from the planned send
	pacingLag                        // rate: how late the client was by itself
	connectTime                      // from connect to connected
	cycleTime                        // churn: from connect to the last byte
	deliveryTime                     // fanout: from the publisher's send to one subscriber
	roundTime                        // fanout: to the last subscriber
	distributions
)

// A chunk is what one worker measured in one interval of the series.
type chunk struct {
	index    int // of the interval
	final    bool
	messages uint64 // right replies, or deliveries
	bytes    uint64 // received and right
	cycles   uint64
	planned  uint64 // messages that were due in the measured part
	sent     uint64 // messages that left, warm-up included
	opened   uint64 // connections made
	cut      uint64 // messages under way, or waiting, when their connection ended
	errors   ErrorCounts
	times    [distributions]*histogram // nil until something is recorded
}

// recycle gives an empty c back to the pool.
func (c *chunk) recycle() {
	for _, h := range c.times {
		if h != nil && h.count() > 0 {
			h.reset()
		}
	}
	*c = chunk{times: c.times}
	chunks.Put(c)
}

// add merges what other holds into c.
func (c *chunk) add(other *chunk) {
	c.messages += other.messages
	c.bytes += other.bytes
	c.cycles += other.cycles
	c.planned += other.planned
	c.sent += other.sent
	c.opened += other.opened
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
}

// chunks are reused: each holds histograms of 250 KiB.
var chunks = sync.Pool{New: func() any { return new(chunk) }}

// A recorder takes one worker's measurements and hands them on, interval by interval. Used by its worker only; what
// it has handed on belongs to the receiver.
type recorder struct {
	out      chan<- *chunk
	now      *chunk
	interval int64
	ends     int64 // of the interval at hand; 0 before the measured part
}

func newRecorder(out chan<- *chunk, interval int64) *recorder {
	return &recorder{out: out, interval: interval, now: chunks.Get().(*chunk)}
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

// begin starts the first interval: the measured part begins at start. Errors counted before stay counted.
func (r *recorder) begin(start int64) { r.ends = start + r.interval }

// roll hands on the intervals that ended before now.
func (r *recorder) roll(now int64) {
	for r.ends != 0 && now >= r.ends {
		r.send(false)
		r.ends += r.interval
	}
}

// finish hands on the rest. Nothing may be recorded afterwards.
func (r *recorder) finish() { r.send(true) }

func (r *recorder) send(final bool) {
	c := r.now
	c.final = final
	next := chunks.Get().(*chunk)
	next.index = c.index + 1
	r.now = next
	r.out <- c
}
