//go:build linux

package main

import (
	"math"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7, 1}},
		{[]float64{9, 1, 2}, spread{2, 1, 9, 3}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9, 4}},
	} {
		if got := spreadOf(tt.values); got != tt.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

// made returns a series with these figures of CPU time in rounds 1, 2, ...; a negative one stands for a failure.
func made(name string, values ...float64) series {
	s := series{Server: name}
	for i, v := range values {
		one := sample{Round: i + 1, CPU: v, PerS: 1e6 / v, P999: 10 * v}
		if v < 0 {
			one = sample{Round: i + 1, Failure: "it failed"}
		}
		s.Samples = append(s.Samples, one)
	}
	return s
}

// Ratios do not change if the machine becomes ten times as slow in every round. Medians would: after a failure they are of different
// rounds.
func TestRatiosArePaired(t *testing.T) {
	a, b := made("a", 2, -1, 220, 1800), made("b", 1, 10, 100, 1000)
	got := a.ratios(&b, cpu)
	if want := (spread{2, 1.8, 2.2, 3}); math.Abs(got.Median-want.Median) > 1e-9 || got.N != want.N || got.Min != want.Min || got.Max != want.Max {
		t.Errorf("got %v, want %v", got, want)
	}
	none := made("none", -1, -1)
	if got := a.ratios(&none, cpu); got.N != 0 {
		t.Errorf("against failures: %v", got)
	}
}

// Which of gnet's modes is better depends on the figure, and for a rate more is better.
func TestBaseIsTheBetterMode(t *testing.T) {
	o := outcome{Series: []series{made(gnet, 3, 3, 3), made(gnetReuse, 2, 2, 9)}}
	o.Series[1].Samples[0].P999, o.Series[1].Samples[1].P999 = 500, 500
	for _, tt := range []struct {
		f    figure
		want string
	}{{cpu, gnetReuse}, {rate, gnetReuse}, {p999, gnet}} {
		if got := o.base(tt.f).Server; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.f.name, got, tt.want)
		}
	}
	o.Series[1] = made(gnetReuse, -1)
	if got := o.base(cpu).Server; got != gnet {
		t.Errorf("with one mode failed: %s", got)
	}
	if o.Series = nil; o.base(cpu) != nil {
		t.Error("without gnet there is no base")
	}
}

func TestClear(t *testing.T) {
	for _, tt := range []struct {
		name         string
		ratio, noise spread
		want         bool
	}{
		{"all rounds agree, no A/A pair", spread{0.9, 0.85, 0.95, 5}, spread{}, true},
		{"the rounds disagree", spread{0.9, 0.85, 1.01, 5}, spread{}, false},
		{"one round", spread{0.5, 0.5, 0.5, 1}, spread{}, false},
		{"more than the noise", spread{0.9, 0.85, 0.95, 5}, spread{1.05, 0.9, 1.2, 5}, true},
		{"less than the noise", spread{0.97, 0.95, 0.99, 5}, spread{1.05, 0.9, 1.2, 5}, false},
		{"as far the other way", spread{1.05, 1.01, 1.2, 5}, spread{0.5, 0.4, 0.6, 5}, false},
	} {
		if got := clear(tt.ratio, tt.noise); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
