// Package looplag measures how late an event loop looks at what happens: a prober asks it now and then, and the loop notes when it has seen that.
package looplag

import (
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/internal/histogram"
)

// Probe is the measurement of one loop. One goroutine, the prober, calls Ask, and the loop calls Answer. The zero value is ready for use. All times
// are of one clock and greater than 0.
//
// A loop that is held up for long cannot be asked anew meanwhile. Each Ask that finds the last one unanswered counts as a question that was asked
// then: the lag of a loop that stands for ten seconds is in the histogram as often as it was looked for. (This is how HdrHistogram corrects
// for coordinated omission.)
type Probe struct {
	// state is 0 if there is no question, when the question was asked while it waits, and when it was answered, negative, from then on.
	// Only the prober makes it positive, and only the loop negative.
	state atomic.Int64

	// The prober's.
	asked  time.Duration
	missed []time.Duration // when it was asked in vain since

	lags histogram.Histogram
}

// mostMissed bounds what is kept of a loop that stands: at ten questions a second, seven minutes.
const mostMissed = 4096

// Ask records the answer to the last question, and asks another one. It returns true if the loop has to be woken for it. The prober only.
func (p *Probe) Ask(now time.Duration) (wake bool) {
	state := time.Duration(p.state.Load())
	if state > 0 {
		if len(p.missed) < mostMissed {
			p.missed = append(p.missed, now)
		}
		return false
	}
	if state < 0 {
		answered := -state
		p.lags.Record(answered - p.asked)
		for _, asked := range p.missed {
			p.lags.Record(answered - asked)
		}
		p.missed = p.missed[:0]
	}
	p.asked = now
	p.state.Store(int64(now))
	return true
}

// Answer notes that the loop has looked at now. It costs one atomic read if there is no question. The loop only.
func (p *Probe) Answer(now time.Duration) {
	if asked := p.state.Load(); asked > 0 {
		p.state.Store(-int64(now))
	}
}

// Waiting returns how long the question has waited that is not answered, 0 if there is none. Any goroutine.
func (p *Probe) Waiting(now time.Duration) time.Duration {
	if asked := time.Duration(p.state.Load()); asked > 0 {
		return max(now-asked, 0)
	}
	return 0
}

// Lags returns the lags that were recorded. Any goroutine.
func (p *Probe) Lags() *histogram.Histogram { return &p.lags }
