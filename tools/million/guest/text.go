package main

import (
	"bufio"
	"cmp"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// parseStat reads utime and stime of /proc/PID/stat, in seconds (proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms).
func parseStat(stat string) (user, system float64) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, 0
	}
	return number(fields[11]) / 100, number(fields[12]) / 100
}

// number returns the number that s is, 0 if it is none.
func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return f
}

// kilobytes reads lines "Name:  12 kB", of /proc/meminfo and /proc/PID/status. The values are bytes.
func kilobytes(text string) map[string]uint64 {
	values := make(map[string]uint64)
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		if fields := strings.Fields(rest); ok && len(fields) == 2 && fields[1] == "kB" {
			values[name] = uint64(number(fields[0])) << 10
		}
	}
	return values
}

// parseSockstat reads the line of TCP in /proc/net/sockstat: sockets in use, in TIME_WAIT, and pages of what waits in them.
func parseSockstat(text string) (inUse, timeWait, pages int) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			n := int(number(fields[i+1]))
			switch fields[i] {
			case "inuse":
				inUse = n
			case "tw":
				timeWait = n
			case "mem":
				pages = n
			}
		}
	}
	return inUse, timeWait, pages
}

// parseSlabinfo reads /proc/slabinfo (slabinfo(5)): name, active objects, objects, size, objects per slab, pages per slab, : tunables, :
// slabdata, active slabs, slabs. The largest caches come first, most of them.
func parseSlabinfo(text string, most int, page uint64) []figures.Slab {
	var list []figures.Slab
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 16 || f[0] == "#" {
			continue
		}
		s := figures.Slab{Name: f[0], Objects: uint64(number(f[1])), Size: uint64(number(f[3]))}
		s.Bytes = uint64(number(f[14])) * uint64(number(f[5])) * page
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b figures.Slab) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return list[:min(len(list), most)]
}

// metrics are sums over the labels of Prometheus' text format, and the loops' lag.
type metrics struct {
	sum map[string]float64
	lag figures.Lag
}

const lagBucket = "servercore_loop_lag_seconds_bucket"

func parseMetrics(in io.Reader) (metrics, error) {
	m := metrics{sum: make(map[string]float64)}
	upTo := make(map[float64]uint64) // cumulative, as the format has it
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || line[0] == '#' {
			continue
		}
		name, labels, _ := strings.Cut(line[:space], "{")
		value := number(line[space+1:])
		m.sum[name] += value
		if _, le, ok := strings.Cut(labels, `le="`); ok && name == lagBucket {
			le, _, _ = strings.Cut(le, `"`)
			bound := math.Inf(1)
			if le != "+Inf" {
				bound = number(le)
			}
			upTo[bound] += uint64(value)
		}
	}
	bounds := make([]float64, 0, len(upTo))
	for b := range upTo {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	before := uint64(0)
	for _, b := range bounds {
		m.lag.Counts = append(m.lag.Counts, upTo[b]-before)
		before = upTo[b]
		if !math.IsInf(b, 1) {
			m.lag.Bounds = append(m.lag.Bounds, b)
		}
	}
	return m, lines.Err()
}

// parseTrace adds up the lines of GODEBUG=gctrace=1 (package runtime, Environment Variables):
//
//	gc 7 @1.2s 0%: 0.01+2.3+0.02 ms clock, 0.02+0.1/2.0/0+0.04 ms cpu, 8->8->5 MB, 9 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)
//
// The first and the third time of the clock are stops of the whole program. Those of the CPU are a stop, assists, background, idle, a stop;
// what idle threads do costs nobody anything, but it is work, so it counts.
func parseTrace(text string) (gc figures.GC) {
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, "%: ")
		clock, rest, ok2 := strings.Cut(rest, " ms clock, ")
		cpu, rest, ok3 := strings.Cut(rest, " ms cpu, ")
		heap, rest, ok4 := strings.Cut(rest, " MB, ")
		if !strings.HasPrefix(line, "gc ") || !ok || !ok2 || !ok3 || !ok4 {
			continue
		}
		times := strings.Split(clock, "+")
		if len(times) != 3 {
			continue
		}
		c := figures.Cycle{Pause: (number(times[0]) + number(times[2])) / 1e3}
		for _, t := range times {
			c.Wall += number(t) / 1e3
		}
		for _, t := range strings.FieldsFunc(cpu, func(r rune) bool { return r == '+' || r == '/' }) {
			c.CPU += number(t) / 1e3
		}
		c.Live = number(heap[strings.LastIndexByte(heap, '>')+1:])
		gc.Cycles++
		gc.CPU += c.CPU
		gc.MaxPause = max(gc.MaxPause, c.Pause)
		if strings.Contains(rest, "(forced)") {
			gc.Forced = c
		}
	}
	return gc
}
