package bench

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A server that knows one subscriber more at each message is waited for, however long all of them take together.
func TestFanoutWaitsWhileSubscribersJoin(t *testing.T) {
	var mu sync.Mutex
	var members []*net.TCPConn
	known := 0
	p := short(Fanout, peer(t, func(_ int, c *net.TCPConn) {
		mu.Lock()
		members = append(members, c)
		mu.Unlock()
		message := make([]byte, 64)
		for {
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
			mu.Lock()
			known = min(known+1, len(members))
			for _, m := range members[:known] {
				if m != c {
					m.Write(message)
				}
			}
			mu.Unlock()
		}
	}))
	p.Conns, p.Timeout = 75, time.Second // a message every 20 ms at most, before the load: one and a half seconds in all
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if r.Totals.Cycles == 0 || r.Totals.ConnsOpened != 76 {
		t.Errorf("%d rounds, %d connections", r.Totals.Cycles, r.Totals.ConnsOpened)
	}
}
