package enginetest

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// slowPeers is what bounds the memory of peers that do not take what they are sent, and the pace of those that send.
var slowPeers = []promise{
	{"S5", "SlowPeer ends a session at the hard limit", 0, hardLimitEndsTheSession},
	{"S5", "SoftLimit ends a session that is over it for long", resets, softLimitEndsTheSession},
	{"S5", "SendBudget bounds all sessions, and ends those that are stuck", resets, sendBudget},
	{"S5", "a burst of Broadcasts over the budget ends nobody", alone, budgetAndABurst},
	{"S5", "healthy members get every Broadcast within the budget", alone, budgetAndHealthyMembers},
	{"S5", "slow members are ended for the budget, healthy ones are not", resets | alone, budgetAndSlowMembers},
	{"S7", "OnWritable tells a producer to wait and to go on", 0, onWritable},
	{"S7", "an echo of a client that does not read loses nothing", 0, echoOfAClientThatDoesNotRead},
	{"S7", "PauseRecv holds the peer, ResumeRecv delivers all of it", 0, pauseAndResume},
	{"S7", "a paused session notices the peer's end", resets, pausedSessionNoticesTheEnd},
}

// Redis' bounds (tests/unit/obuf-limits.tcl), the hard one: with a limit of 100,000 a client that does not read is gone, and at
// most 200,000 were held for it.
func hardLimitEndsTheSession(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 100_000, SlowPeer: engine.EndSession, SendBuffer: 16 << 10}, kit.Hooks{})
	_, p := s.session(s.smallClient())
	most := 0
	for p.Err() == nil {
		_ = p.Send(kit.Stream()[:1000])
		most = max(most, p.Pending())
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrSendLimit)
	if most > 100_000 {
		t.Errorf("%d bytes were held", most)
	}
}

// The soft one, at a tenth of the times: 300 ms end a client, and one that may take 1 s is there at 500 ms.
func softLimitEndsTheSession(t testing.TB, v *Variant) {
	start := func(soft time.Duration) (p *kit.Session, c net.Conn, began time.Time) {
		s := v.serve(t, engine.Options{SoftLimit: 100_000, SoftLimitFor: soft, SendBuffer: 16 << 10}, kit.Hooks{})
		c, p = s.session(s.smallClient())
		began = time.Now()
		for full := 0; full < 20 && p.Err() == nil; { // for good, not only for the moment
			if p.Send(kit.Stream()[:10_000]) != nil {
				full++
				turned := make(chan struct{})
				if p.Post(func() { close(turned) }) != nil {
					break // on a busy machine the time may be over by now
				}
				select {
				case <-turned:
				case <-p.Ended:
				}
			}
		}
		return p, c, began
	}
	patient, c, since := start(time.Second)
	p, _, began := start(300 * time.Millisecond)
	kit.Await(t, p.Ended, "the end of the one with 300 ms")
	took := time.Since(began)
	kit.WantError(t, "reason", p.Err(), session.ErrSendLimit)
	if !strings.Contains(p.Err().Error(), "soft limit") || took < 300*time.Millisecond {
		t.Errorf("ended after %v: %v", took, p.Err())
	}
	if err := patient.Err(); err != nil && time.Since(since) < time.Second {
		t.Errorf("the one with 1 s has ended with it: %v", err)
	}
	kit.Await(t, patient.Ended, "the end of the one with 1 s")
	if took := time.Since(since); took < time.Second {
		t.Errorf("1 s were over after %v", took)
	}
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
}

