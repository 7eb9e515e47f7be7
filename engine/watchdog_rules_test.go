package engine

import (
	"testing"

	"github.com/servercore-go/servercore/session"
)

// A watchdog that is late by less than the time between two looks is as tickers are: nothing is taken off for that.
func TestWatchdogThatIsALittleLate(t *testing.T) {
	d := newDog(t, 1)
	d.enter(0, session.CallRecv)
	d.looks(1)
	for i, stalls := range []uint64{0, 0, 1} { // after 1.9, 3.8 and 5.7 times the time between two looks, of which four make a stall
		d.now += looksEvery * 19 / 10
		d.tick(d.now)
		if n := d.loops[0].loop.stats().Stalls; n != stalls {
			t.Errorf("look %d: %d stalls, want %d", i+1, n, stalls)
		}
	}
}
