package bench

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// A still worker has one connection that is not open, and a run whose measured part is from 100 to 200.
func still(t testing.TB, mode Mode) *worker {
	t.Helper()
	p := Plan{Mode: mode, Addr: "127.0.0.1:1", Conns: 1, Threads: 1, Size: 64, Messages: 1}
	if mode == Idle {
		p.Active = 1
	}
	r, err := newRun(t.Context(), p.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	workers, err := r.spawn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, w := range workers {
			w.poll.close()
		}
	})
	r.from.Store(100)
	r.end.Store(200)
	r.start.Store(1)
	return workers[0]
}

// A reply counts in the throughput if it came in the measured part, and in the latencies if its message was due there.
func TestWhatBelongsToTheMeasuredPart(t *testing.T) {
	for _, tt := range []struct {
		due, came               int64
		messages, late, latency uint64
	}{
		{50, 99, 0, 0, 0},    // all of it before
		{50, 100, 1, 0, 0},   // due in the warm-up
		{99, 199, 1, 0, 0},   //
		{100, 100, 1, 0, 1},  // all of it within
		{150, 199, 1, 0, 1},  //
		{150, 200, 0, 1, 1},  // the drain
		{199, 5000, 0, 1, 1}, //
		{50, 200, 0, 0, 0},   // due before, came after
	} {
		for _, mode := range []Mode{Echo, Rate, Idle, Ramp, Churn} {
			w := still(t, mode)
			c := &w.conns[0]
			c.plan(tt.due)
			c.slot(0).sent = tt.due
			w.load.message(w, c, 0, tt.came)
			got := w.rec.now
			if got.messages != tt.messages || got.bytes != 64*tt.messages || got.afterEnd != tt.late || times(got, replyTime) != tt.latency ||
				(mode == Rate && times(got, plannedTime) != tt.latency) {
				t.Errorf("%s: due at %d, came at %d: %d messages, %d bytes, %d after the end, %d latencies, want %+v",
					mode, tt.due, tt.came, got.messages, got.bytes, got.afterEnd, times(got, replyTime), tt)
			}
		}
		w := still(t, Fanout)
		l := w.load.(*fanLoad)
		l.counting = true
		l.f.at(0).Store(tt.due)
		w.load.message(w, &w.conns[1], 0, tt.came)
		if got := w.rec.now; got.messages != tt.messages || got.bytes != 64*tt.messages || got.afterEnd != tt.late || times(got, deliveryTime) != tt.latency {
			t.Errorf("fanout: sent at %d, came at %d: %d messages, %d bytes, %d after the end, %d latencies, want %+v",
				tt.due, tt.came, got.messages, got.bytes, got.afterEnd, times(got, deliveryTime), tt)
		}
		l.f.begun.Store(1)
		l.f.done[0].Store(1)
		l.f.advance(w, tt.came)
		if got := w.rec.now; got.cycles != tt.messages || times(got, roundTime) != tt.latency {
			t.Errorf("fanout: sent at %d, all have it at %d: %d rounds, %d times, want %+v", tt.due, tt.came, got.cycles, times(got, roundTime), tt)
		}
		w = still(t, Churn)
		w.over = true // no next connection
		c := &w.conns[0]
		c.begun, c.v.next = tt.due, 1
		w.load.received(w, c, tt.came)
		if got := w.rec.now; got.cycles != tt.messages || times(got, cycleTime) != tt.latency {
			t.Errorf("churn: begun at %d, done at %d: %d cycles, %d times, want %+v", tt.due, tt.came, got.cycles, times(got, cycleTime), tt)
		}
	}
}

func times(c *chunk, d distribution) uint64 {
	if c.times[d] == nil {
		return 0
	}
	return c.times[d].count()
}

// What has left, and what came wrong, counts in the measured part by its own time.
func TestSentAndSpoiledByTheirTimes(t *testing.T) {
	for at, within := range map[int64]uint64{99: 0, 100: 1, 199: 1, 200: 0} {
		w := still(t, Echo)
		w.left(3, at)
		w.blame(&w.conns[0], verdict{wrong: 2, lost: 5}, at)
		got := w.rec.now
		if got.sent != 3 || got.offered != 3*within || got.spoiled != 7*within || got.errors[WrongBytes] != 2 || got.errors[LostMessage] != 5 {
			t.Errorf("at %d: %d sent, %d in the measured part, %d spoiled, errors %v", at, got.sent, got.offered, got.spoiled, got.errors)
		}
	}
}

