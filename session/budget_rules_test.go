package session_test

import (
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// A pass does not stop when there is just enough room: it goes on until 3/4 of the budget are left, so that the next one is not due
// at once.
func TestBudgetPassGoesOn(t *testing.T) {
	const limit, each, slow = 1 << 20, 32 << 10, 26
	b := budget.New(limit)
	l := newLoop(t, session.Limits{Budget: b})
	hs, _ := slowOnes(l, slow)
	for _, h := range hs {
		mustSend(t, h, strings.Repeat("x", each))
	}
	l.Run()
	l.Advance(budget.StuckAfter)
	l.Run()
	if n := b.Held(); n <= limit*3/4 || n > limit*7/8 {
		t.Fatalf("%d bytes are held before, want between 3/4 and 7/8 of %d", n, limit)
	}
	// One more, of which the kernel takes a byte, lifts it above 7/8.
	more := &testkit.Handler{Quiet: true}
	c := l.Connect(more)
	c.Kernel = 1
	mustSend(t, more, strings.Repeat("x", 3*each))
	l.Run()
	if n := b.Held(); n > limit*3/4 {
		t.Errorf("a pass has left %d bytes, want 3/4 of %d at most", n, limit)
	}
	ended := 0
	for _, h := range hs {
		if h.Err() != nil {
			ended++
		}
	}
	if ended == 0 || ended > slow/2 {
		t.Errorf("%d of %d were ended", ended, slow)
	}
}
