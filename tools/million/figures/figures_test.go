package figures

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestLag(t *testing.T) {
	before := Lag{Bounds: []float64{0.001, 0.01, 0.1}, Counts: []uint64{5, 1, 0, 0}}
	now := Lag{Bounds: before.Bounds, Counts: []uint64{103, 2, 1, 0}}
	d := now.Since(before)
	if !slices.Equal(d.Counts, []uint64{98, 1, 1, 0}) || now.Counts[0] != 103 {
		t.Fatalf("%v, and the later one is %v", d.Counts, now.Counts)
	}
	for q, want := range map[float64]float64{0.5: 0.001, 0.98: 0.001, 0.99: 0.01, 1: 0.1} {
		if got := d.Quantile(q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if got := now.Since(now).Quantile(1); got >= 0 {
		t.Errorf("nothing was counted: %v, want a negative value", got)
	}
	above := Lag{Bounds: before.Bounds, Counts: []uint64{0, 0, 0, 1}}
	if got := above.Quantile(0.5); got != 0.1 {
		t.Errorf("above all bounds: %v, want the last bound", got)
	}
}

func TestSlope(t *testing.T) {
	if s, ok := Slope([]float64{5000, 20000, 50000}, []float64{5000*520 + 7, 20000*520 + 7, 50000*520 + 7}); !ok || math.Abs(s-520) > 1e-6 {
		t.Errorf("%v, %v, want 520", s, ok)
	}
	if _, ok := Slope([]float64{5000, 5000}, []float64{1, 2}); ok {
		t.Error("one number of sessions has a slope")
	}
	if _, ok := Slope(nil, nil); ok {
		t.Error("nothing has a slope")
	}
}

// held is a result of phase idle for n connections: 500 B of the server and 8,000 B of the kernel for each.
func held(n int) *Result {
	r := &Result{Phase: Idle, Conns: n, Held: n, Verified: uint64(n), Complete: true, Settings: Settings(n)}
	r.Base.Server.RSS, r.Base.Kernel.Slab, r.Base.At = 10<<20, 20<<20, 2
	r.Last.Sessions = n
	r.Last.Server.RSS = r.Base.Server.RSS + uint64(500*n)
	r.Last.Kernel.Slab = r.Base.Kernel.Slab + uint64(8000*n)
	r.Last.Slabs = []Slab{{Name: "TCP", Objects: uint64(2 * n), Size: 2400, Bytes: uint64(2 * n * 2400)}, {Name: "small", Bytes: 1}}
	r.Opened = r.Last
	r.Opened.At, r.Opened.Server.CPU = 12, float64(n)*50e-6
	return r
}

func TestTables(t *testing.T) {
	unfinished := held(50_000)
	unfinished.Complete, unfinished.Opened = false, Mark{}
	all := []*Result{{Phase: Fanout, Conns: 5000, Client: Client{Rounds: 1, Round: 1.25}}, unfinished, held(5000)}
	all[0].Machine.Revision, all[2].Machine.Revision = "new", "old"
	slices.SortFunc(all, Compare)
	if all[0].Conns != 5000 || all[0].Phase != Idle || all[2].Phase != Fanout {
		t.Fatalf("the order is %v, %v, %v", *all[0], *all[1], *all[2])
	}
	text := Tables(all)
	for _, line := range []string{
		"| | 5,000 | 50,000 |",
		"| server: resident memory per session, B | 500 | 500 |",
		"| kernel: memory per connection, both ends, B | 8000 | 8000 |",
		"| to connect all, s | 10.0 | - |",
		"| complete | yes | no |",
		"| server: CPU for it, µs per session | 50.0 | - |",
		"| to the last subscriber, the longest, s | 1.25 |",
		"| TCP | 2.00 | 2400 | 4800 |",
		"| `fs.nr_open` |",
		"idle with 5,000 connections was measured on", "commit old;", "fanout with 5,000 connections was measured on", "commit new;",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in:\n%s", line, text)
		}
	}
	if !strings.Contains(text, "One more session needs 500 B of the server and 8000 B of the kernel") || strings.Contains(text, "small") {
		t.Errorf("no slope, or a cache that does not matter:\n%s", text)
	}
	if Tables(nil) != "" {
		t.Error("no results have tables")
	}
}

// The settings allow for both ends of each connection, and stay above the kernel's own for few.
func TestSettings(t *testing.T) {
	want := map[int][3]string{
		1_000:     {"1048576", "1048576", "1048576"},
		1_000_000: {"1100000", "2265536", "2265536"},
	}
	for n, values := range want {
		for i, s := range Settings(n)[:3] {
			if s.Value != values[i] || s.Why == "" {
				t.Errorf("%d connections: %s is %s, want %s", n, s.Name, s.Value, values[i])
			}
		}
		all := Settings(n)
		if s, want := all[len(all)-1], map[int]string{1_000: "1000", 1_000_000: "250000"}[n]; s.Name != "net.core.netdev_max_backlog" || s.Value != want {
			t.Errorf("%d connections: %s is %s, want %s", n, s.Name, s.Value, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
	for f, want := range map[float64]string{0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 1234.5: "1,235"} {
		if got := decimal(f); got != want {
			t.Errorf("decimal(%v) = %s, want %s", f, got, want)
		}
	}
}
