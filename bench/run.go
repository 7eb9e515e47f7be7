package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is the state of a run, for a live line.
type Progress struct {
	Mode     Mode
	Phase    string // "connecting", "warming up", "running", "waiting for replies"
	Step     string // search: what is tried
	Elapsed  time.Duration
	Total    time.Duration // of the measured part
	Conns    int           // open now
	Messages float64       // right replies or deliveries per second, in the last interval
	P99      time.Duration // of the measured part so far
	Errors   uint64        // so far
}

// Options are the settings of a run that are not part of its plan.
type Options struct {
	// Progress, if set, is called a few times a second, from one goroutine at a time, not after Run has returned.
	Progress func(Progress)
}

// Run carries out the plan and returns what it measured. When ctx ends, the run ends early and in order: the result
// is complete, for a shorter time, and says that it was interrupted.
//
// The error is a *PlanError for a plan that cannot be run; or it says why there is nothing or not all to report, and
// matches ErrNoConnection, ErrNoDescriptors, ErrNoPorts or ErrNotBroadcast where it applies. A result comes with the
// latter kind of error too, if the run had begun. Errors that connections and messages met are no error of Run: they
// are counted in the result.
//
// Run takes Plan.Threads operating system threads. It returns within about the plan's duration, warm-up and twice
// its timeout, and leaves no goroutine or descriptor behind.
func Run(ctx context.Context, plan Plan, opt Options) (*Result, error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	plan = plan.WithDefaults()
	if plan.Mode == Search {
		return search(ctx, plan, opt)
	}
	return runOnce(ctx, plan, opt)
}

// total is the number of connections.
func (p *Plan) total() int {
	if p.Mode == Fanout {
		return p.Conns + 1
	}
	return p.Conns
}

// interval returns the interval of the series. It gives a page a hundred points or more to draw.
func (p *Plan) interval() time.Duration {
	switch {
	case p.Duration <= 20*time.Second:
		return min(100*time.Millisecond, p.Duration)
	case p.Duration <= time.Minute:
		return 500 * time.Millisecond
	default:
		return time.Second
	}
}

// run is the state that the goroutines of a run share.
type run struct {
	plan     Plan
	targets  []*target // that of Plan.Addr first
	pattern  *pattern
	fan      *fan // fanout only
	base     time.Time
	interval time.Duration
	chunks   chan *chunk

	// Times are nanoseconds since base.
	start atomic.Int64 // when the load begins; 0 while that is not known
	from  atomic.Int64 // when the measured part begins; 0 while that is not known, which errors may come before; set before start
	end   atomic.Int64 // when the load ends: nothing new is sent
	grace atomic.Int64 // how long replies are waited for after the end

	open    atomic.Int64  // connections open now
	unready atomic.Int32  // workers that are not ready for the load
	ready   chan struct{} // closed when there is none
	changed chan struct{} // end was moved to now

	mu      sync.Mutex
	fatal   error
	notes   []string
	samples []sampled
	full    atomic.Bool // samples
}

// sampled is an error with its time on the run's clock, because the beginning of the measured part may not be known yet.
type sampled struct {
	at int64
	ErrorSample
}

func (r *run) now() int64 { return int64(time.Since(r.base)) }

// measured reports whether what was due at the given time belongs to the figures.
func (r *run) measured(at int64) bool {
	from := r.from.Load()
	return from != 0 && at >= from && at < r.end.Load()
}

func (r *run) startOrForever() int64 {
	if start := r.start.Load(); start != 0 {
		return start
	}
	return forever
}

// settle is called once by each worker when it is ready.
func (r *run) settle() {
	if r.unready.Add(-1) == 0 {
		close(r.ready)
	}
}

// stop ends the load now, if it has not ended.
func (r *run) stop(grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now < r.end.Load() {
		r.grace.Store(int64(grace))
		r.end.Store(now)
		close(r.changed)
	}
}

// fail ends the run because of an error after which it is pointless to go on. The first error counts.
func (r *run) fail(err error) {
	r.mu.Lock()
	if r.fatal == nil {
		r.fatal = err
	}
	r.mu.Unlock()
	r.stop(0)
}

// finishEarly ends the load in order because there is nothing left to load.
func (r *run) finishEarly(note string) {
	r.mu.Lock()
	if len(r.notes) == 0 {
		r.notes = append(r.notes, "the run ended early: "+note)
	}
	r.mu.Unlock()
	r.stop(0)
}

// samplesKept is the number of errors that are described one by one.
const samplesKept = 20

func (r *run) sampling() bool { return !r.full.Load() }

func (r *run) sample(k Kind, conn int, detail string, now int64) {
	if r.full.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < samplesKept {
		r.samples = append(r.samples, sampled{now, ErrorSample{Kind: k.String(), Conn: conn, Detail: detail}})
	} else {
		r.full.Store(true)
	}
}

// headStart is the time of a run's clock at its beginning. It is not 0, which stands for an unknown time.
const headStart = time.Second

func newRun(ctx context.Context, plan Plan) (*run, error) {
	if limit := descriptorLimit(); limit != 0 && uint64(plan.total()+spareDescriptors) > limit {
		return nil, descriptorAdvice(plan.total())
	}
	targets, err := plan.targets(ctx)
	if err != nil {
		return nil, err
	}
	r := &run{
		plan: plan, targets: targets, pattern: plan.pattern(), base: time.Now().Add(-headStart),
		interval: plan.interval(), chunks: make(chan *chunk, 64),
		ready: make(chan struct{}), changed: make(chan struct{}),
	}
	r.end.Store(forever)
	r.grace.Store(int64(plan.Timeout))
	if plan.Mode == Fanout {
		r.fan = newFan(&plan, r.pattern.wire())
		r.fan.places = make([]audience, len(targets))
	}
	return r, nil
}

