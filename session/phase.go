package session

// phase is where a session stands. It moves forward only, in advance, and only on the loop.
//
//	fresh ──Bind──▶ binding ──▶ open ──Disconnect, deadline, Shutdown──▶ draining ──all acknowledged, error, deadline──▶ closed
//	                             ├───────peer's FIN───────────────────▶ draining
//	                             └───────Abort, panic, severed and drained───────────────────────────────────────────────▶ closed
//
// There are two ways into draining. After the peer's FIN the queue is sent, and the session closes when the peer has acknowledged it. After
// our own decision the queue is sent, FIN follows, and when the peer has acknowledged that too the session lingers, discarding input,
// until the peer has closed as well. A session whose connection takes nothing more is severed: it stays open to deliver what was received.
type phase uint8

const (
	phaseFresh   phase = iota
	phaseBinding       // Bind has begun
	phaseOpen
	phaseDraining
	phaseClosed
)

var phaseNames = [...]string{"fresh", "binding", "open", "draining", "closed"}

func (p phase) String() string { return phaseNames[p] }

// advance is the only place where the phase changes. It holds mu because other goroutines ask whether the session is closed.
func (s *Session) advance(to phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to <= s.phase {
		panic("session: phase " + to.String() + " after " + s.phase.String())
	}
	s.phase = to
	switch to {
	case phaseOpen:
		s.open = true
		// With open, in one step: a goroutine whose Send is accepted can end the session too. Until Connected has run, nobody needs to wake the loop.
		s.wakeup.arrive()
	case phaseClosed:
		s.open = false
	}
}

// isClosed reports whether the session is closed. The caller holds mu or is the loop.
func (s *Session) isClosed() bool { return s.phase == phaseClosed }