// A budget of 6.4 MiB, 500 readers that do not read, bystanders: never more than the budget and a sixteenth is held, readers are
// ended for it, bystanders are not and get their answers.
func sendBudget(t testing.TB, v *Variant) {
	const budget, readers, standing, enough = 64 << 20 / 10, 500, 10, 50
	s := v.serve(t, engine.Options{SendBudget: budget, SendBuffer: 8 << 10, WriteTimeout: -1, SlowPeer: engine.EndSession},
		kit.Hooks{Recv: kit.Echo})
	var slow, bystanders []*kit.Session
	var conns []net.Conn
	for range readers {
		_, p := s.session(s.smallClient())
		slow = append(slow, p)
	}
	for range standing {
		c, p := s.connect()
		bystanders, conns = append(bystanders, p), append(conns, c)
	}
	var most atomic.Int64 // the figure is of one moment; a sum of Pending would be of many
	var sending sync.WaitGroup
	deadline := time.Now().Add(4 * kit.Patience)
	for part := range 2 {
		sending.Go(func() {
			for s.Stats().Total.Ended.SendBudget < enough && time.Now().Before(deadline) {
				for k := part; k < readers; k += 2 {
					_ = slow[k].Send(kit.Stream()[:1000+k])
					held := int64(s.Stats().Queued)
					for old := most.Load(); held > old && !most.CompareAndSwap(old, held); old = most.Load() {
					}
				}
				for _, p := range bystanders { // the v.Loops have to come to it before the next round
					turned := make(chan struct{})
					if p.Post(func() { close(turned) }) != nil {
						return
					}
					<-turned
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		sending.Wait()
		close(done)
	}()
	echoes := 0
	for sent := false; !sent; {
		select {
		case <-done:
			sent = true
		default:
		}
		for _, c := range conns {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // for each: it is not how long all of it takes
			kit.Exchange(t, c, "hello")
			echoes++
		}
	}
	ended := 0
	for _, p := range slow {
		if err := p.Err(); err != nil {
			ended++
			kit.WantError(t, "reason", err, session.ErrSendBudget, session.ErrSendLimit)
		}
	}
	for _, p := range bystanders {
		if p.Err() != nil {
			t.Errorf("a bystander has ended: %v", p.Err())
		}
	}
	bound := int64(budget + budget/16 + (v.Loops+1)*64<<10) // and what callbacks have sent and the kernel has not taken
	if ended < enough || ended == readers || most.Load() > bound || most.Load() < budget*3/4 {
		t.Errorf("%d readers ended, %d bytes held, want at most %d", ended, most.Load(), bound)
	}
	kit.Eventually(t, "the ends are counted", func() bool { return s.Stats().Total.Ended.SendBudget == uint64(ended) })
	sum := 0
	for _, p := range slow {
		sum += p.Pending()
	}
	// What a layer has sealed is pending until all of a piece is out, and held only as far as it is not.
	if n := s.Stats().Queued; n < sum && v.Client == nil || n > budget {
		t.Errorf("%d bytes held when %d wait", n, sum)
	}
	t.Logf("%d of %d readers ended, %d bytes held at the most, %d echoes", ended, readers, most.Load(), echoes)
}

// A burst of Broadcasts, more than loops and clients can keep up with and more than the budget: Broadcasts are refused, and nobody
// is ended, for all take what they are offered. A session may be taken for stuck after 250 ms: on plain TCP the burst lasts for four times that.
func budgetAndABurst(t testing.TB, v *Variant) {
	const budget, size = 1 << 20, 64 << 10
	s := v.serve(t, engine.Options{SendBudget: budget}, kit.Hooks{})
	var g session.Group
	peers, _ := s.members(&g, 32)
	p := kit.Stream()[:size]
	long := 300 * time.Millisecond
	if v.traits()&(plain|resets) == plain|resets && !v.Offloaded && !v.Dialled {
		long = time.Second
	}
	rounds := 0
	for began := time.Now(); time.Since(began) < long; rounds++ {
		g.Broadcast(p)
		bound := budget + budget/16
		if v.Client != nil {
			bound += len(peers) * 18 << 10 // what is sealed and does not fit the kernel is no longer shared
		}
		if n := s.Stats().Queued; n > bound {
			t.Fatalf("%d bytes held of %d", n, bound)
		}
	}
	for _, p := range peers {
		if p.Err() != nil {
			t.Errorf("a healthy member has ended: %v", p.Err())
		}
	}
	kit.Eventually(t, "all has left", func() bool { return s.Stats().Queued == 0 })
	if g.Skipped() == 0 {
		t.Errorf("the test is too weak: none of %d Broadcasts was refused", rounds)
	}
	t.Logf("%d skipped of %d", g.Skipped(), rounds*32)
}

// The example of old: a budget of 1 MiB, 32 members, one Broadcast of 64 KiB, and another when all have got it: everybody gets all
// of them.
func budgetAndHealthyMembers(t testing.TB, v *Variant) {
	const budget, size, rounds = 1 << 20, 64 << 10, 40
	s := v.serve(t, engine.Options{SendBudget: budget, SlowPeer: engine.EndSession}, kit.Hooks{})
	g := session.Group{EndSlow: true}
	_, got := s.members(&g, 32)
	for i := range rounds {
		if n := g.Broadcast(kit.Stream()[:size]); n != 32 {
			t.Fatalf("round %d reached %d", i, n)
		}
		got(int64(i+1) * size)
	}
	if g.Skipped() != 0 || s.Stats().Total.Ended.SendBudget != 0 {
		t.Errorf("%d skipped, %d ended", g.Skipped(), s.Stats().Total.Ended.SendBudget)
	}
	kit.Eventually(t, "all has left", func() bool { return s.Stats().Queued == 0 })
}

// Slow members among healthy ones: these get everything, the slow ones miss some and are ended for the budget.
func budgetAndSlowMembers(t testing.TB, v *Variant) {
	const budget, size, healthy, slow = 1 << 20, 64 << 10, 12, 4
	s := v.serve(t, engine.Options{SendBudget: budget, SendBuffer: 64 << 10}, kit.Hooks{})
	var g session.Group
	peers, got := s.members(&g, healthy)
	for range slow {
		_, p := s.session(s.smallClient())
		g.Join(p)
	}
	rounds := 0
	for began := time.Now(); s.Stats().Total.Ended.SendBudget == 0; rounds++ {
		if time.Since(began) > 4*kit.Patience {
			t.Fatalf("no slow member has ended after %d rounds, %d bytes held", rounds, s.Stats().Queued)
		}
		if n := g.Broadcast(kit.Stream()[:size]); n < healthy {
			t.Fatalf("round %d reached %d, %d bytes held", rounds, n, s.Stats().Queued)
		}
		got(int64(rounds+1) * size)
		if n := s.Stats().Queued; n > budget+budget/16+v.Loops*64<<10 {
			t.Fatalf("%d bytes held", n)
		}
	}
	for _, p := range peers {
		if p.Err() != nil {
			t.Errorf("a healthy one has ended: %v", p.Err())
		}
	}
	t.Logf("%d rounds, %d skipped, %d ended", rounds, g.Skipped(), s.Stats().Total.Ended.SendBudget)
}

// A producer that waits when it is told to, or finds too much pending, loses nothing and never meets SendLimit.
func onWritable(t testing.TB, v *Variant) {
	const total, high = 8 << 20, 64 << 10
	var offset, turns int
	fill := func(s *session.Session) {
		for offset < total && s.Pending() <= high {
			n := min(10_000, total-offset)
			if err := s.Send(kit.Stream()[offset : offset+n]); err != nil {
				t.Error(err)
				return
			}
			offset += n
		}
		if offset == total {
			s.Disconnect()
		}
	}
	s := v.serveUnwatched(t, engine.Options{SendLimit: 128 << 10, HighWater: high}, session.Events{
		OnConnected: func(s *session.Session, _ net.Addr) { fill(s) },
		OnWritable: func(s *session.Session, writable bool) {
			if turns++; writable == (turns%2 == 1) {
				t.Errorf("turn %d: OnWritable(%t)", turns, writable)
			}
			if writable {
				fill(s)
			}
		},
	}.Factory())
	c := s.client()
	kit.Must(t, kit.ReadAll(c, kit.Stream()[:total]))
	kit.Must(t, c.Close())
	s.end()
	if turns < 10 {
		t.Errorf("%d calls of OnWritable", turns)
	}
}

// S7: an echo server needs no code for a client that writes everything before it reads anything.
func echoOfAClientThatDoesNotRead(t testing.TB, v *Variant) {
	const sendLimit, pauseAbove = 128 << 10, 96 << 10 // less than one read apart
	var most atomic.Int64
	s := v.serve(t, engine.Options{SendLimit: sendLimit, PauseAbove: pauseAbove, SendBuffer: 64 << 10},
		kit.Hooks{Recv: func(p *kit.Session, data []byte) {
			kit.Echo(p, data)
			most.Store(max(most.Load(), int64(p.Pending())))
		}})
	c, p := s.connect()
	data := kit.Pattern(32 << 20)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		wrote <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
	}()
	kit.Eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses > 0 })
	kit.Must(t, kit.ReadAll(c, data))
	kit.Must(t, kit.Await(t, wrote, "the client has written"))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
	if n := most.Load(); n > sendLimit || n <= 0 {
		t.Errorf("%d bytes were pending, want 1 to %d", n, sendLimit)
	}
}

// S7: PauseRecv stops OnRecv and holds the peer; nothing is lost; the FIN waits behind the bytes before it.
func pauseAndResume(t testing.TB, v *Variant) {
	paused := make(chan struct{})
	var once sync.Once
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
		once.Do(func() {
			p.PauseRecv()
			close(paused)
		})
	}})
	c, p := s.connect()
	const total = 16 << 20
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, total))
		wrote <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
	}()
	kit.Await(t, paused, "the first OnRecv")
	p.Run(t, func() {}) // the turn that paused is over
	before := p.Got.Load()
	for range 20 {
		p.Run(t, func() {
			if err := p.Send([]byte("x")); err != nil { // a paused session still sends
				t.Error(err)
			}
		})
	}
	kit.Expect(t, c, "xxxxxxxxxxxxxxxxxxxx")
	if got := p.Got.Load(); got != before || got >= total {
		t.Errorf("a paused session received %d bytes, %d at the pause", got, before)
	}
	select {
	case err := <-wrote:
		t.Errorf("the peer was not held: it wrote %d bytes, %v", total, err)
	default:
	}
	if p.Err() != nil {
		t.Errorf("Err of a paused session: %v", p.Err())
	}
	p.ResumeRecv()
	kit.Must(t, kit.Await(t, wrote, "the client has written"))
	kit.Await(t, p.Ended, "OnDisconnected")
	if got := p.Got.Load(); got != total {
		t.Errorf("received %d of %d bytes", got, total)
	}
	kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
}

// S7: a paused session notices a reset, and a FIN that no byte precedes, such as the last word of a layer.
func pausedSessionNoticesTheEnd(t testing.TB, v *Variant) {
	closed := session.ErrPeerClosed
	if v.Client != nil {
		closed = session.ErrTruncated
	}
	for _, end := range []struct {
		act    func(testing.TB, net.Conn)
		reason error
	}{
		{kit.Reset, session.ErrPeerReset},
		{func(t testing.TB, c net.Conn) { kit.Must(t, c.(*client).raw.Close()) }, closed},
	} {
		s := v.serve(t, engine.Options{}, kit.Hooks{Connected: func(p *kit.Session) { p.PauseRecv() }})
		c, p := s.connect()
		kit.Eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses == 1 })
		end.act(t, c)
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), end.reason)
	}
}
