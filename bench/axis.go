package bench

import (
	"math"
	"strconv"
)

// An axis maps values to positions from 0, its beginning, to 1, its end.
type axis struct {
	title    string
	min, max float64               // as returned by of
	of       func(float64) float64 // identity or a logarithm
	ticks    []tick                // the most important first: a label that would touch an earlier one is left out
}

// A tick without a label is only a line.
type tick struct {
	at    float64 // 0 to 1
	label string
}

// place returns the position of v. A value outside of the axis is at its edge.
func (a *axis) place(v float64) float64 {
	return max(0, min(1, (a.of(v)-a.min)/(a.max-a.min)))
}

func (a *axis) tick(v float64, label string) {
	at := (a.of(v) - a.min) / (a.max - a.min)
	if at > -1e-9 && at < 1+1e-9 {
		a.ticks = append(a.ticks, tick{at, label})
	}
}

func same(v float64) float64 { return v }

// niceStep returns the smallest step of which at most n fill the span: 1, 2 or 5 times a power of ten, or with binary a power of two.
func niceStep(span float64, n int, binary bool) float64 {
	least := span / float64(n)
	if binary && least >= 1 {
		return math.Pow(2, math.Ceil(math.Log2(least)))
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= least*(1-1e-9) {
			return f * power
		}
	}
	return 10 * power
}

// A measure is the quantity of an axis.
type measure struct {
	title  string
	tick   func(float64) string // the text of a tick
	binary bool                 // round numbers are powers of two
	whole  bool                 // there is nothing between 0 and 1
}

// fromZero returns an axis from 0 to a round number not below hi, with about five ticks.
func (m measure) fromZero(hi float64) axis {
	if hi <= 0 {
		hi = 1
	}
	step := niceStep(hi, 5, m.binary)
	if m.whole {
		step = max(1, step)
	}
	last := math.Ceil(hi/step - 1e-9)
	a := axis{title: m.title, max: last * step, of: same}
	for i := 0.0; i <= last; i++ {
		a.tick(i*step, m.tick(i*step))
	}
	return a
}

// through returns an axis that ends exactly at the last value, for time.
func (m measure) through(lo, hi float64) axis {
	if hi <= lo {
		hi = lo + 1
	}
	a := axis{title: m.title, min: lo, max: hi, of: same}
	step := niceStep(hi-lo, 6, false)
	for v := math.Ceil(lo/step-1e-9) * step; v <= hi+step*1e-9; v += step {
		a.tick(v, m.tick(v))
	}
	return a
}

// logarithmic returns a logarithmic axis from a round number not above lo to one not below hi.
func (m measure) logarithmic(lo, hi float64) axis {
	first, last := math.Inf(1), math.Inf(-1)
	var marks []float64
	for decade := math.Floor(math.Log10(lo)); decade <= math.Ceil(math.Log10(hi)); decade++ {
		for _, f := range []float64{1, 2, 5} {
			marks = append(marks, f*math.Pow(10, decade))
		}
	}
	for _, v := range marks {
		if v <= lo*(1+1e-9) {
			first = v
		}
		if v >= hi*(1-1e-9) && last < 0 {
			last = v
		}
	}
	if last <= first {
		last = 10 * first
	}
	a := axis{title: m.title, min: math.Log10(first), max: math.Log10(last), of: func(v float64) float64 { return math.Log10(max(v, first)) }}
	fine := last/first <= 200 // room for a label at 2 and 5 as well
	for _, whole := range []bool{true, false} {
		for i, v := range marks {
			if (i%3 == 0) != whole || v < first || v > last {
				continue
			}
			label := ""
			if whole || fine || v == first || v == last {
				label = m.tick(v)
			}
			a.tick(v, label)
		}
	}
	return a
}

// logFrom is the ratio of the largest to the smallest value from which an axis is logarithmic. Below it, small differences are easier to
// see on a linear axis that begins at 0.
const logFrom = 20

// fitting returns the axis for values from lo, the smallest value above 0, to hi.
func (m measure) fitting(lo, hi float64) axis {
	if lo > 0 && hi/lo >= logFrom {
		m.title += ", log scale"
		return m.logarithmic(lo, hi)
	}
	return m.fromZero(hi)
}

// percentiles returns the axis of a percentile curve: each next power of ten has the same length. The largest of count values is at its
// end.
func percentiles(count uint64) axis {
	a := axis{title: "percentile of the values", max: max(1, math.Log10(float64(count))), of: rarity}
	a.tick(50, "50"+space+"%")
	for nines, text := 1, "90"; float64(nines) <= a.max+1e-9; nines++ {
		a.ticks = append(a.ticks, tick{float64(nines) / a.max, text + space + "%"})
		switch nines {
		case 1:
			text = "99"
		case 2:
			text = "99.9"
		default:
			text += "9"
		}
	}
	a.tick(0, "0"+space+"%")
	return a
}

// rarity returns the number of nines of a percentile: 1 for 90 %, 2 for 99 %.
func rarity(percent float64) float64 {
	rest := 1 - percent/100
	if rest <= 1e-12 {
		return 12
	}
	return -math.Log10(rest)
}

func coordinate(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
