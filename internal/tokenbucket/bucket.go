// Package tokenbucket bounds a rate: tokens come in at the rate, each unit that passes takes one. It reads no clock.
package tokenbucket

import (
	"math"
	"time"
)

// Bucket is a token bucket. It counts in billionths of a token: one token per second is then one billionth per nanosecond, and no rounding
// adds up. A bucket may be overdrawn: it is negative then. It is for one goroutine at a time.
type Bucket int64

const (
	token = Bucket(time.Second)

	// ticks is how many times a second a waiting caller looks again, at most. It matches the 20 ms resolution of deadlines.
	ticks = 50
)

// Max is the highest rate and the highest burst: 4 GiB, or what an int holds.
const Max = min(1<<32, math.MaxInt)

// Full returns a bucket with that many tokens.
func Full(burst int) Bucket { return Bucket(burst) * token }

// Fill adds the tokens of elapsed at rate tokens per second, up to burst. A rate of 0 is no bound and adds nothing. While the caller
// waits for tokens, the bucket holds those of a tenth of a second besides: the deadline may be late, and nothing may be lost by that.
func (b *Bucket) Fill(elapsed time.Duration, rate, burst int, waits bool) {
	full := Full(burst)
	switch {
	case rate <= 0:
		return
	case waits:
		full += Bucket(rate) * token / 10
	}
	switch missing := full - *b; {
	case missing <= 0: // the caller waited before, and may keep what the bucket has
	case Bucket(elapsed) > missing/Bucket(rate):
		*b = full
	default:
		*b += Bucket(elapsed) * Bucket(rate)
	}
}

// Tokens returns how many whole tokens are there, 0 if the bucket is overdrawn.
func (b Bucket) Tokens() int { return max(0, int(b/token)) }

// Spend takes n tokens, and overdraws the bucket if there are fewer.
func (b *Bucket) Spend(n int) { *b -= Bucket(n) * token }

// Wait returns how long it takes until there are enough tokens for a 50th of a second, and at least one.
func (b Bucket) Wait(rate int) time.Duration {
	if rate <= 0 {
		return 0
	}
	need := max(token, Bucket(rate)*token/ticks)
	return max(0, time.Duration((need-b+Bucket(rate)-1)/Bucket(rate)))
}
