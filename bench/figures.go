package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// How the page writes numbers: three significant digits and a unit that fits, kept on one line by a no-break space. The
// table for terminals (report.go) keeps to ASCII and to columns, so it has formats of its own.

const space = "\u00a0"

// round3 rounds to three significant digits.
func round3(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
	if unit < 1 { // dividing by a whole number is exact where multiplying by a fraction is not
		return math.Round(v/unit) / math.Round(1/unit)
	}
	return math.Round(v/unit) * unit
}

// digits writes v, which is below 1000, with three significant digits.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a < 1e-3:
		return "<0.001"
	case a < 1:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case a < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}

// trimmed is digits without closing zeros, for the ticks of an axis.
func trimmed(v float64) string {
	s := digits(v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// A unit is a name and how many of the smallest it stands for.
type unit struct {
	name string
	size float64
}

var (
	timeUnits  = []unit{{"s", 1e6}, {"ms", 1e3}, {"µs", 1}, {"ns", 1e-3}} // of microseconds
	countUnits = []unit{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1}}
	byteUnits  = []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
	flowUnits  = []unit{{"GB/s", 1e9}, {"MB/s", 1e6}, {"kB/s", 1e3}, {"B/s", 1}}
)

// scaled writes v in the largest unit of which it holds one at least.
func scaled(v float64, units []unit, write func(float64) string) (number, name string) {
	u := units[len(units)-1]
	for _, candidate := range units {
		if math.Abs(round3(v)) >= candidate.size {
			u = candidate
			break
		}
	}
	if v == 0 {
		return "0", ""
	}
	return write(round3(v / u.size)), u.name
}

func joined(number, unit string) string {
	if unit == "" {
		return number
	}
	return number + space + unit
}

// The texts of figures: 850 µs, 35.6 ms, 1.02 s; 90.6 k; 12.3 MiB.
func timeText(us float64) string { return joined(scaled(us, timeUnits, digits)) }
func byteText(n float64) string  { return joined(scaled(n, byteUnits, digits)) }
func flowText(n float64) string  { return joined(scaled(n, flowUnits, digits)) }

func countText(n float64) string { return joined(countParts(n)) }

// countParts writes small whole numbers as they are.
func countParts(n float64) (number, unit string) {
	if n == math.Trunc(n) && math.Abs(n) < 1000 {
		return strconv.FormatFloat(n, 'f', 0, 64), ""
	}
	return scaled(n, countUnits, digits)
}

// rateText is a count per second: 850/s, 90.6 k/s.
func rateText(n float64) string { return countText(n) + "/s" }

func percentText(p float64) string {
	if p >= 100 {
		return fmt.Sprintf("%.0f%s%%", p, space)
	}
	return trimmed(round3(p)) + space + "%"
}

// The same for ticks, which are round numbers: no closing zeros.
func timeTick(us float64) string  { return joined(scaled(us, timeUnits, trimmed)) }
func byteTick(n float64) string   { return joined(scaled(n, byteUnits, trimmed)) }
func countTick(n float64) string  { return joined(scaled(n, countUnits, trimmed)) }
func secondTick(s float64) string { return trimmed(s) }

// grouped writes a whole number in full: 1,234,567.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// round6 rounds to six decimals: further digits are noise.
func round6(v float64) float64 { return math.Round(v*1e6) / 1e6 }
