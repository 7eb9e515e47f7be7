package bench

import "time"

// A collector combines the chunks of the workers into the totals and the series over time.
type collector struct {
	run      *run
	server   *probe
	progress func(Progress)

	total   chunk
	open    map[int]*interval // by index, until every worker's chunk has come
	series  []Point
	next    int          // index of the next point
	last    serverSample // of the point before
	lastEnd float64      // of the point before, seconds
}

type interval struct {
	sum   *chunk
	parts int
	conns int64
	cpu   serverSample
}

func newCollector(r *run, server *probe, progress func(Progress)) *collector {
	return &collector{run: r, server: server, progress: progress, open: make(map[int]*interval)}
}

// collect takes chunks until all workers have ended.
func (c *collector) collect() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var speed float64
	for {
		select {
		case part, ok := <-c.run.chunks:
			if !ok {
				c.close()
				return
			}
			c.take(part)
			if n := len(c.series); n > 0 {
				speed = c.series[n-1].Messages
			}
		case <-tick.C:
			if c.progress != nil {
				c.progress(c.where(speed))
			}
		}
	}
}

// where returns the progress of the run.
func (c *collector) where(speed float64) Progress {
	r := c.run
	now, start := r.now(), r.start.Load()
	p := Progress{Mode: r.plan.Mode, Phase: "connecting", Total: r.plan.Duration, Conns: int(r.open.Load()),
		Messages: speed, Errors: c.total.errors.Total()}
	if start != 0 {
		switch {
		case now >= r.end.Load():
			p.Phase = "waiting for replies"
			p.Elapsed = time.Duration(r.end.Load() - r.from.Load())
		case now >= r.from.Load():
			p.Phase = "running"
			p.Elapsed = time.Duration(now - r.from.Load())
		default:
			p.Phase = "warming up"
		}
	}
	if h := c.total.times[r.plan.Mode.main()]; h != nil && h.count() > 0 {
		p.P99 = time.Duration(h.h.ValueAtQuantile(99))
	}
	return p
}

// take adds one worker's chunk. Events before and after the measured part belong to no interval.
func (c *collector) take(part *chunk) {
	c.total.add(part)
	if part.phase != within {
		part.recycle()
		return
	}
	whole := part.whole
	at := c.open[part.index]
	if at == nil {
		at = &interval{sum: part}
		c.open[part.index] = at
	} else {
		at.sum.add(part)
		part.recycle()
	}
	at.parts++
	if at.conns = c.run.open.Load(); c.run.ended() && len(c.series) > 0 { // after the end, connections may be closing
		at.conns = int64(c.series[len(c.series)-1].Conns)
	}
	if c.server != nil && at.parts == 1 {
		at.cpu = c.server.sample()
	}
	for whole && c.open[c.next] != nil && c.open[c.next].parts == c.run.plan.Threads {
		c.point(c.open[c.next], c.run.interval)
		c.open[c.next].sum.recycle()
		delete(c.open, c.next)
		c.next++
	}
}

// ended reports whether the measured part is over.
func (r *run) ended() bool { return r.start.Load() != 0 && r.now() >= r.end.Load() }

// point appends one point of the series.
func (c *collector) point(at *interval, length time.Duration) {
	s := length.Seconds()
	p := Point{
		At: c.lastEnd, Length: s,
		Messages: float64(at.sum.messages) / s, Bytes: float64(at.sum.bytes) / s,
		Errors: at.sum.errors.Total(), Conns: int(at.conns), Opened: float64(at.sum.opened) / s,
	}
	if h := at.sum.times[c.run.plan.Mode.main()]; h != nil && h.count() > 0 {
		p.P50, p.P99, p.Max = h.quantile(50), h.quantile(99), h.max()
	}
	if at.cpu.ok {
		if c.last.ok {
			if wall := at.cpu.at.Sub(c.last.at).Seconds(); wall > 0 {
				percent := 100 * (at.cpu.cpu.total() - c.last.cpu.total()) / wall
				p.ServerCPU = &percent
			}
		}
		p.ServerRSS = &at.cpu.rss
		c.last = at.cpu
	}
	c.lastEnd += s
	c.series = append(c.series, p)
}

// close appends the last point, for the interval that the end of the measured part has shortened. If that is too short, it is added to
// the point before.
func (c *collector) close() {
	rest := c.open[c.next]
	length := time.Duration(c.run.end.Load()-c.run.from.Load()) - time.Duration(c.next)*c.run.interval
	if rest == nil || c.run.from.Load() == 0 || length <= 0 {
		return
	}
	n := len(c.series)
	if n == 0 || length > c.run.interval/10 {
		c.point(rest, length)
		return
	}
	p, more := &c.series[n-1], length.Seconds()
	widened := func(perS float64, count uint64) float64 { return (perS*p.Length + float64(count)) / (p.Length + more) }
	p.Messages = widened(p.Messages, rest.sum.messages)
	p.Bytes = widened(p.Bytes, rest.sum.bytes)
	p.Opened = widened(p.Opened, rest.sum.opened)
	p.Errors += rest.sum.errors.Total()
	p.Length += more
	if h := rest.sum.times[c.run.plan.Mode.main()]; h != nil && h.count() > 0 {
		p.Max = max(p.Max, h.max())
	}
}

// main returns the main distribution of a mode.
func (m Mode) main() distribution {
	switch m {
	case Rate:
		return plannedTime
	case Churn:
		return cycleTime
	case Fanout:
		return deliveryTime
	default:
		return replyTime
	}
}
