package bench

import (
	"reflect"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

// The totals of a run with a server that answers everything agree with each other, in each mode.
func TestTotalsAgree(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		for _, mode := range []Mode{Echo, Rate, Churn} {
			p := short(mode, peer(t, plainEcho))
			p.Messages, p.Size = 3, 100
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			to := r.Totals
			if s := to.MeasuredS; to.BytesVerified != 100*to.Messages || to.Unanswered != 0 || to.MessagesPerS != float64(to.Messages)/s ||
				to.BytesPerS != float64(to.BytesVerified)/s || to.CyclesPerS != float64(to.Cycles)/s || to.Sent < to.Messages || to.Messages == 0 {
				t.Errorf("%s: totals %+v", mode, to)
			}
		}
	})
}

// Each figure of a summary is the quantile it is called, and no time up to an hour is cut.
func TestSummaryIsWhatItIsCalled(t *testing.T) {
	h := newHistogram()
	for i := range int64(100_000) {
		h.record((i + 1) * 1000) // 1 us to 100 ms
	}
	s := h.summary()
	for name, f := range map[string]struct{ got, want float64 }{
		"min": {s.Min, 1}, "p50": {s.P50, 50_000}, "p90": {s.P90, 90_000}, "p99": {s.P99, 99_000}, "p99.9": {s.P999, 99_900},
		"p99.99": {s.P9999, 99_990}, "max": {s.Max, 100_000}, "mean": {s.Mean, 50_000},
	} {
		if f.got < f.want*0.999 || f.got > f.want*1.001 { // three digits
			t.Errorf("%s is %v us, want %v", name, f.got, f.want)
		}
	}
	if s.Count != 100_000 {
		t.Errorf("%d values", s.Count)
	}
	h.record(int64(50 * time.Minute))
	if got, want := h.max(), 50*60*1e6; got < want*0.999 || got > want*1.001 {
		t.Errorf("50 minutes are %v us, want %v", got, want)
	}
}

// A field of a plan that is given is kept, and what stands for none is none.
func TestPlanIsKept(t *testing.T) {
	if p := (Plan{Mode: Echo, Warmup: -1}).WithDefaults(); p.Warmup != 0 {
		t.Errorf("no warm-up is one of %v", p.Warmup)
	}
	given := Plan{Mode: Rate, Addr: "127.0.0.1:1", Conns: 3, Size: 17, Duration: 5 * time.Second, Warmup: 2 * time.Second, Threads: 2, Sources: 1,
		Timeout: 7 * time.Second, Seed: 9, Depth: 4, Rate: 11, Arrival: Poisson, Messages: 6, Linger0: true, Active: 1, ConnectRate: 13,
		Every: 8 * time.Second, Stream: true, Window: 14, P99: 15 * time.Millisecond, Step: 3 * time.Second, PID: 1,
		TLS: true, TLSPin: "12", TLSCA: "ca.pem", TLSResume: true, TLSName: "example.org", WS: "/ws", WSText: true}
	if got := given.WithDefaults(); got != given {
		t.Errorf("%+v became %+v", given, got)
	}
	got, want := reflect.ValueOf(given.parameters()), reflect.ValueOf(Parameters{Addr: "127.0.0.1:1", Conns: 3, SizeBytes: 17, DurationS: 5, WarmupS: 2,
		Threads: 2, Sources: 1, TimeoutS: 7, Seed: 9, Depth: 4, RatePerS: 11, Arrival: Poisson, Messages: 6, Linger0: true, Active: 1,
		ConnectRatePerS: 13, EveryS: 8, Stream: true, WindowBytes: 14, P99LimitUS: 15_000, StepS: 3, PID: 1,
		SeriesIntervalS: given.interval().Seconds(), TLS: true, TLSResume: true, TLSName: "example.org", WS: "/ws", WSText: true})
	for i := range got.NumField() {
		if got.Field(i).Interface() != want.Field(i).Interface() {
			t.Errorf("%s is reported as %v, want %v", got.Type().Field(i).Name, got.Field(i), want.Field(i))
		}
	}
}
