package session

import "testing"

// The transitions of wakeup are those of its table, and a request wakes the loop only from idle (I4).
func TestWakeupFollowsItsTable(t *testing.T) {
	for _, tt := range []struct {
		method string
		from   uint32
		to     uint32
		wakes  bool
	}{
		{"request", wakeupUnbound, wakeupUnbound, false},
		{"request", wakeupIdle, wakeupRequested, true},
		{"request", wakeupRequested, wakeupRequested, false},
		{"request", wakeupWorking, wakeupWorking, false},
		{"arrive", wakeupUnbound, wakeupWorking, false},
		{"arrive", wakeupRequested, wakeupWorking, false},
		{"arrive", wakeupWorking, wakeupWorking, false},
		{"hold", wakeupUnbound, wakeupUnbound, false},
		{"hold", wakeupIdle, wakeupWorking, false},
		{"hold", wakeupRequested, wakeupRequested, false},
		{"hold", wakeupWorking, wakeupWorking, false},
		{"release", wakeupUnbound, wakeupUnbound, false},
		{"release", wakeupIdle, wakeupIdle, false},
		{"release", wakeupRequested, wakeupRequested, false},
		{"release", wakeupWorking, wakeupIdle, false},
	} {
		var w wakeup
		w.state.Store(tt.from)
		wakes := false
		switch tt.method {
		case "request":
			wakes = w.request()
		case "arrive":
			w.arrive()
		case "hold":
			w.hold()
		case "release":
			w.release()
		}
		if to := w.state.Load(); to != tt.to || wakes != tt.wakes {
			t.Errorf("%s in state %d: state %d, wakes %t, want %d and %t", tt.method, tt.from, to, wakes, tt.to, tt.wakes)
		}
		if w.isBound() != (tt.to != wakeupUnbound) {
			t.Errorf("state %d: bound %t", tt.to, w.isBound())
		}
		if w.isIdle() != (tt.to == wakeupIdle) {
			t.Errorf("state %d: idle %t", tt.to, w.isIdle())
		}
	}
}
