package session

import (
	"math"
	"time"

	"github.com/servercore-go/servercore/internal/tokenbucket"
)

// Rate bounds what a session receives in the long run, by two token buckets that begin full. A rate of 0 is no bound. A burst is what its
// bucket holds, at least 1. No rate and no burst may be above MaxRate.
type Rate struct {
	BytesPerSecond, BurstBytes     int
	PacketsPerSecond, BurstPackets int
	End                            bool // what is over the rate ends the session; otherwise it waits
}

// MaxRate is the highest rate and burst: 4 GiB, or what an int holds.
const MaxRate = tokenbucket.Max

// rated is what a session with a rate has besides. The loop's own.
type rated struct {
	*Rate
	bytes, packets tokenbucket.Bucket
	filledAt       time.Duration // when the buckets were last filled; they were full at 0
	waits          bool          // reading is stopped until there are tokens again
	enoughAt       time.Duration // when there will be
}

// newRated returns full buckets for r.
func newRated(r *Rate) *rated {
	return &rated{
		Rate:    r,
		bytes:   tokenbucket.Full(r.BurstBytes),
		packets: tokenbucket.Full(r.BurstPackets),
	}
}

// rated returns what LimitRecv has set, nil for a session without a rate.
func (s *Session) rated() *rated {
	if r := s.rare.Load(); r != nil {
		return r.rated()
	}
	return nil
}

// fill adds the tokens that have come in by now.
func (r *rated) fill(now time.Duration) {
	elapsed := now - r.filledAt
	r.filledAt = now
	r.bytes.Fill(elapsed, r.BytesPerSecond, r.BurstBytes, r.waits)
	r.packets.Fill(elapsed, r.PacketsPerSecond, r.BurstPackets, r.waits)
}

// allowance returns how many bytes may be delivered now, by one call of OnRecv.
func (r *rated) allowance() int {
	switch {
	case r.PacketsPerSecond > 0 && r.packets.Tokens() == 0:
		return 0
	case r.BytesPerSecond > 0:
		return r.bytes.Tokens()
	}
	return math.MaxInt
}

// rateAllows reports whether n bytes may be delivered now. If they may not, and Rate.End says so, it ends the session.
func (s *Session) rateAllows(n int) bool {
	r := s.rated()
	if r == nil {
		return true
	}
	r.fill(s.conn.Now())
	if n <= r.allowance() {
		return true
	}
	if r.End {
		s.abort(ErrRecvRate)
	}
	return false
}

// spendTokens takes the tokens for what is delivered.
func (s *Session) spendTokens(bytes, packets int) {
	if r := s.rated(); r != nil {
		r.bytes.Spend(bytes)
		r.packets.Spend(packets)
	}
}

// waitsForTokens reports whether a session has to wait for tokens. It goes on when there are enough for a 50th of a second, because it is not
// looked at more often. Otherwise every other event would bring it a few bytes.
func (s *Session) waitsForTokens() bool {
	r := s.rated()
	if r == nil || r.End {
		return false
	}
	now := s.conn.Now()
	r.fill(now)
	if !r.waits && r.allowance() > 0 {
		return false
	}
	wait := max(r.bytes.Wait(r.BytesPerSecond), r.packets.Wait(r.PacketsPerSecond))
	r.waits, r.enoughAt = wait > 0, now+wait
	return r.waits
}

// tokensAt returns when a session that waits for tokens may go on, 0 if it does not wait.
func (s *Session) tokensAt() time.Duration {
	if r := s.rated(); r != nil && r.waits && s.phase == phaseOpen && !s.peerFIN {
		return r.enoughAt
	}
	return 0
}