// spawn makes the workers and divides the connections and the rate among them.
func (r *run) spawn() ([]*worker, error) {
	p := &r.plan
	p.Threads = min(p.Threads, p.total())
	if r.fan != nil {
		r.fan.done = r.fan.done[:p.Threads]
	}
	workers := make([]*worker, p.Threads)
	r.unready.Store(int32(p.Threads))
	for n := range workers {
		w, err := newWorker(r, n, share(p.total(), n, p.Threads))
		if err != nil {
			for _, w := range workers[:n] {
				w.poll.close()
			}
			return nil, err
		}
		w.load = r.load(w)
		workers[n] = w
	}
	return workers, nil
}

// share returns how many of total things part n gets if they are dealt to the parts in turn.
func share(total, n, parts int) int { return (total - n + parts - 1) / parts }

func (r *run) load(w *worker) load {
	p := &r.plan
	parts, phase := float64(p.Threads), float64(w.n)/float64(p.Threads)
	conns := len(w.conns)
	switch p.Mode {
	case Echo:
		return &closedLoop{}
	case Churn:
		return &churnLoop{next: uint32(conns)}
	case Fanout:
		return &fanLoad{f: r.fan}
	case Rate:
		rate := p.Rate * float64(conns) / float64(p.Conns)
		return &openLoop{active: conns, pace: newPacer(p.Arrival, rate, phase, p.Seed+uint64(w.n))}
	case Idle:
		l := &openLoop{active: share(p.Active, w.n, p.Threads), echoAll: p.EchoAll}
		if l.active > 0 {
			l.pace = newPacer(p.Arrival, p.Rate*float64(l.active)/float64(p.Active), phase, p.Seed+uint64(w.n))
		}
		return l
	default: // Ramp
		return &openLoop{
			active: conns, pace: newPacer(Uniform, 1/p.Every.Seconds(), 0, 0), every: float64(p.Every),
			dials: newPacer(Uniform, p.ConnectRate/parts, phase, 0),
		}
	}
}

// runOnce carries out every plan but a search.
func runOnce(ctx context.Context, plan Plan, opt Options) (*Result, error) {
	r, err := newRun(ctx, plan)
	if err != nil {
		return nil, err
	}
	return r.carryOut(ctx, opt)
}

func (r *run) carryOut(ctx context.Context, opt Options) (*Result, error) {
	server, err := newProbe(r.plan.PID)
	if err != nil {
		return nil, err
	}
	before := server.sample()
	workers, err := r.spawn()
	if err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(w.serve)
	}
	ended := make(chan struct{})
	go func() {
		group.Wait()
		close(r.chunks)
		close(ended)
	}()
	c := newCollector(r, server, opt.Progress)
	collected := make(chan struct{})
	go func() {
		c.collect()
		close(collected)
	}()
	m := r.conduct(ctx, server, ended)
	m.serverBefore = before
	<-collected
	return r.result(c, m)
}

// marks are the figures at the edges of the measured part.
type marks struct {
	started              time.Time
	length               time.Duration // of the measured part
	clientFrom, clientTo cpuTime
	serverBefore         serverSample // before the first connection
	serverFrom, serverTo serverSample
	began, interrupted   bool
	connected            int64
}

// conduct takes the run through its phases and returns when the workers have ended.
func (r *run) conduct(ctx context.Context, server *probe, ended <-chan struct{}) marks {
	m := marks{started: time.Now()}
	done := ctx.Done()
	interrupt := func() {
		m.interrupted = true
		done = nil
		r.stop(min(r.plan.Timeout, time.Second))
	}
	select {
	case <-r.ready:
	case <-r.changed:
	case <-done:
		interrupt()
	}
	m.connected = r.open.Load()
	holds := r.plan.Mode != Churn && r.plan.Mode != Ramp
	switch {
	case m.interrupted || r.end.Load() != forever:
	case holds && m.connected == 0:
		r.fail(fmt.Errorf("%w to %s could be made", ErrNoConnection, r.plan.Addr))
	default:
		m.began = true
		r.begin()
	}
	if m.began {
		// until waits until a time of the run, or until the run's early end.
		until := func(at int64) {
			timer := time.NewTimer(time.Duration(at - r.now()))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.changed:
			case <-ended:
			case <-done:
				interrupt()
			}
		}
		until(r.from.Load())
		m.clientFrom, m.serverFrom = clientCPU(), server.sample()
		if r.now() < r.end.Load() {
			until(r.end.Load())
		}
		m.clientTo, m.serverTo = clientCPU(), server.sample()
		m.length = time.Duration(max(0, min(r.now(), r.end.Load())-r.from.Load()))
	}
	select {
	case <-ended:
	case <-done:
		interrupt()
		r.grace.Store(int64(min(r.plan.Timeout, time.Second)))
		<-ended
	}
	return m
}

// begin sets the times of the load.
func (r *run) begin() {
	start := r.now() + int64(2*time.Millisecond)
	r.mu.Lock()
	r.from.Store(start + int64(r.plan.Warmup))
	if r.end.Load() == forever {
		r.end.Store(r.from.Load() + int64(r.plan.Duration))
	}
	r.mu.Unlock()
	r.start.Store(start)
}
