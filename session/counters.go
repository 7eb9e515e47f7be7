package session

import (
	"errors"
	"sync/atomic"
)

// Cause groups the reasons sessions end for.
type Cause uint8

// The causes, in the order in which a reason is matched against them.
const (
	CausePanic Cause = iota
	CauseDrainTimeout
	CauseWriteStall
	CauseSendBudget
	CauseSendLimit
	CauseRecvRate
	CauseIdle
	CauseShutdown
	CauseAborted
	CauseDisconnected
	CausePeerReset
	CausePeerClosed
	CauseOther // a reason given to DisconnectWith
	Causes     // how many there are
)

var causeNames = [Causes]string{
	"Panic", "DrainTimeout", "WriteStall", "SendBudget", "SendLimit", "RecvRate", "Idle", "Shutdown", "Aborted", "Disconnected", "PeerReset", "PeerClosed",
	"Other",
}

// String returns the name of the cause, as engine.Ended has it.
func (c Cause) String() string { return causeNames[c] }

// CauseOf returns the first cause that the reason matches, as Ended counts it.
func CauseOf(reason error) Cause { return causeOf(reason) }

var causeErrors = [CauseOther]error{
	ErrPanic, ErrDrainTimeout, ErrWriteStall, ErrSendBudget, ErrSendLimit, ErrRecvRate, ErrIdle, ErrShutdown, ErrAborted, ErrDisconnected,
	ErrPeerReset, ErrPeerClosed,
}

// causeOf returns the first cause whose error the reason matches.
func causeOf(reason error) Cause {
	for c, err := range causeErrors {
		if errors.Is(reason, err) {
			return Cause(c)
		}
	}
	return CauseOther
}

// Counter counts. Any goroutine.
type Counter struct{ v atomic.Uint64 }

// Add adds n. On amd64 that costs what a Store would.
func (c *Counter) Add(n int) { c.v.Add(uint64(n)) }

// Load returns the count.
func (c *Counter) Load() uint64 { return c.v.Load() }

// Counters are sums over the sessions of one loop, since it was made. Any goroutine.
//
// At any quiet moment, the bytes accepted by Send are BytesOut + BytesDropped + the sum of Pending. With a framer that does not hold: BytesOut
// then counts what travels, BytesDropped and Pending count payload.
type Counters struct {
	BytesIn, BytesOut       Counter
	BytesDropped            Counter // accepted by Send, and kept from leaving by the end of their session
	BytesUnacked            Counter // of BytesOut, those that the peer had not acknowledged when we reset the connection
	MessagesIn, MessagesOut Counter // calls of OnRecv and OnText; Sends accepted
	Writes, WouldBlock      Counter // gathered writes that took bytes; those that found the kernel full
	Pauses                  Counter // times reading was stopped, by hand or by PauseAbove
	Ended                   [Causes]Counter
}
