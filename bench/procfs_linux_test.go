package bench

import (
	"errors"
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	// A name may hold spaces and parentheses.
	const stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 4 0 12345 1000 200 18446744073709551615"
	if cpu, ok := parseStat([]byte(stat)); !ok || cpu.user != 1.5 || cpu.system != 0.25 {
		t.Errorf("%+v %v", cpu, ok)
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S 1 1 1 0 -1 4 1 0 0 0 many 25 0 0"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	if rss := parseRSS([]byte("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n")); rss != 1234<<10 {
		t.Errorf("RSS %d", rss)
	}
}

func TestProbe(t *testing.T) {
	p, err := newProbe(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s := p.sample(); !s.ok || s.rss == 0 {
		t.Errorf("%+v", s)
	}
	if p, err := newProbe(0); p != nil || err != nil || p.sample().ok {
		t.Errorf("%v %v", p, err)
	}
	var plan *PlanError
	if _, err := newProbe(1 << 30); !errors.As(err, &plan) || plan.Field != "pid" {
		t.Errorf("error %v", err)
	}
}
