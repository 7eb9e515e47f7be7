package session

import "time"

// progress is what a session knows of how fast its peer takes what it is sent, while a deadline depends on it. The loop's own.
//
// Taken means acknowledged: what the kernel took is not yet the peer's. No event tells when the peer acknowledges, so a session that drains or is
// stalled is measured often (measureEvery).
type progress struct {
	unacked int           // bytes in the kernel that the peer had not acknowledged at the last measurement, negative before the first
	wrote   int           // bytes that the kernel has taken since
	endAt   time.Duration // deadline of the drain or the linger, 0 if none
	stallAt time.Duration // deadline of a kernel that takes nothing, 0 if it takes
}

const (
	// leastRate is the least rate, in bytes per second, at which a peer must take what it is sent, on average: the minimum data rate of
	// Kestrel (ASP.NET Core, KestrelServerLimits.MinResponseDataRate).
	leastRate = 240

	// measurements is how many times a deadline is looked at while it runs: it is exact to a 32nd.
	measurements = 32
	measureMin   = 20 * time.Millisecond
	measureMax   = 500 * time.Millisecond
)

// measureEvery returns the time between two measurements for a deadline of length d, or without one.
func measureEvery(d time.Duration) time.Duration {
	if d <= 0 {
		return measureMax
	}
	return min(max(d/measurements, measureMin), measureMax)
}

// extend puts a deadline off for n bytes that were taken: by the time they may take at leastRate, and to no later than limit from now. So a
// deadline passes when the peer took nothing for limit, or less than leastRate on average for longer.
func extend(at time.Duration, n int, now, limit time.Duration) time.Duration {
	if at == 0 || n <= 0 {
		return at
	}
	// Beyond limit the product does not matter, and cannot overflow.
	worth := min(time.Duration(n), limit/time.Second*leastRate+leastRate) * time.Second / leastRate
	return max(at, min(at+worth, now+limit))
}

// startMeasuring begins to count what the peer takes, from the next measurement on: a deadline that has just begun cannot be put off. It
// does nothing if a deadline runs already.
func (p *progress) startMeasuring() {
	if p.endAt == 0 && p.stallAt == 0 {
		p.unacked = -1
	}
}

// measure looks how much the peer has taken since the last measurement, and puts off the deadlines that depend on it.
func (s *Session) measure(now time.Duration) {
	r := s.rare.Load()
	if r == nil || s.lingering || s.severed || r.endAt == 0 && r.stallAt == 0 {
		return
	}
	unsent := s.conn.Unsent()
	taken := r.unacked + r.wrote - unsent
	if r.unacked < 0 {
		taken = 0
	}
	r.unacked, r.wrote = unsent, 0
	r.endAt = extend(r.endAt, taken, now, s.loop.Limits.Drain)
	r.stallAt = extend(r.stallAt, taken, now, s.loop.Limits.Write)
}

// measureAt returns when to measure next, 0 if nothing depends on it.
func (s *Session) measureAt(size int) time.Duration {
	r := s.rare.Load()
	if r == nil || s.lingering || s.severed {
		return 0
	}
	l, every := &s.loop.Limits, time.Duration(0)
	shortest := func(d time.Duration) {
		if every == 0 || d < every {
			every = d
		}
	}
	if s.phase == phaseDraining && (r.endAt > 0 || size == 0) { // without a deadline too: the linger begins when all is acknowledged
		shortest(measureEvery(l.Drain))
	}
	if r.stallAt > 0 {
		shortest(measureEvery(l.Write))
	}
	if every == 0 {
		return 0
	}
	return s.conn.Now() + every
}
