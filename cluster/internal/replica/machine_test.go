package replica

import (
	"slices"
	"testing"
	"time"
)

// granted reports whether the claim of a ticket was granted by now.
func granted(m *Machine, ticket uint64) bool {
	return slices.ContainsFunc(m.Events(), func(e Event) bool { return e.What == Granted && e.Ticket == ticket })
}

// R5: that all have acknowledged a claim is not enough while the log of one of them, as it was when it was first heard, is not known: it may
// have a higher claim that was granted before.
func TestR5LogsAreKnownBeforeAGrant(t *testing.T) {
	m := New(Config{ID: 2, Heartbeat: time.Second, FailAfter: 6 * time.Second, PartSize: 1000}, 0)
	m.Receive(&Message{Kind: Heartbeat, From: 1, Version: 1, Clock: 1 << 50}, 1)
	ticket := m.Claim("k", 1, 2)
	m.Messages()
	m.Receive(&Message{Kind: Ack, From: 1, To: 2, Version: 1}, 3)
	if granted(m, ticket) {
		t.Error("it was granted before the other log was known")
	}
	m.Receive(&Message{Kind: Delta, From: 1, Version: 1, Changes: []Change{{Op: PutClaim, Name: "another", ID: 1 << 49}}}, 4)
	if !granted(m, ticket) {
		t.Error("it was not granted when all was known")
	}
}

// A node that was stopped may have been taken for down: an acknowledgement from before that, which it reads afterwards, grants nothing until it
// has settled anew.
func TestAStopIsNoticed(t *testing.T) {
	const fail = 6 * time.Second
	m := New(Config{ID: 2, Heartbeat: time.Second, FailAfter: fail, Settle: time.Second, PartSize: 1000}, 0)
	m.Tick(2 * time.Second) // it has settled
	m.Receive(&Message{Kind: Heartbeat, From: 1}, 2*time.Second)
	ticket := m.Claim("k", 1, 2*time.Second)
	m.Messages()
	stopped := 2*time.Second + 2*fail
	m.Receive(&Message{Kind: Ack, From: 1, To: 2, Version: 1}, stopped)
	if granted(m, ticket) {
		t.Error("it was granted at once after the stop")
	}
	m.Tick(stopped + time.Second/2)
	if granted(m, ticket) {
		t.Error("it was granted before the node had settled")
	}
	m.Receive(&Message{Kind: Heartbeat, From: 1, Acks: []Applied{{2, 1}}}, stopped+time.Second)
	m.Tick(stopped + time.Second)
	if !granted(m, ticket) {
		t.Error("it was not granted when the node had settled")
	}
}
