package bench

import (
	"net"
	"sync"
	"testing"
)

// All of 127.0.0.0/8 is this machine on Linux; elsewhere the addresses would have to be configured first.
func TestSources(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	addr := peer(t, func(n int, c *net.TCPConn) {
		mu.Lock()
		seen[c.RemoteAddr().(*net.TCPAddr).IP.String()]++
		mu.Unlock()
		plainEcho(n, c)
	})
	p := short(Echo, addr)
	p.Sources, p.Conns = 3, 6
	wantErrors(t, carryOut(t, p), nil)
	mu.Lock()
	defer mu.Unlock()
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		if seen[ip] != 2 {
			t.Errorf("connections by source address: %v", seen)
			break
		}
	}
}
