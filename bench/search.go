package bench

import (
	"context"
	"fmt"
	"time"
)

// A search stops when the best rate is known with this precision (a ratio), or after this many steps.
const (
	searchPrecision = 1.03
	searchSteps     = 30
)

// search doubles the rate until a step fails. Then it halves the distance between the highest rate that passed and the lowest that
// failed. The result is that of the best step, with a list of all steps.
func search(ctx context.Context, plan Plan, opt Options) (*Result, error) {
	deadline := time.Now().Add(plan.Duration)
	var best, worst *Result
	var steps []Step
	passed, failed := 0.0, 0.0
	rate := plan.Rate
	for len(steps) < searchSteps && ctx.Err() == nil {
		left := time.Until(deadline)
		if len(steps) > 0 && left < plan.Step {
			break
		}
		r, err := searchStep(ctx, plan, rate, opt)
		if err != nil {
			if r != nil {
				r.Steps = append(steps, judge(r, plan))
			}
			return r, err
		}
		if r.Interrupted {
			if best == nil {
				best = r
			}
			best.Interrupted = true
			break
		}
		step := judge(r, plan)
		steps = append(steps, step)
		if step.Passed {
			passed, best = rate, r
		} else {
			failed, worst = rate, r
		}
		switch {
		case failed == 0:
			rate *= 2
		case passed == 0:
			rate /= 2
		default:
			rate = (passed + failed) / 2
		}
		if rate > MaxRate || rate < 1 || failed != 0 && failed/max(passed, 1e-9) < searchPrecision {
			break
		}
	}
	return searched(plan, best, worst, steps)
}

// searched turns the result of the best step into that of the search.
func searched(plan Plan, best, worst *Result, steps []Step) (*Result, error) {
	note := ""
	if best == nil {
		best = worst
		note = fmt.Sprintf("no rate passed with p99 under %v; the figures are those of the lowest one tried", plan.P99)
	}
	if best == nil {
		return nil, context.Canceled
	}
	best.Mode = Search
	chosen := best.Parameters.RatePerS
	best.Parameters = plan.parameters()
	best.Parameters.Threads = best.Client.Threads
	best.Steps = steps
	if note != "" {
		best.Warnings = append(best.Warnings, note)
	}
	for _, s := range steps {
		if s.RatePerS > chosen && s.ClientSharePct > busyPct {
			best.Warnings = append(best.Warnings, "the client was the limit of a higher step: the server may be able to do more")
			break
		}
	}
	return best, nil
}

func searchStep(ctx context.Context, plan Plan, rate float64, opt Options) (*Result, error) {
	step := plan
	step.Mode, step.Rate, step.Duration = Rate, rate, plan.Step
	step.Warmup = min(plan.Warmup, plan.Step)
	inner := opt
	if opt.Progress != nil {
		inner.Progress = func(p Progress) {
			p.Mode, p.Step = Search, fmt.Sprintf("%.0f msg/s", rate)
			opt.Progress(p)
		}
	}
	return runOnce(ctx, step, inner)
}

// judge decides whether a step passed.
func judge(r *Result, plan Plan) Step {
	d := r.Main()
	s := Step{
		RatePerS: r.Parameters.RatePerS, AchievedPerS: r.Totals.MessagesPerS,
		P50: d.P50, P99: d.P99, Max: d.Max, Errors: r.Errors.Total(), ClientSharePct: r.Client.SharePct,
	}
	limit := float64(plan.P99) / 1e3
	switch {
	case s.Errors > 0:
		s.Why = "errors"
	case d.Count == 0:
		s.Why = "no reply"
	case s.P99 >= limit:
		s.Why = "p99 is over the limit"
	case r.Totals.FellBehind:
		s.Why = "the server did not keep up"
	case float64(r.Totals.Planned) < 0.9*s.RatePerS*r.Totals.MeasuredS && s.RatePerS*r.Totals.MeasuredS > 100:
		s.Why = "the client did not keep up"
	}
	s.Passed = s.Why == ""
	return s
}
