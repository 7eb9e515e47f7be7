package session_test

import (
	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/pool"
)

// checkMemory compares what is charged with what the queues hold, segment by segment, and what they hold with what they may (S5).
func (s *sim) checkMemory() {
	sum := 0
	common := make(map[*pool.Buffer]int)
	for _, m := range s.sessions {
		own, shared, ok := m.c.Session().Memory()
		if !ok {
			s.failf("%d: the memory of the queue is not what is counted", m.n)
		}
		sum += own
		all := own
		for b, n := range shared {
			common[b] = n
			all += n
		}
		limit := s.limits.SendLimit
		most := sendqueue.Ceiling(limit) + limit/4 + 4*pool.Page
		if m.layer != nil {
			most += sendqueue.Ceiling(simWireMost)
		}
		if limit > 0 && m.c.Full() && all > most { // and what describes packets
			s.failf("%d: %d bytes of memory for %d that wait, at most %d", m.n, all, m.queued(), most)
		}
	}
	for _, n := range common {
		sum += n
	}
	if b := s.limits.Budget; b != nil && b.Held() != sum {
		s.failf("%d bytes are charged, %d are held", b.Held(), sum)
	}
}
