package bench

// pace has the planned times of a publisher that sends at a rate: fanout with Plan.Rate. A message that is due while the publisher is a window
// ahead, or the kernel takes nothing, waits, and its latency counts from the planned time. fan.mu guards it. Its methods may be called on
// nil, which is a publisher without a rate.
//
// Two pacers give the same times: ahead counts what is due, and send tells when each message was due that leaves.
type pace struct {
	ahead, send *pacer
	counting    bool
	due         uint64 // messages that were due so far, and those before the load
	free        bool   // nothing stands in the way of what is due
}

func newPace(p *Plan) *pace {
	return &pace{ahead: newPacer(p.Arrival, p.Rate, 0, p.Seed), send: newPacer(p.Arrival, p.Rate, 0, p.Seed)}
}

// begin says that the load begins, after base messages that have introduced the subscribers.
func (p *pace) begin(base uint64) {
	if p != nil {
		p.counting, p.due = true, base
	}
}

// sendTime returns the time from which the latency of the next message counts. now is the time at which it leaves.
func (p *pace) sendTime(w *worker, now int64) int64 {
	if p == nil || !p.counting {
		return now
	}
	at := w.run.start.Load() + p.send.peek()
	p.send.advance()
	if p.free && w.run.measured(at) {
		w.rec.time(pacingLag, now-at)
	}
	return at
}

// lookUp counts what is due. What a worker finds long after the end was not due for anybody: see lookedUpLate.
func (p *pace) lookUp(w *worker, now int64) {
	start, end := w.run.start.Load(), w.run.end.Load()
	for p.counting {
		at := start + p.ahead.peek()
		if at > now || at >= end || now >= end && at < end-lookedUpLate {
			return
		}
		p.ahead.advance()
		p.due++
		if w.run.measured(at) {
			w.rec.now.planned += uint64(w.run.fan.open.Load()) // deliveries
		}
	}
}

// upto returns the number before which messages may leave: those that are due, and within the window. clear says that the kernel has taken
// all before.
func (p *pace) upto(w *worker, now int64, window, published uint64, clear bool) uint64 {
	p.lookUp(w, now)
	p.free = clear && p.due <= window
	return max(published, min(p.due, window))
}

// waits reports whether messages are due that have not been published.
func (p *pace) waits(w *worker, now int64, published uint64) bool {
	if p == nil {
		return false
	}
	p.lookUp(w, now)
	return p.due > published
}

// giveUp counts the messages that were due and never left. Their age is the latency of their deliveries. To leave them out would make the
// server look better than it is.
func (p *pace) giveUp(w *worker, f *fan, now int64) {
	if p == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	subscribers := uint64(f.open.Load())
	for seq := f.published.Load(); seq < p.due; seq++ {
		at := w.run.start.Load() + p.send.peek()
		p.send.advance()
		w.rec.now.cut += subscribers
		if w.run.measured(at) {
			w.rec.times(deliveryTime, now-at, subscribers)
		}
	}
}

// nextDue returns when the publisher has to look again.
func (f *fan) nextDue(w *worker) int64 {
	if f.pace == nil {
		return forever
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := w.run.start.Load() + f.pace.ahead.peek()
	if now, end := w.run.now(), w.run.end.Load(); now >= end || at >= end {
		return forever
	}
	return at
}
