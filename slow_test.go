package servercore_test

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
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// Redis' bounds (tests/unit/obuf-limits.tcl), the hard one: with a limit of 100,000 a client that does not read is gone, and at
// most 200,000 were held for it.
func TestHardLimitEndsTheSession(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, SendLimit: 100_000, SlowPeer: engine.EndSession, SendBuffer: 16 << 10}, hooks{})
		_, p := s.session(s.dialSmall())
		most := 0
		for p.Err() == nil {
			_ = p.Send(stream()[:1000])
			most = max(most, p.Pending())
		}
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrSendLimit)
		if most > 100_000 {
			t.Errorf("%d bytes were held", most)
		}
	})
}

// The soft one, at a tenth of the times: 300 ms end a client, and one that may take 1 s is there at 500 ms.
func TestSoftLimitEndsTheSession(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		start := func(soft time.Duration) (p *peer, c net.Conn, began time.Time) {
			s := serve(t, "tcp", engine.Options{Loops: loops, SoftLimit: 100_000, SoftLimitFor: soft, SendBuffer: 16 << 10}, hooks{})
			c, p = s.session(s.dialSmall())
			began = time.Now()
			for full := 0; full < 20; { // for good, not only for the moment
				if p.Send(stream()[:10_000]) != nil {
					full++
					p.run(t, func() {})
				}
			}
			return p, c, began
		}
		patient, c, patience := start(time.Second)
		p, _, began := start(300 * time.Millisecond)
		await(t, p.ended, "the end of the one with 300 ms")
		took := time.Since(began)
		wantError(t, "reason", p.Err(), session.ErrSendLimit)
		if !strings.Contains(p.Err().Error(), "soft limit") || took < 300*time.Millisecond {
			t.Errorf("ended after %v: %v", took, p.Err())
		}
		if err := patient.Err(); err != nil && time.Since(patience) < time.Second {
			t.Errorf("the one with 1 s has ended with it: %v", err)
		}
		await(t, patient.ended, "the end of the one with 1 s")
		if took := time.Since(patience); took < time.Second {
			t.Errorf("1 s were over after %v", took)
		}
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client sees %v, want a reset", err)
		}
	})
}

