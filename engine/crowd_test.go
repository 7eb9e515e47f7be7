package engine

import (
	"errors"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// member is the handler of a session in a crowd: a session and one pointer, as a small handler has them.
type member struct {
	session.Session
	crowd *crowd
}

func (m *member) OnRecv(p []byte) { _ = m.Send(p) }

func (m *member) OnDisconnected(net.Addr) {
	if errors.Is(m.Err(), session.ErrIdle) {
		m.crowd.idle++
	}
}

// crowdConn is a connection without a socket, of the size of reactor.Conn. It lives on a real wheel and takes whatever it is offered.
type crowdConn struct {
	driver *session.Driver
	crowd  *crowd
	next   *crowdConn // in the mailbox
	place  wheel.Position
	due    bool // in the mailbox
	_      [15]byte
}

// crowd is very many sessions on one goroutine, with a clock that the test moves.
type crowd struct {
	conns    []*crowdConn // as reactor.Loop has them
	wheel    *wheel.Wheel[*crowdConn]
	scratch  *session.Scratch
	now      time.Duration
	mail     *crowdConn
	wrote    int // bytes
	idle     int // sessions that ended with ErrIdle
	released int // sessions that ended
}

func (c *crowdConn) WheelPosition() *wheel.Position { return &c.place }
func (c *crowdConn) Now() time.Duration             { return c.crowd.now }
func (c *crowdConn) Scratch() *session.Scratch      { return c.crowd.scratch }
func (c *crowdConn) Arm(at time.Duration)           { c.crowd.wheel.Arm(c, at) }
func (c *crowdConn) CloseWrite() error              { return nil }
func (c *crowdConn) Reading(bool) error             { return nil }
func (c *crowdConn) Unread() bool                   { return false }
func (c *crowdConn) Received() int                  { return 0 }
func (c *crowdConn) Unsent() int                    { return 0 }
func (c *crowdConn) Close(bool)                     { c.crowd.wheel.Disarm(c) }
func (c *crowdConn) Done()                          { c.crowd.released++ }
func (c *crowdConn) Again()                         { c.Wake() }
func (c *crowdConn) Failed(string, any, []byte)     {}

func (c *crowdConn) Wake() {
	if !c.due {
		c.due, c.next, c.crowd.mail = true, c.crowd.mail, c
	}
}

func (c *crowdConn) WakeAll(all []session.Transport) {
	for _, t := range all {
		t.(*crowdConn).Wake()
	}
}

func (c *crowdConn) Write(bufs [][]byte) (n int, _ error) {
	for _, b := range bufs {
		n += len(b)
	}
	c.crowd.wrote += n
	return n, nil
}

// serve serves the mailbox.
func (cr *crowd) serve() {
	for cr.mail != nil {
		c := cr.mail
		cr.mail, c.next, c.due = c.next, nil, false
		c.driver.Turn()
	}
}

// pass moves the clock and serves deadlines at each tick that has some, as the reactor does.
func (cr *crowd) pass(until time.Duration) (wakeUps int) {
	for {
		at, ok := cr.wheel.Next()
		if !ok || at > until {
			cr.now = until
			return wakeUps
		}
		cr.now = max(cr.now, at)
		wakeUps++
		cr.wheel.Expire(cr.now, func(c *crowdConn) { c.driver.Expire(cr.now) })
		cr.serve()
	}
}

// crowdFigures is what a crowd has cost.
type crowdFigures struct {
	heap, joined float64 // bytes for each session: idle after an echo, and as a member of a group besides
	mark         time.Duration
	pause        time.Duration // the longest of the collections that were measured
	connect      time.Duration // to make all sessions, with an echo each
	broadcast    time.Duration // to send one message to all
	sweep        time.Duration // for the deadlines of 70 seconds, half of the sessions being ended
	wakeUps      int           // of the sweep
}

const (
	crowdIdle    = time.Minute
	crowdMessage = "sixty-four bytes that each of the sessions gets, and sends on....."
)

// makeCrowd makes n sessions, who come within ten seconds and have a message echoed each.
func makeCrowd(tb testing.TB, n int) *crowd {
	if a, b := unsafe.Sizeof(crowdConn{}), unsafe.Sizeof(conn{}); a != b {
		tb.Fatalf("the connection of the test has %d bytes, the reactor's %d", a, b)
	}
	cr := &crowd{wheel: wheel.New[*crowdConn](reactor.Tick, reactor.TickSlots), scratch: session.NewScratch(), now: time.Second}
	cr.wheel.Gather(reactor.GatherTicks, func() time.Duration { return cr.now })
	limits := session.Limits{SendLimit: 1 << 20, PauseAbove: 1 << 18, Idle: crowdIdle, Write: 10 * time.Second, Drain: 10 * time.Second, Linger: 2 * time.Second}
	loop := session.NewLoop(limits)
	local := net.Addr(&net.TCPAddr{IP: net.IP{192, 0, 2, 1}, Port: 7777})
	p := []byte(crowdMessage)
	for i := range n {
		cr.pass(time.Second + time.Duration(i)*10*time.Second/time.Duration(n))
		c := &crowdConn{crowd: cr}
		ip := net.IP{10, byte(i >> 16), byte(i >> 8), byte(i)}
		if i%2 == 1 {
			ip = append(net.ParseIP("2001:db8::")[:12:12], ip...)
		}
		d, err := session.Bind(&member{crowd: cr}, c, loop, nil, local, &net.TCPAddr{IP: ip, Port: 1024 + i%60_000})
		if err != nil {
			tb.Fatal(err)
		}
		c.driver = d
		cr.conns = append(cr.conns, c)
		d.Connected()
		d.Receive(p)
	}
	if cr.wrote != n*len(p) {
		tb.Fatalf("%d bytes were echoed, want %d", cr.wrote, n*len(p))
	}
	return cr
}

// measureCrowd makes n sessions and takes them through what a server does with its idle ones.
func measureCrowd(tb testing.TB, n int) (f crowdFigures) {
	before := liveHeap()
	began, p := time.Now(), []byte(crowdMessage)
	cr := makeCrowd(tb, n)
	f.connect = time.Since(began)
	idle := liveHeap()
	f.heap = float64(idle-before) / float64(n)
	f.mark, f.pause = measureCollection()

	var g session.Group
	for _, c := range cr.conns {
		g.Join(c.driver.Handler())
	}
	f.joined = float64(liveHeap()-idle) / float64(n)
	cr.wrote, began = 0, time.Now()
	reached := g.Broadcast(p)
	cr.serve()
	if f.broadcast = time.Since(began); reached != n || cr.wrote != n*len(p) {
		tb.Fatalf("a Broadcast has reached %d sessions of %d, in %d bytes", reached, n, cr.wrote)
	}

	began = time.Now()
	f.wakeUps = cr.pass(40 * time.Second)
	for _, c := range cr.conns[:n/2] {
		c.driver.Receive(p)
	}
	f.wakeUps += cr.pass(80 * time.Second)
	if f.sweep = time.Since(began); cr.idle != n-n/2 || g.Len() != n/2 {
		tb.Fatalf("%d sessions have ended for silence, and %d are left, of %d of which half have spoken", cr.idle, g.Len(), n)
	}
	for _, c := range cr.conns[:n/2] {
		c.driver.Kill(session.ErrShutdown)
	}
	cr.serve()
	if cr.released != n || pool.Live() != 0 {
		tb.Fatalf("%d of %d sessions were released, %d buffers are left", cr.released, n, pool.Live())
	}
	return f
}

// liveHeap returns the bytes that are reachable.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the second empties what the first has kept of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// measureCollection returns the processor time of one collection, and how long it has stopped the program.
func measureCollection() (mark, pause time.Duration) {
	cpu := []metrics.Sample{{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	sum := func() (s float64) {
		metrics.Read(cpu)
		for _, c := range cpu {
			s += c.Value.Float64()
		}
		return s
	}
	runtime.GC()
	before := sum()
	runtime.GC()
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	return time.Duration((sum() - before) * 1e9), stats.Pause[0]
}

// A session that has nothing to do costs no more than docs/memory.md says, in a crowd of a tenth of a million. How often deadlines wake a loop is
// printed only: the sessions come in the order of their deadlines, so there is little to gather (see TestGatheredVisits of package wheel).
func TestCrowd(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	f := measureCrowd(t, n)
	t.Logf("%d sessions: %+v", n, f)
	const (
		mostHeap   = 192 + 48 + 16 + 24    // the handler with its session, the connection, its places in the list and the wheel, and their room to grow
		mostJoined = 160 + 24 + 8 + 8 + 16 // what few sessions need, the membership, its places in two lists, and their room to grow
	)
	if f.heap > mostHeap {
		t.Errorf("an idle session takes %.0f bytes, want at most %d", f.heap, mostHeap)
	}
	if f.joined > mostJoined {
		t.Errorf("membership of a group takes %.0f bytes, want at most %d", f.joined, mostJoined)
	}
}

// BenchmarkMillion is the same with a million sessions: make crowd.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		f := measureCrowd(b, n)
		b.ReportMetric(f.heap, "B/session")
		b.ReportMetric(f.joined, "B/membership")
		b.ReportMetric(float64(f.mark.Milliseconds()), "ms/mark-cpu")
		b.ReportMetric(float64(f.pause.Microseconds()), "µs/gc-pause")
		b.ReportMetric(float64(f.connect.Nanoseconds())/n, "ns/connect+echo")
		b.ReportMetric(float64(f.broadcast.Nanoseconds())/n, "ns/broadcast")
		b.ReportMetric(f.sweep.Seconds()*1000, "ms/sweep-70s")
		b.ReportMetric(float64(f.wakeUps), "wakeups/70s")
	}
}

// BenchmarkMillionCollected is what the collector does while a million sessions are held and the application allocates 4 GiB besides, in pieces of 1 KiB that
// nobody keeps, with settings of GOGC and GOMEMLIMIT: make crowd.
func BenchmarkMillionCollected(b *testing.B) {
	const n, garbage, piece = 1_000_000, 4 << 30, 1 << 10
	cr := makeCrowd(b, n)
	live := liveHeap()
	defer debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetGCPercent(100)
	for _, set := range []struct {
		name    string
		percent int
		room    float64 // between what lives and the limit, as a share of what lives; 0 for no limit
	}{
		{"GOGC=15", 15, 0}, {"GOGC=50", 50, 0}, {"GOGC=100", 100, 0}, {"GOGC=400", 400, 0},
		{"GOGC=off,GOMEMLIMIT=live+25%", -1, 0.25}, {"GOGC=100,GOMEMLIMIT=live+25%", 100, 0.25}, {"GOGC=off,GOMEMLIMIT=live+100%", -1, 1},
	} {
		b.Run(set.name, func(b *testing.B) {
			debug.SetGCPercent(set.percent)
			debug.SetMemoryLimit(math.MaxInt64)
			debug.FreeOSMemory()
			if set.room > 0 {
				debug.SetMemoryLimit(int64(memoryInUse()) + int64(set.room*float64(live)))
			}
			for b.Loop() {
				cpu, collections, most := collectorTime(), collected(), uint64(0)
				for i := range garbage / piece {
					kept = make([]byte, piece)
					if i%(1<<10) == 0 {
						most = max(most, memoryInUse())
					}
				}
				b.ReportMetric(float64(collected()-collections), "collections")
				b.ReportMetric((collectorTime()-cpu).Seconds()*1000, "ms/gc-cpu")
				b.ReportMetric(float64(most)/(1<<20), "MiB/most-memory")
				var stats debug.GCStats
				debug.ReadGCStats(&stats)
				b.ReportMetric(float64(slices.Max(stats.Pause[:max(1, min(len(stats.Pause), int(collected()-collections)))]).Microseconds()), "µs/longest-pause")
			}
		})
	}
	runtime.KeepAlive(cr)
}

var kept []byte // what was allocated last

// collectorTime returns the processor time of the collector so far, without what it has done on processors that were idle.
func collectorTime() time.Duration {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	metrics.Read(s)
	return time.Duration((s[0].Value.Float64() - s[1].Value.Float64()) * 1e9)
}

// collected returns how many collections there were.
func collected() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// memoryInUse returns the bytes that Go has of the system, as GOMEMLIMIT counts them.
func memoryInUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
