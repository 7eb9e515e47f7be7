package bench

import (
	"math"
	"math/rand/v2"
)

// A pacer returns the planned send times of an open loop, in nanoseconds since its start, never decreasing. The times do not depend on
// when messages are really sent. So if a server stalls, the latency of every message that is due meanwhile counts from its planned time.
// This avoids coordinated omission in the way of giltene/wrk2. That the pacer is a small type of its own follows tsenart/vegeta.
//
// Not safe for concurrent use: each worker has its own.
type pacer struct {
	gap    float64    // mean, nanoseconds
	due    float64    // the time that next returns
	random *rand.Rand // nil for uniform gaps
}

// newPacer returns a pacer for rate messages per second. phase, 0 to below 1, is the part of a gap before the first
// one, so that several uniform pacers interleave instead of firing together. The first Poisson arrival comes after
// a random gap.
func newPacer(arrival string, rate, phase float64, seed uint64) *pacer {
	p := &pacer{gap: 1e9 / rate}
	if arrival == Poisson {
		p.random = rand.New(rand.NewPCG(seed, math.Float64bits(phase)))
		p.due = p.random.ExpFloat64() * p.gap
	} else {
		p.due = phase * p.gap
	}
	return p
}

// peek returns the next planned time and does not advance.
func (p *pacer) peek() int64 { return int64(p.due) }

// advance goes on to the next planned time.
func (p *pacer) advance() {
	if p.random != nil {
		p.due += p.random.ExpFloat64() * p.gap
	} else {
		p.due += p.gap
	}
}
