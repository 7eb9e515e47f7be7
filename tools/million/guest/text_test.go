package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/tools/million/figures"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestParseStat(t *testing.T) {
	const stat = "51 (a) b) S 1 51 51 0 -1 4194560 2050 0 0 0 1234 66 0 0 20 0 8 0 300 1290000000 4000 18446744073709551615"
	if user, system := parseStat(stat); !near(user, 12.34) || !near(system, 0.66) {
		t.Errorf("%v and %v s, want 12.34 and 0.66", user, system)
	}
	if user, system := parseStat("51 (gone"); user != 0 || system != 0 {
		t.Errorf("%v and %v s of a line that was cut", user, system)
	}
}

func TestKilobytes(t *testing.T) {
	m := kilobytes("MemTotal:  2048 kB\nHugePages_Total:   7\nSlab:\t12 kB\n")
	if len(m) != 2 || m["MemTotal"] != 2<<20 || m["Slab"] != 12<<10 {
		t.Errorf("%v", m)
	}
}

func TestParseSockstat(t *testing.T) {
	const stat = "sockets: used 90\nTCP: inuse 7 orphan 1 tw 3 alloc 9 mem 5\nUDP: inuse 1 mem 2\n"
	if inUse, tw, mem := parseSockstat(stat); inUse != 7 || tw != 3 || mem != 5 {
		t.Errorf("%d in use, %d in TIME_WAIT, %d pages", inUse, tw, mem)
	}
}

func TestParseSlabinfo(t *testing.T) {
	const info = `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
filp                 900    960    256   16    1 : tunables    0    0    0 : slabdata     60     60      0
TCP                   20     26   2432   13    8 : tunables    0    0    0 : slabdata      2      2      0
dentry               100    105    192   21    1 : tunables    0    0    0 : slabdata      5      5      0
`
	want := []figures.Slab{{Name: "filp", Objects: 900, Size: 256, Bytes: 60 * 4096}, {Name: "TCP", Objects: 20, Size: 2432, Bytes: 2 * 8 * 4096}}
	if got := parseSlabinfo(info, 2, 4096); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseMetrics(t *testing.T) {
	const text = `# HELP servercore_sessions Connections
servercore_sessions 1000
servercore_loop_received_messages_total{loop="0"} 400
servercore_loop_received_messages_total{loop="1"} 6e2
servercore_loop_lag_seconds_bucket{loop="0",le="0.001"} 10
servercore_loop_lag_seconds_bucket{loop="0",le="0.01"} 12
servercore_loop_lag_seconds_bucket{loop="0",le="+Inf"} 12
servercore_loop_lag_seconds_bucket{loop="1",le="0.001"} 5
servercore_loop_lag_seconds_bucket{loop="1",le="0.01"} 5
servercore_loop_lag_seconds_bucket{loop="1",le="+Inf"} 6
`
	m, err := parseMetrics(strings.NewReader(text))
	if err != nil || m.sum["servercore_sessions"] != 1000 || m.sum["servercore_loop_received_messages_total"] != 1000 {
		t.Errorf("%v, %v", m.sum, err)
	}
	if !slices.Equal(m.lag.Bounds, []float64{0.001, 0.01}) || !slices.Equal(m.lag.Counts, []uint64{15, 2, 1}) {
		t.Errorf("%+v", m.lag)
	}
}

func TestParseTrace(t *testing.T) {
	const log = `time=2026-11-30T04:00:00Z level=INFO msg="gc is a word: 100%: here"
gc 1 @0.011s 2%: 0.5+10+0.25 ms clock, 1+2/8/4+0.5 ms cpu, 4->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 2 @9.512s 1%: 0.2+40+0.1 ms clock, 0.4+0/30/0+0.2 ms cpu, 600->601->520 MB, 610 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)
gc 3 @10.5s 1%: 0.2+40
`
	gc := parseTrace(log)
	if gc.Cycles != 2 || !near(gc.CPU, 0.0155+0.0306) || !near(gc.MaxPause, 0.00075) {
		t.Errorf("%+v", gc)
	}
	if f := gc.Forced; !near(f.Wall, 0.0403) || !near(f.CPU, 0.0306) || !near(f.Pause, 0.0003) || f.Live != 520 {
		t.Errorf("the one that was asked for: %+v", f)
	}
}
