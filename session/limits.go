package session

import (
	"math"
	"sync/atomic"
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
	Name   string // of the listener whose sessions these are; "" for none
	Limits Limits
	*Common

	leastMark int // bytes queued up to which no limit looks at a session

	_        [64]byte // what others read stays out of the cache line of Counters
	Counters Counters
	_        [64]byte
}

// Common is what all parts of an event loop share (see Part). Any goroutine.
type Common struct {
	// Recent is a time of the clock of Transport.Now that somebody keeps up to date, more or less, for Tally.Active: reading the clock
	// for each read and write would cost more. 0 if nobody does; negative if nobody does for now, and the clock is to be read.
	Recent atomic.Int64

	lastEnds atomic.Pointer[ends] // of the session that was bound last

	Times      [Callbacks]histogram.Histogram // how long callbacks take: one in sixteen of each kind
	QueueDelay histogram.Histogram            // how long it takes from Send to the kernel: one in sampledEvery
}

// Part returns a part of the same event loop, with counters of its own: for the sessions of the listener of that name.
func (l *Loop) Part(name string) *Loop {
	return &Loop{Name: name, Limits: l.Limits, Common: l.Common, leastMark: l.leastMark}
}

// NewLoop returns the shared part of one event loop's sessions.
func NewLoop(limits Limits) *Loop {
	l := &Loop{Limits: limits, Common: new(Common), leastMark: math.MaxInt}
	for _, mark := range []int{limits.PauseAbove, limits.SoftLimit, limits.HighWater} {
		if mark > 0 {
			l.leastMark = min(l.leastMark, mark)
		}
	}
	return l
}
