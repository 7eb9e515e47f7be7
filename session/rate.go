package session

import (
	"math"
	"time"
)

// Rate bounds what a session receives in the long run: by two token buckets, which begin full. A rate of 0 is no bound. A
// burst is what its bucket holds, at least 1. None may be above MaxRate.
type Rate struct {
	BytesPerSecond, BurstBytes     int
	PacketsPerSecond, BurstPackets int
	End                            bool // what is over it ends the session; otherwise it waits
}

// MaxRate is the highest rate and burst: 4 GiB, or what an int holds.
const MaxRate = min(1<<32, math.MaxInt)

// rated is what a session with a rate has besides. The loop's own.
type rated struct {
	*Rate
	bytes, packets bucket
	at             time.Duration // when the buckets were last filled; from 0, when they were full
	holds          bool          // reading is stopped until there are tokens for a tick
	by             time.Duration // when there will be
}

// bucket is a token bucket, in billionths of a token: a token per second is one of them per nanosecond, so that no rounding
// adds up. It may be overdrawn.
type bucket int64

const (
	token = bucket(time.Second)
	// ticks is how many times a second a session that is held is looked at, at the most: the resolution of deadlines.
	ticks = 50
)

// fill adds what has come in the meantime. The bucket of a session that waits holds a tenth of a second's worth besides, so
// that nothing is lost while the deadline is late.
func (b *bucket) fill(elapsed time.Duration, rate, burst int, waits bool) {
	full := bucket(burst) * token
	switch {
	case rate <= 0:
		return
	case waits:
		full += bucket(rate) * token / 10
	}
	switch missing := full - *b; {
	case missing <= 0: // it waited before, and may keep what it has
	case bucket(elapsed) > missing/bucket(rate):
		*b = full
	default:
		*b += bucket(elapsed) * bucket(rate)
	}
}

// wait returns how long it takes until there are tokens for a tick, and at least one.
func (b bucket) wait(rate int) time.Duration {
	if rate <= 0 {
		return 0
	}
	need := max(token, bucket(rate)*token/ticks)
	return max(0, time.Duration((need-b+bucket(rate)-1)/bucket(rate)))
}

// rated returns what LimitRecv has set, nil for a session without a rate.
func (s *Session) rated() *rated {
	if r := s.rare.Load(); r != nil {
		return r.rated
	}
	return nil
}

// LimitRecv sets the rate of a session that Bind has made, before Connected.
func (d *Driver) LimitRecv(r *Rate) {
	s := (*Session)(d)
	s.rarely().rated = &rated{
		Rate:    r,
		bytes:   bucket(r.BurstBytes) * token,
		packets: bucket(r.BurstPackets) * token,
	}
}

func (r *rated) fill(now time.Duration) {
	elapsed := now - r.at
	r.at = now
	r.bytes.fill(elapsed, r.BytesPerSecond, r.BurstBytes, r.holds)
	r.packets.fill(elapsed, r.PacketsPerSecond, r.BurstPackets, r.holds)
}

// allowance returns how many bytes may be delivered now, by one call of OnRecv.
func (r *rated) allowance() int {
	switch {
	case r.PacketsPerSecond > 0 && r.packets < token:
		return 0
	case r.BytesPerSecond > 0:
		return max(0, int(r.bytes/token))
	}
	return math.MaxInt
}

// covers reports whether n bytes may be delivered now. If they may not, and that is to be the end, it is.
func (s *Session) covers(n int) bool {
	r := s.rated()
	if r == nil {
		return true
	}
	r.fill(s.conn.Now())
	if n <= r.allowance() {
		return true
	}
	if r.End {
		s.kill(ErrRecvRate)
	}
	return false
}

// spend takes the tokens for what is delivered.
func (s *Session) spend(bytes, packets int) {
	if r := s.rated(); r != nil {
		r.bytes -= bucket(bytes) * token
		r.packets -= bucket(packets) * token
	}
}

// held reports whether a session has to wait for tokens. It goes on when there are enough for a tick, because it is not
// looked at more often: otherwise every other event would bring it a few bytes.
func (s *Session) held() bool {
	r := s.rated()
	if r == nil || r.End {
		return false
	}
	now := s.conn.Now()
	r.fill(now)
	if !r.holds && r.allowance() > 0 {
		return false
	}
	wait := max(r.bytes.wait(r.BytesPerSecond), r.packets.wait(r.PacketsPerSecond))
	r.holds, r.by = wait > 0, now+wait
	return r.holds
}

// moreBy returns when a session that is held may go on, 0 if it is not held.
func (s *Session) moreBy() time.Duration {
	if r := s.rated(); r != nil && r.holds && s.phase == phaseOpen && !s.peerFIN {
		return r.by
	}
	return 0
}
