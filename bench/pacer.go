package bench

import (
	"math"
	"math/rand/v2"
)

// A pacer yields the planned send times of an open loop: nanoseconds from its start, never decreasing. The times
// do not depend on when anything was really sent, so a server that stalls finds every message that was due
// meanwhile counted from its planned time. This is the remedy for coordinated omission as giltene/wrk2 gives it;
// that the pacer is a small type of its own follows tsenart/vegeta.
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

// peek returns the next planned time without using it up.
func (p *pacer) peek() int64 { return int64(p.due) }

// advance uses it up.
func (p *pacer) advance() {
	if p.random != nil {
		p.due += p.random.ExpFloat64() * p.gap
	} else {
		p.due += p.gap
	}
}
