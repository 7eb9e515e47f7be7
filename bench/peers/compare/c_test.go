//go:build linux && cgo

// cgo is on where there is a C compiler.

package main

import (
	"strings"
	"testing"
)

func TestCload(t *testing.T) {
	r := testRunner(t, "-duration", "200ms", "-warmup", "50ms")
	got := r.cload(t.Context(), servers[1], crossCheck{Conns: 8, Size: 64})
	if got.Failure != "" || len(got.Errors) > 0 || got.PerS <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestCepoll(t *testing.T) {
	r := testRunner(t, "-rounds", "1", "-duration", "200ms", "-warmup", "50ms", "-servers", cepoll, "-workloads", "echo-64x64,churn")
	all, _ := r.run(t.Context())
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	for _, o := range all {
		if lines := o.troubles(); len(lines) > 0 || len(o.Series[0].good()) != 1 {
			t.Errorf("%s: %q", o.Workload, strings.Join(lines, "; "))
		}
	}
}