// A budget of 6.4 MiB, 500 readers that do not read, bystanders: never more than the budget and a sixteenth is held, readers are
// ended for it, bystanders are not and get their answers.
func TestSendBudget(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const budget, readers, standing, enough = 64 << 20 / 10, 500, 10, 50
		s := serve(t, "tcp", engine.Options{Loops: loops, SendBudget: budget, SendBuffer: 8 << 10, WriteTimeout: -1, SlowPeer: engine.EndSession},
			hooks{recv: echo})
		var slow, bystanders []*peer
		var conns []net.Conn
		for range readers {
			_, p := s.session(s.dialSmall())
			slow = append(slow, p)
		}
		for range standing {
			c, p := s.connect()
			bystanders, conns = append(bystanders, p), append(conns, c)
		}
		var most atomic.Int64 // the figure is of one moment; a sum of Pending would be of many
		var sending sync.WaitGroup
		deadline := time.Now().Add(4 * patience)
		for part := range 2 {
			sending.Go(func() {
				for s.Stats().Total.Ended.SendBudget < enough && time.Now().Before(deadline) {
					for k := part; k < readers; k += 2 {
						_ = slow[k].Send(stream()[:1000+k])
						held := int64(s.Stats().Queued)
						for old := most.Load(); held > old && !most.CompareAndSwap(old, held); old = most.Load() {
						}
					}
					for _, p := range bystanders { // the loops have to come to it before the next round
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
				exchange(t, c, "hello")
				echoes++
			}
		}
		ended := 0
		for _, p := range slow {
			if err := p.Err(); err != nil {
				ended++
				wantError(t, "reason", err, session.ErrSendBudget, session.ErrSendLimit)
			}
		}
		for _, p := range bystanders {
			if p.Err() != nil {
				t.Errorf("a bystander has ended: %v", p.Err())
			}
		}
		bound := int64(budget + budget/16 + (loops+1)*64<<10) // and what callbacks have sent and the kernel has not taken
		if ended < enough || ended == readers || most.Load() > bound || most.Load() < budget*3/4 {
			t.Errorf("%d readers ended, %d bytes held, want at most %d", ended, most.Load(), bound)
		}
		eventually(t, "the ends are counted", func() bool { return s.Stats().Total.Ended.SendBudget == uint64(ended) })
		sum := 0
		for _, p := range slow {
			sum += p.Pending()
		}
		if n := s.Stats().Queued; n < sum || n > budget {
			t.Errorf("%d bytes held when %d wait", n, sum)
		}
		t.Logf("%d of %d readers ended, %d bytes held at the most, %d echoes", ended, readers, most.Load(), echoes)
	})
}

// A producer that waits when it is told to, or finds too much pending, loses nothing and never meets SendLimit.
func TestOnWritable(t *testing.T) {
	noLeaks(t)
	const total, high = 8 << 20, 64 << 10
	e, err := engine.New(engine.Options{SendLimit: 128 << 10, HighWater: high, Logger: quiet})
	must(t, err)
	var offset, turns int
	fill := func(s *session.Session) {
		for offset < total && s.Pending() <= high {
			n := min(10_000, total-offset)
			if err := s.Send(stream()[offset : offset+n]); err != nil {
				t.Error(err)
				return
			}
			offset += n
		}
		if offset == total {
			s.Disconnect()
		}
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", session.Events{
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
	must(t, err)
	must(t, e.Start())
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	must(t, readAll(c, stream()[:total]))
	must(t, c.Close())
	_ = e.Close()
	if turns < 10 {
		t.Errorf("%d calls of OnWritable", turns)
	}
}

// At no time more comes than the rate and the burst allow, all of it comes, the FIN behind it last.
func TestRecvRate(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		const rate, burst, total = 400_000, 20_000, 200_000
		var began atomic.Pointer[time.Time] // before the first byte leaves: the loop may be late between a read and its OnRecv
		s := serve(t, network, engine.Options{Loops: loops, IdleTimeout: 400 * time.Millisecond}, hooks{recv: func(p *peer, data []byte) {
			if most := burst + int64(time.Since(*began.Load()).Seconds()*rate); p.got.Load() > most {
				t.Errorf("%d bytes received, at most %d may be", p.got.Load(), most)
			}
			echo(p, data)
		}}, engine.RecvRate(engine.Rate{BytesPerSecond: rate, BurstBytes: burst}))
		c, p := s.connect()
		now := time.Now()
		began.Store(&now)
		go func() {
			_, _ = c.Write(stream()[:total])
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		must(t, readAll(c, stream()[:total]))
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrPeerClosed)
		if took, least := time.Since(now), (total-burst)*time.Second/rate; took < least {
			t.Errorf("took %v, want %v at least", took, least)
		}
	})
}

// A session that is over its rate and waits notices a reset at once.
func TestRecvRateAndReset(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		received := make(chan int, 100)
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: func(_ *peer, data []byte) { received <- len(data) }},
			engine.RecvRate(engine.Rate{BytesPerSecond: 10, BurstBytes: 1000}))
		c, p := s.connect()
		write(t, c, stream()[:100_000])
		await(t, received, "OnRecv")
		reset(t, c)
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrPeerReset)
	})
}

func TestRecvRateEnds(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo}, engine.Framed(frame.Line{}),
			engine.RecvRate(engine.Rate{PacketsPerSecond: 1, BurstPackets: 3, End: true}))
		c, p := s.connect()
		write(t, c, []byte("1\n2\n3\n4\n"))
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrRecvRate)
		eventually(t, "it is counted", func() bool { return s.Stats().Total.Ended.RecvRate == 1 })
	})
}
