package session_test

import (
	"testing"

	"github.com/servercore-go/servercore/session"
)

// A callback is shown while it runs, with its session. The first of sixteen of each kind is timed.
func TestOneCallbackInSixteenIsTimed(t *testing.T) {
	w := session.NewScratch()
	first, second := new(session.Session), new(session.Session)
	timed := make(map[session.Callback]int)
	for i := range 33 {
		s := first
		if i%2 == 1 {
			s = second
		}
		for _, c := range []session.Callback{session.CallRecv, session.CallSend} {
			if w.Enter(c, s) {
				timed[c]++
			}
			r := w.Running()
			if r.Callback != c || r.Call == 0 || w.Whose(r) != s {
				t.Fatalf("call %d: %+v runs, of the right session %t, want %v", i, r, w.Whose(r) == s, c)
			}
			w.Leave()
			if r := w.Running(); r != (session.Running{}) {
				t.Fatalf("call %d: %+v runs when it is over", i, r)
			}
			if w.Whose(r) != nil {
				t.Fatalf("call %d: it has a session when it is over", i)
			}
		}
	}
	if timed[session.CallRecv] != 3 || timed[session.CallSend] != 3 {
		t.Errorf("%v of 33 each are timed, want 3", timed)
	}
	w.Watched(false)
	if w.Enter(session.CallRecv, first) || w.Running() != (session.Running{}) {
		t.Error("callbacks are shown or timed though nobody observes")
	}
}
