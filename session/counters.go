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

var causeErrors = [CauseOther]error{
	ErrPanic, ErrDrainTimeout, ErrWriteStall, ErrSendBudget, ErrSendLimit, ErrRecvRate, ErrIdle, ErrShutdown, ErrAborted, ErrDisconnected,
	ErrPeerReset, ErrPeerClosed,
}

func causeOf(reason error) Cause {
	for c, err := range causeErrors {
		if errors.Is(reason, err) {
			return Cause(c)
		}
	}
	return CauseOther
}

// Counter counts, for any goroutine.
type Counter struct{ v atomic.Uint64 }

// Add adds n. On amd64 that costs what a Store would.
func (c *Counter) Add(n int) { c.v.Add(uint64(n)) }

// Load returns the count.
func (c *Counter) Load() uint64 { return c.v.Load() }

// Counters are the sums over the sessions of one loop. BytesDropped are bytes that Send accepted and that the
// end of their session kept from leaving, so that at any quiet moment
// accepted = BytesOut + BytesDropped + the sum of Pending. Not so with a framer: BytesOut counts what travels, BytesDropped and
// Pending payloads.
type Counters struct {
	BytesIn, BytesOut, BytesDropped Counter
	BytesUnacked                    Counter // of BytesOut, those that the peer had not acknowledged when we reset the connection
	MessagesIn, MessagesOut         Counter // OnRecv calls; Sends accepted
	Writes, WouldBlock              Counter // gathered writes that took bytes; those that found the kernel full
	Pauses                          Counter // times reading was stopped, by hand or by PauseAbove
	Ended                           [Causes]Counter
}
