package engine

import (
	"math"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/session"
)

func TestRateDefaults(t *testing.T) {
	r, err := Rate{BytesPerSecond: 100, PacketsPerSecond: 5, BurstPackets: 9}.withDefaults()
	if err != nil || r.BurstBytes != 100 || r.BurstPackets != 9 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, r := range []Rate{
		{}, {End: true}, {BytesPerSecond: -1}, {PacketsPerSecond: math.MaxInt}, {BytesPerSecond: 1, BurstBytes: -1},
		{PacketsPerSecond: 1, BurstPackets: session.MaxRate + 1},
		{BytesPerSecond: 1, BurstPackets: 2}, {PacketsPerSecond: 1, BurstBytes: 2},
	} {
		if _, err := newOrigin("tcp", nil, []Option{RecvRate(r)}); err == nil || !strings.Contains(err.Error(), "Rate.") {
			t.Errorf("%+v: %v, want an error that names the field", r, err)
		}
	}
}

func TestSlowPeerOptions(t *testing.T) {
	for _, test := range []struct {
		options Options
		field   string
	}{
		{Options{SoftLimit: 1 << 20}, "SoftLimit"},
		{Options{HighWater: 1 << 20}, "HighWater"},
		{Options{HighWater: 1000, LowWater: 1001}, "LowWater"},
		{Options{LowWater: -1}, "LowWater"},
		{Options{SendBudget: 1<<20 - 1}, "SendBudget"},
	} {
		if _, err := test.options.withDefaults(); err == nil || !strings.Contains(err.Error(), "Options."+test.field+" ") {
			t.Errorf("%+v: %v, want an error that names %s", test.options, err, test.field)
		}
	}
	for _, test := range []struct {
		options   Options
		high, low int
	}{
		{Options{}, 256 << 10, 128 << 10},
		{Options{PauseAbove: 1000}, 1000, 500},
		{Options{PauseAbove: -1}, 256 << 10, 128 << 10},
		{Options{PauseAbove: -1, SendLimit: 100}, 25, 12},
		{Options{PauseAbove: -1, SendLimit: 1}, -1, 1},
		{Options{HighWater: 1}, 1, 1},
	} {
		o, err := test.options.withDefaults()
		if err != nil || o.HighWater != test.high || o.LowWater != test.low {
			t.Errorf("%+v: marks %d and %d, %v, want %d and %d", test.options, o.HighWater, o.LowWater, err, test.high, test.low)
		}
	}
}
