//go:build linux

package main

import (
	"math"
	"slices"
)

// A spread is a list of figures of one kind.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"` // 0: there is no figure
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1], N: n}
}

// A figure is a value that is taken from a sample.
type figure struct {
	name   string
	of     func(sample) float64
	larger bool // the larger the better
}

var (
	cpu  = figure{name: "CPU", of: func(s sample) float64 { return s.CPU }}
	rate = figure{name: "rate", of: func(s sample) float64 { return s.PerS }, larger: true}
	p50  = figure{name: "p50", of: func(s sample) float64 { return s.P50 }}
	p99  = figure{name: "p99", of: func(s sample) float64 { return s.P99 }}
	p999 = figure{name: "p99.9", of: func(s sample) float64 { return s.P999 }}
	rss  = figure{name: "memory", of: func(s sample) float64 { return s.RSSPerConn }}
)

// good returns the samples that have figures.
func (s *series) good() []sample {
	return slices.DeleteFunc(slices.Clone(s.Samples), func(s sample) bool { return s.Failure != "" })
}

func (s *series) spread(f figure) spread {
	var values []float64
	for _, one := range s.good() {
		values = append(values, f.of(one))
	}
	return spreadOf(values)
}

// ratios divides the figures of s by those of base, round by round. The speed of the machine changes from minute to minute, but little
// within a round. A ratio of two medians would mix the rounds.
func (s *series) ratios(base *series, f figure) spread {
	in := map[int]float64{}
	for _, b := range base.good() {
		in[b.Round] = f.of(b)
	}
	var values []float64
	for _, a := range s.good() {
		if b, ok := in[a.Round]; ok && b != 0 && !math.IsNaN(b) {
			values = append(values, f.of(a)/b)
		}
	}
	return spreadOf(values)
}

// find returns the series of a server, or nil if it has no figures.
func (o *outcome) find(name string) *series {
	for i := range o.Series {
		if o.Series[i].Server == name && len(o.Series[i].good()) > 0 {
			return &o.Series[i]
		}
	}
	return nil
}

// base returns plain gnet in the mode that is better in f, or nil if neither was measured.
func (o *outcome) base(f figure) *series {
	a, b := o.find(gnet), o.find(gnetReuse)
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	if x, y := a.spread(f).Median, b.spread(f).Median; y != x && (y > x) == f.larger {
		return b
	}
	return a
}

// noise returns the ratio of the A/A pair: of a program to itself.
func (o *outcome) noise(f figure) spread {
	a, b := o.find(ours), o.find(oursAgain)
	if a == nil || b == nil {
		return spread{}
	}
	return b.ratios(a, f)
}

// clear reports whether a ratio is a difference and not noise: every round is on the same side of 1, and the median is farther from 1
// than that of the A/A pair.
func clear(ratio, noise spread) bool {
	if ratio.N < 2 || ratio.Min <= 1 && ratio.Max >= 1 {
		return false
	}
	return noise.N == 0 || distance(ratio.Median) > distance(noise.Median)
}

// distance returns how far a ratio is from 1. 2 and 1/2 are equally far.
func distance(ratio float64) float64 {
	if ratio <= 0 {
		return math.Inf(1)
	}
	return math.Abs(math.Log(ratio))
}
