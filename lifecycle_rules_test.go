package servercore_test

import (
	"context"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// E4: Run's own end is bounded by DrainTimeout, also for a peer that reads so steadily that no deadline of its session cuts it off.
func TestRunEndsInTime(t *testing.T) {
	noLeaks(t)
	const drain = 300 * time.Millisecond
	s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 1, DrainTimeout: drain, SendBuffer: 16 << 10, SendLimit: 64 << 20}, hooks{
		connected: func(p *peer) { must(t, p.Send(stream())) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	eventually(t, "it accepts", func() bool { return s.Stats().Loops != nil })
	c := s.dialSmall()
	p := await(t, s.arrivals, "OnConnected")
	eventually(t, "much is queued", func() bool { return p.Pending() > 0 })
	read := make(chan struct{})
	go func() { // 16 KiB each 5 ms: the whole takes ten seconds
		defer close(read)
		b := make([]byte, 16<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	cancel()
	must(t, await(t, ran, "Run returns"))
	if took := time.Since(began); took < drain || took > patience {
		t.Errorf("Run returned after %v, want %v", took, drain)
	}
	await(t, read, "the client is reset")
}