// Messages are due until the measured part ends, also for a worker that looks up a little late; and whether or not there
// is a connection to send them on.
func TestPlannedUpToTheEnd(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, tt := range []struct {
		now, want int64 // ms after the start
		live      bool
	}{{50, 51, false}, {99, 100, false}, {100, 100, false}, {130, 100, false}, {1000, 100, false}, {130, 100, true}} {
		w := still(t, Rate)
		w.begun = true
		w.run.from.Store(1)
		w.run.end.Store(1 + 100*ms)
		l := w.load.(*openLoop)
		l.pace = newPacer(Uniform, 1000, 0, 0)
		if tt.live {
			w.live = append(w.live, 0)
		}
		for range 3 {
			l.tick(w, 1+tt.now*ms)
		}
		cut := uint64(tt.want)
		if tt.live {
			cut = 0
		}
		if got := w.rec.now; got.planned != uint64(tt.want) || got.cut != cut || tt.now >= 100 && !l.idle(w, 1+tt.now*ms) {
			t.Errorf("%+v: %d planned, %d cut, idle %v", tt, got.planned, got.cut, l.idle(w, 1+tt.now*ms))
		}
	}
	w := still(t, Rate) // much too late: the client could not keep up, and a warning says so
	w.begun = true
	w.run.end.Store(1 + 1000*ms)
	w.load.(*openLoop).pace = newPacer(Uniform, 1000, 0, 0)
	if w.load.tick(w, 1+1000*ms); w.rec.now.planned != 0 || !w.load.idle(w, 1+1000*ms) {
		t.Errorf("%d planned", w.rec.now.planned)
	}
}

