package engine

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func policy(t *testing.T, p Policy) *Policy {
	t.Helper()
	p, err := p.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// The delays grow from BaseDelay to MaxDelay and stay there.
func TestDelays(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		p    Policy
		want []time.Duration
	}{
		"defaults": {Policy{}, []time.Duration{1000 * ms, 1600 * ms, 2560 * ms, 4096 * ms, 6553600 * time.Microsecond}},
		"bounded":  {Policy{BaseDelay: 10 * ms, Multiplier: 3, MaxDelay: 50 * ms}, []time.Duration{10 * ms, 30 * ms, 50 * ms, 50 * ms}},
		"constant": {Policy{BaseDelay: 10 * ms, Multiplier: 1}, []time.Duration{10 * ms, 10 * ms, 10 * ms}},
		"long":     {Policy{BaseDelay: time.Hour}, []time.Duration{time.Hour, time.Hour}},
		"for ever": {Policy{BaseDelay: math.MaxInt64}, []time.Duration{maxTimeout, maxTimeout}},
		"steep":    {Policy{Multiplier: math.Inf(1), MaxDelay: math.MaxInt64}, []time.Duration{1000 * ms, maxTimeout}},
	} {
		p := policy(t, tt.p)
		for n, want := range tt.want {
			if got := p.delay(n); got.Round(time.Microsecond) != want {
				t.Errorf("%s: after %d delays comes %v, want %v", name, n, got, want)
			}
		}
		if got := p.delay(1 << 40); got != p.MaxDelay && p.Multiplier > 1 {
			t.Errorf("%s: in the end comes %v, want %v", name, got, p.MaxDelay)
		}
	}
}

// Jitter disperses those who lost their server at once, within its bounds.
func TestDelaysDisperse(t *testing.T) {
	p := policy(t, Policy{})
	r := rand.New(rand.NewPCG(1, 2))
	low, high := time.Hour, time.Duration(0)
	for range 10_000 {
		d := p.randomize(p.delay(0), r.Float64())
		low, high = min(low, d), max(high, d)
	}
	if low < 800*time.Millisecond || low > 810*time.Millisecond || high > 1200*time.Millisecond || high < 1190*time.Millisecond {
		t.Errorf("the first delays go from %v to %v, want 0.8 s to 1.2 s", low, high)
	}
	off := policy(t, Policy{Jitter: -1})
	if d := p.randomize(maxTimeout, 0.99); d <= maxTimeout {
		t.Errorf("the longest delay becomes %v", d)
	}
	if d := off.randomize(time.Second, 0.99); d != time.Second {
		t.Errorf("without jitter: %v", d)
	}
}

// A session that lasted lets the delays begin anew; one that did not, did not.
func TestDelaysBeginAnew(t *testing.T) {
	p := policy(t, Policy{})
	for _, tt := range []struct {
		delays int
		lasted time.Duration
		want   int
	}{{0, 0, 0}, {1, 0, 1}, {1, 1500 * time.Millisecond, 1}, {1, 1700 * time.Millisecond, 0}, {50, 119 * time.Second, 50}, {50, 120 * time.Second, 0}} {
		if got := p.after(tt.delays, tt.lasted); got != tt.want {
			t.Errorf("%d delays and a session of %v: %d, want %d", tt.delays, tt.lasted, got, tt.want)
		}
	}
}

// A delay ends with the policy's context.
func TestDelayIsInterrupted(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	l := &link{engine: e, origin: &origin{policy: policy(t, Policy{Context: ctx})}}
	rested := make(chan bool, 1)
	go func() { rested <- l.rest(time.Hour) }()
	cancel()
	if receive(t, rested) {
		t.Error("it goes on")
	}
}
