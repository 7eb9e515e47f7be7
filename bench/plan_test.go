package bench

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestPlanDefaults(t *testing.T) {
	for _, mode := range []Mode{Echo, Rate, Churn, Idle, Fanout, Ramp, Search} {
		if err := (Plan{Mode: mode, Addr: "127.0.0.1:7777"}).Validate(); err != nil {
			t.Errorf("%s: the defaults cannot be run: %v", mode, err)
		}
	}
	p := Plan{Mode: Echo}.WithDefaults()
	if p.Conns != 64 || p.Size != 64 || p.Duration != 10*time.Second || p.Warmup != time.Second || p.Depth != 1 || p.Threads < 1 {
		t.Errorf("%+v", p)
	}
}

func TestPlanErrors(t *testing.T) {
	for _, tt := range []struct {
		field, advice string
		change        func(*Plan)
	}{
		{"addr", "use host:port", func(p *Plan) { p.Addr = "" }},
		{"addr", "use host:port", func(p *Plan) { p.Addr = "7777" }},
		{"addr", "use host:port", func(p *Plan) { p.Addr = "localhost:0" }},
		{"addr", "use host:port", func(p *Plan) { p.Addr = "localhost:http" }},
		{"addr", "unix:PATH", func(p *Plan) { p.Addr = "unix:" }},
		{"conns", "use 1 to", func(p *Plan) { p.Conns = -1 }},
		{"size", "use 1 to 16777216 bytes", func(p *Plan) { p.Size = MaxSize + 1 }},
		{"duration", "use 0.01 to", func(p *Plan) { p.Duration = -time.Second }},
		{"threads", "use 1 to", func(p *Plan) { p.Threads = -1 }},
		{"timeout", "use 0.001 to", func(p *Plan) { p.Timeout = time.Microsecond }},
		{"sources", "use 0 to 250", func(p *Plan) { p.Sources = 251 }},
		{"sources", "127.x.x.x", func(p *Plan) { p.Sources, p.Addr = 2, "10.0.0.1:80" }},
		{"sources", "no source address", func(p *Plan) { p.Sources, p.Addr = 2, "unix:/tmp/s" }},
		{"depth", "use 1 to", func(p *Plan) { p.Depth = -1 }},
		{"rate", "use 0.01 to", func(p *Plan) { p.Rate = math.NaN() }},
		{"rate", "use 0.01 to", func(p *Plan) { p.Rate = math.Inf(1) }},
		{"arrival", "uniform or poisson", func(p *Plan) { p.Mode, p.Arrival = Rate, "random" }},
		{"active", "raise -conns", func(p *Plan) { p.Mode, p.Conns, p.Active = Idle, 5, 6 }},
		{"size", "16 or more", func(p *Plan) { p.Mode, p.Size = Fanout, 15 }},
		{"subscribe", "only fanout", func(p *Plan) { p.Subscribe = "h:1" }},
		{"subscribe", "host:port", func(p *Plan) { p.Mode, p.Subscribe = Fanout, "h:1, h" }},
		{"subscribe", "host:port", func(p *Plan) { p.Mode, p.Subscribe = Fanout, "h:1,,h:2" }},
		{"subscribe", "16 addresses", func(p *Plan) { p.Mode, p.Subscribe = Fanout, strings.Repeat("h:1,", 16)+"h:1" }},
		{"subscribe", "no more than", func(p *Plan) { p.Mode, p.Conns, p.Subscribe = Fanout, 1, "h:1,h:2" }},
		{"arrival", "poisson", func(p *Plan) { p.Mode, p.Rate, p.Arrival = Fanout, 10, "burst" }},
		{"rate", "0.01", func(p *Plan) { p.Mode, p.Rate = Fanout, -1 }},
		{"stream", "leave it out", func(p *Plan) { p.Mode, p.Rate, p.Stream = Fanout, 10, true }},
		{"duration", "raise -duration or -connect-rate", func(p *Plan) { p.Mode, p.Conns, p.ConnectRate = Ramp, 1000, 10 }},
		{"pid", "use 0 to", func(p *Plan) { p.PID = -1 }},
		{"mode", "use echo, rate", func(p *Plan) { p.Mode = "load" }},
	} {
		p := Plan{Mode: Echo, Addr: "127.0.0.1:7777"}
		tt.change(&p)
		err := p.Validate()
		var plan *PlanError
		if !errors.As(err, &plan) || plan.Field != tt.field || !strings.Contains(err.Error(), tt.advice) {
			t.Errorf("want %s: ... %s, got %v", tt.field, tt.advice, err)
		}
		if _, err := Run(t.Context(), p, Options{}); !errors.As(err, &plan) {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestShare(t *testing.T) {
	for total := range 20 {
		for parts := 1; parts < 6; parts++ {
			sum := 0
			for n := range parts {
				sum += share(total, n, parts)
			}
			if sum != total {
				t.Errorf("%d dealt to %d: %d", total, parts, sum)
			}
		}
	}
}
