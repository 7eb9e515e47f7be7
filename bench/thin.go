package bench

import "fmt"

// pointsDrawn is the largest number of points of a series that a page shows. More could not be distinguished.
const pointsDrawn = 240

// thin shortens a series for a drawing, and returns a text that says what its points stand for. Rates are those of the longer intervals.
// Of latencies the highest is kept, because percentiles cannot be combined.
func thin(series []Point) (list []Point, note string) {
	group := (len(series) + pointsDrawn - 1) / pointsDrawn
	if group < 2 {
		return series, ""
	}
	for from := 0; from < len(series); from += group {
		list = append(list, together(series[from:min(from+group, len(series))]))
	}
	return list, fmt.Sprintf("Each point stands for %s; latencies are the highest of %d intervals.", timeTick(1e6*list[0].Length), group)
}

// together combines consecutive points into one.
func together(part []Point) Point {
	sum := Point{At: part[0].At, Conns: part[len(part)-1].Conns}
	var cpu, cpuLength float64
	for i := range part {
		p := &part[i]
		sum.Length += p.Length
		sum.Messages += p.Messages * p.Length
		sum.Bytes += p.Bytes * p.Length
		sum.Opened += p.Opened * p.Length
		sum.Errors += p.Errors
		sum.P50, sum.P99, sum.Max = max(sum.P50, p.P50), max(sum.P99, p.P99), max(sum.Max, p.Max)
		if p.ServerCPU != nil {
			cpu, cpuLength = cpu+*p.ServerCPU*p.Length, cpuLength+p.Length
		}
		if p.ServerRSS != nil && (sum.ServerRSS == nil || *sum.ServerRSS < *p.ServerRSS) {
			sum.ServerRSS = p.ServerRSS
		}
	}
	if sum.Length > 0 {
		sum.Messages, sum.Bytes, sum.Opened = sum.Messages/sum.Length, sum.Bytes/sum.Length, sum.Opened/sum.Length
	}
	if cpuLength > 0 {
		cpu /= cpuLength
		sum.ServerCPU = &cpu
	}
	return sum
}