// A recorder's chunks end where the intervals and the measured part do, however late its worker looks up.
func TestRecorderRolls(t *testing.T) {
	type handed struct {
		phase phase
		index int
		whole bool
		sent  uint64
	}
	for _, tt := range []struct {
		name string
		end  int64
		at   []int64 // when something is recorded
		want []handed
	}{
		{"whole intervals", 130, []int64{50, 99, 100, 109, 110, 125, 130, 500}, []handed{
			{before, 0, false, 2}, {within, 0, true, 2}, {within, 1, true, 1}, {within, 2, true, 1}, {after, 0, false, 2}}},
		{"a part of one", 115, []int64{100, 110, 114, 115}, []handed{
			{before, 0, false, 0}, {within, 0, true, 1}, {within, 1, false, 2}, {after, 0, false, 1}}},
		{"nothing for a long time", 130, []int64{50, 1000}, []handed{
			{before, 0, false, 1}, {within, 0, true, 0}, {within, 1, true, 0}, {within, 2, true, 0}, {after, 0, false, 1}}},
		{"ended in the warm-up", 60, []int64{50, 70}, []handed{{before, 0, false, 1}, {after, 0, false, 1}}},
		{"ended at once", 100, []int64{50, 100}, []handed{{before, 0, false, 1}, {within, 0, false, 0}, {after, 0, false, 1}}},
	} {
		out := make(chan *chunk, 10)
		r := newRecorder(out, 10)
		r.begin(100)
		for _, at := range tt.at {
			if at >= r.edge || tt.end < 100 {
				r.roll(at, tt.end)
			}
			r.now.sent++
		}
		r.finish()
		close(out)
		var got []handed
		for c := range out {
			got = append(got, handed{c.phase, c.index, c.whole, c.sent})
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// What came in the warm-up or after the end is in the totals of the whole run and in no point of the series.
func TestSeriesIsTheMeasuredPart(t *testing.T) {
	r := &run{plan: Plan{Mode: Echo, Threads: 1, Duration: time.Second}, interval: 100}
	r.from.Store(1000)
	for _, tt := range []struct {
		length int64
		want   []float64 // lengths, in ns
	}{{200, []float64{100, 100}}, {250, []float64{100, 100, 50}}, {205, []float64{100, 105}}, {30, []float64{30}}} {
		r.end.Store(1000 + tt.length)
		c := newCollector(r, nil, nil)
		give := func(p phase, index int, whole bool, n uint64) {
			part := &chunk{phase: p, index: index, whole: whole, messages: n, bytes: n, opened: n, sent: n}
			part.errors[Reset] = n
			c.take(part)
		}
		give(before, 0, false, 1000)
		index := 0
		for left := tt.length; left > 0; left -= 100 {
			give(within, index, left >= 100, 7)
			index++
		}
		give(after, 0, false, 100_000)
		c.close()
		sum, all := 7*uint64(index), 7*uint64(index)+101_000
		if c.total.sent != all || c.total.opened != all || c.total.errors[Reset] != all {
			t.Errorf("%d: totals %+v, want %d", tt.length, c.total, all)
		}
		var messages, bytes, opened float64
		var errors uint64
		var lengths []float64
		for _, p := range c.series {
			messages, bytes, opened = messages+p.Messages*p.Length, bytes+p.Bytes*p.Length, opened+p.Opened*p.Length
			errors += p.Errors
			lengths = append(lengths, p.Length*1e9)
		}
		if !near(messages, float64(sum)) || !near(bytes, float64(sum)) || !near(opened, float64(sum)) || errors != sum || len(lengths) != len(tt.want) {
			t.Fatalf("%d: %v messages, %v bytes, %v opened, %d errors in %v, want %d in %v", tt.length, messages, bytes, opened, errors, lengths, sum, tt.want)
		}
		for i := range lengths {
			if !near(lengths[i], tt.want[i]) {
				t.Errorf("%d: lengths %v, want %v", tt.length, lengths, tt.want)
			}
		}
	}
}

// CPU per message is that of the measured part by the messages answered in it.
func TestCPUPerMessage(t *testing.T) {
	at := func(user, system float64, rss uint64) serverSample {
		return serverSample{ok: true, cpu: cpuTime{user, system}, rss: rss}
	}
	m := marks{length: 3 * time.Second, clientFrom: cpuTime{1, 1}, clientTo: cpuTime{1.6, 2}, serverBefore: at(0, 0, 100),
		serverFrom: at(10, 20, 300), serverTo: at(11, 22, 400)}
	high := uint64(900)
	s := server(m, 7, 600, 10, []Point{{ServerRSS: &high}, {}})
	want := Server{PID: 7, UserS: 1, SystemS: 2, PerMessageUS: 5000, SharePct: 100, RSSBefore: 100, RSSMax: 900, RSSEnd: 400, RSSPerConn: 30}
	if s == nil || *s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	c := client(m, 1, 800)
	if !near(c.UserS, 0.6) || !near(c.SystemS, 1) || !near(c.PerMessageUS, 2000) || !near(c.SharePct, 100*1.6/3) || c.Threads != 1 {
		t.Errorf("%+v", c)
	}
	if s := server(m, 7, 0, 0, nil); s.PerMessageUS != 0 || s.RSSPerConn != 0 || s.RSSMax != 400 {
		t.Errorf("without messages: %+v", s)
	}
	m.serverTo.ok = false
	if server(m, 7, 1, 1, nil) != nil {
		t.Error("figures of a server that is gone")
	}
}

// Every count of a chunk is added, and emptied when it is reused.
func TestChunkAdds(t *testing.T) {
	one := func(n uint64) *chunk {
		c := &chunk{messages: n, bytes: 2 * n, cycles: 3 * n, spoiled: 4 * n, offered: 5 * n, planned: 6 * n, inTime: 11 * n, afterEnd: 7 * n, sent: 8 * n, opened: 9 * n, cut: 10 * n}
		for k := range c.errors {
			c.errors[k] = n * uint64(k+1)
		}
		for d := range c.times {
			c.times[d] = newHistogram()
			for range n {
				c.times[d].record(int64(d) + 1)
			}
		}
		c.places = []place{{}, {deliveries: n, lost: 2 * n, doubled: 3 * n, disordered: 4 * n, overdue: 5 * n, wrong: 6 * n, times: newHistogram()}}
		c.places[1].times.recordTimes(9, n)
		return c
	}
	sum, want := &chunk{}, one(5)
	sum.add(one(2))
	sum.add(one(3))
	for d := range want.times {
		if times(sum, distribution(d)) != times(want, distribution(d)) {
			t.Errorf("%s: %d values", distributionTexts[d].name, times(sum, distribution(d)))
		}
	}
	sum.times, want.times = [distributions]*histogram{}, [distributions]*histogram{}
	if sum.places[1].times.count() != 5 {
		t.Errorf("%d deliveries have a time", sum.places[1].times.count())
	}
	sum.places[1].times, want.places[1].times = nil, nil
	if !reflect.DeepEqual(sum, want) {
		t.Errorf("%+v, want %+v", *sum, *want)
	}
	used := one(4)
	used.phase, used.index, used.whole = within, 3, true
	used.recycle()
	for d := range used.times {
		if times(used, distribution(d)) != 0 {
			t.Errorf("%s is not empty", distributionTexts[d].name)
		}
	}
	if used.places[1].times.count() != 0 {
		t.Error("the times of an address are not empty")
	}
	used.places[1].times = nil
	if used.times = [distributions]*histogram{}; !reflect.DeepEqual(used, &chunk{places: make([]place, 2)}) {
		t.Errorf("not empty: %+v", *used)
	}
}
