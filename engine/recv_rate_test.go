package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// At no time more comes than the rate and the burst allow, all of it comes, the FIN behind it last.
func TestRecvRate(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		const rate, burst, total = 80_000, 20_000, 200_000 // 2.25 s
		var began atomic.Pointer[time.Time]                // before the first byte leaves: the loop may be late between a read and its OnRecv
		s := kit.Serve(t, network, engine.Options{Loops: loops, IdleTimeout: 2 * time.Second}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
			if most := burst + int64(time.Since(*began.Load()).Seconds()*rate); p.Got.Load() > most {
				t.Errorf("%d bytes received, at most %d may be", p.Got.Load(), most)
			}
			kit.Echo(p, data)
		}}, engine.RecvRate(engine.Rate{BytesPerSecond: rate, BurstBytes: burst}))
		c, p := s.Connect()
		now := time.Now()
		began.Store(&now)
		go func() {
			_, _ = c.Write(kit.Stream()[:total])
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		kit.Must(t, kit.ReadAll(c, kit.Stream()[:total]))
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
		if took, least := time.Since(now), (total-burst)*time.Second/rate; took < least {
			t.Errorf("took %v, want %v at least", took, least)
		}
	})
}

// A session that is over its rate and waits notices a reset at once.
func TestRecvRateAndReset(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		received := make(chan int, 100)
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: func(_ *kit.Session, data []byte) { received <- len(data) }},
			engine.RecvRate(engine.Rate{BytesPerSecond: 10, BurstBytes: 1000}))
		c, p := s.Connect()
		kit.Write(t, c, kit.Stream()[:100_000])
		kit.Await(t, received, "OnRecv")
		kit.Reset(t, c)
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrPeerReset)
	})
}

func TestRecvRateEnds(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.Framed(frame.Line{}),
			engine.RecvRate(engine.Rate{PacketsPerSecond: 1, BurstPackets: 3, End: true}))
		c, p := s.Connect()
		kit.Write(t, c, []byte("1\n2\n3\n4\n"))
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrRecvRate)
		kit.Eventually(t, "it is counted", func() bool { return s.Stats().Total.Ended.RecvRate == 1 })
	})
}
