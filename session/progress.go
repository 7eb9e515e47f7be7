package session

import "time"

// progress is what a session knows of how fast its peer takes what it is sent, while a deadline depends on it. The loop's own.
//
// Taken means acknowledged: what the kernel took is not yet the peer's. Nothing tells when the peer acknowledges, so a session
// that drains or is stalled is looked at often (sampleEvery).
type progress struct {
	held    int           // bytes in the kernel that the peer had not acknowledged at the last look, negative before the first
	wrote   int           // bytes that the kernel took since
	endBy   time.Duration // drain or linger deadline, 0 if none
	stallBy time.Duration // deadline of a kernel that takes nothing, 0 if it takes
}

const (
	// leastRate is the least rate, in bytes per second, at which a peer must take what it is sent, on average: the minimum data
	// rate of Kestrel (ASP.NET Core, KestrelServerLimits.MinResponseDataRate).
	leastRate = 240

	// samples is how many times a deadline is looked at while it runs: it is exact to a 32nd.
	samples   = 32
	sampleMin = 20 * time.Millisecond
	sampleMax = 500 * time.Millisecond
)

// sampleEvery returns the time between two looks at a deadline of length d, or at what has none.
func sampleEvery(d time.Duration) time.Duration {
	if d <= 0 {
		return sampleMax
	}
	return min(max(d/samples, sampleMin), sampleMax)
}

// extend puts a deadline off for n bytes that were taken: by the time they may take at leastRate, and to no more than limit
// from now. So a deadline passes when the peer took nothing for limit, or less than leastRate on average for longer.
func extend(by time.Duration, n int, now, limit time.Duration) time.Duration {
	if by == 0 || n <= 0 {
		return by
	}
	// Beyond limit the product does not matter, and cannot overflow.
	worth := min(time.Duration(n), limit/time.Second*leastRate+leastRate) * time.Second / leastRate
	return max(by, min(by+worth, now+limit))
}

// begin starts to count what the peer takes, from the first look on: a deadline that has just begun cannot be put off.
func (p *progress) begin() {
	if p.endBy == 0 && p.stallBy == 0 {
		p.held = -1
	}
}

// measure looks how much the peer has taken since the last look, and puts the deadlines off that depend on it.
func (s *Session) measure(now time.Duration) {
	r := s.rare.Load()
	if r == nil || s.lingering || s.severed || r.endBy == 0 && r.stallBy == 0 {
		return
	}
	unsent := s.conn.Unsent()
	taken := r.held + r.wrote - unsent
	if r.held < 0 {
		taken = 0
	}
	r.held, r.wrote = unsent, 0
	r.endBy = extend(r.endBy, taken, now, s.loop.Limits.Drain)
	r.stallBy = extend(r.stallBy, taken, now, s.loop.Limits.Write)
}

// sampleBy returns when to measure next, 0 if nothing depends on it.
func (s *Session) sampleBy(size int) time.Duration {
	r := s.rare.Load()
	if r == nil || s.lingering || s.severed {
		return 0
	}
	l, every := &s.loop.Limits, time.Duration(0)
	sooner := func(d time.Duration) {
		if every == 0 || d < every {
			every = d
		}
	}
	if s.phase == phaseDraining && (r.endBy > 0 || size == 0) { // without a deadline too: the linger begins when all is acknowledged
		sooner(sampleEvery(l.Drain))
	}
	if r.stallBy > 0 {
		sooner(sampleEvery(l.Write))
	}
	if every == 0 {
		return 0
	}
	return s.conn.Now() + every
}
