package session

import (
	"math"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/histogram"
)

// Limits bound what one session may hold and how long it may take. A limit of zero or less is off: the engine applies its defaults before.
// Sizes are in bytes.
type Limits struct {
	SendLimit  int  // queued
	PauseAbove int  // queued, above which the session is not read
	EndSlow    bool // a Send over SendLimit ends the session

	SoftLimit int           // queued, above which the session ends
	SoftFor   time.Duration // when it stays there for so long

	HighWater, LowWater int // queued, for OnWritable

	Budget *budget.Budget // of all sessions of an engine together; nil is off

	Idle, FirstByte, HalfClose, Write, Drain, Linger time.Duration
}

// unbounded reports whether an answer can never be refused for want of room, or nothing is done to prevent that.
func (l *Limits) unbounded() bool { return l.SendLimit <= 0 || l.PauseAbove <= 0 }

// answerable returns how many bytes a session that is being read can answer byte for byte without meeting SendLimit.
func (l *Limits) answerable() int {
	if l.unbounded() {
		return math.MaxInt
	}
	return l.SendLimit - l.PauseAbove
}

// Loop is what the sessions of one event loop share.
type Loop struct {
	Limits   Limits
	Counters Counters
	Times    [Callbacks]histogram.Histogram // how long callbacks take: one in sixteen of each kind

	leastMark int // bytes queued up to which no limit looks at a session
}

// NewLoop returns the shared part of one event loop's sessions.
func NewLoop(limits Limits) *Loop {
	l := &Loop{Limits: limits, leastMark: math.MaxInt}
	for _, mark := range []int{limits.PauseAbove, limits.SoftLimit, limits.HighWater} {
		if mark > 0 {
			l.leastMark = min(l.leastMark, mark)
		}
	}
	return l
}
