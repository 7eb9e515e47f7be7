package guard

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	minRate  = 1e-6 // per second
	maxRate  = 1e6
	maxBurst = 1_000_000
)

// rate is the speed and the size of a token bucket. The zero value means no bound. The bucket itself is one time: when it is full
// again. A token taken puts that time off by one interval.
type rate struct {
	interval time.Duration // between two tokens
	burst    time.Duration // for an empty bucket to fill
}

// newRate returns a rate of so many tokens a second. The default of burst is a second's worth of tokens.
func newRate(perSecond float64, burst int) (rate, error) {
	switch {
	case perSecond == 0 && burst != 0:
		return rate{}, errors.New("Rules.AcceptBurst is set without Rules.AcceptRate")
	case perSecond == 0:
		return rate{}, nil
	case !(perSecond >= minRate && perSecond <= maxRate): // not a number is neither
		return rate{}, fmt.Errorf("Rules.AcceptRate is %v, want %v to %v, or 0 for no bound", perSecond, minRate, maxRate)
	case burst < 0 || burst > maxBurst:
		return rate{}, fmt.Errorf("Rules.AcceptBurst is %d, want 1 to %d, or 0 for its default", burst, maxBurst)
	}
	if burst == 0 {
		burst = int(math.Ceil(perSecond))
	}
	interval := float64(time.Second) / perSecond
	if float64(burst)*interval > math.MaxInt64/4 {
		return rate{}, fmt.Errorf("Rules.AcceptBurst is %d, which takes %v a second more than 70 years to fill", burst, perSecond)
	}
	return rate{interval: time.Duration(interval), burst: time.Duration(float64(burst) * interval)}, nil
}

// take takes a token of the bucket that is full at fullAt, and returns when the bucket is full after that. If the bucket is empty, ok is
// false and the bucket stays as it is.
func (r rate) take(fullAt, now time.Duration) (after time.Duration, ok bool) {
	if r.interval == 0 {
		return fullAt, true
	}
	after = max(fullAt, now) + r.interval
	if after-now > r.burst {
		return fullAt, false
	}
	return after, true
}
