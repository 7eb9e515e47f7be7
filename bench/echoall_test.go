package bench

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// With EchoAll each connection exchanges one message before the load, the silent ones too, and nothing of it counts for the measured part.
func TestEchoAll(t *testing.T) {
	var exchanged, silent atomic.Int64
	p := short(Idle, peer(t, func(_ int, c *net.TCPConn) {
		first := make([]byte, 64)
		if _, err := io.ReadFull(c, first); err != nil {
			t.Errorf("a connection has sent nothing: %v", err)
			return
		}
		c.Write(first)
		exchanged.Add(1)
		if more, err := io.Copy(c, c); err == nil && more == 0 {
			silent.Add(1)
		}
	}))
	p.Conns, p.Active, p.Rate, p.EchoAll = 2*unechoedAtOnce+100, 3, 200, true
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if n := r.Totals.ConnsEchoed; n != uint64(p.Conns) || exchanged.Load() != int64(p.Conns) {
		t.Errorf("%d connections have exchanged a message, the server says %d, want %d", n, exchanged.Load(), p.Conns)
	}
	if s := r.Totals; s.Sent != s.Planned+uint64(p.Conns) || s.Messages == 0 || s.Messages+s.AfterEnd > s.Planned || s.ConnsAtStart != p.Conns {
		t.Errorf("what was sent before the load counts: %+v", s)
	}
}

// A connection that does not answer, answers wrongly, or ends does not hold up the load, and is no connection that has exchanged a message.
func TestEchoAllWithoutAnswer(t *testing.T) {
	p := short(Idle, peer(t, func(n int, c *net.TCPConn) {
		switch n {
		case 0:
			io.Copy(io.Discard, c)
		case 1:
			io.ReadFull(c, make([]byte, 64))
			c.Write(make([]byte, 64))
			io.Copy(io.Discard, c)
		case 2:
			c.SetLinger(0)
		default:
			io.Copy(c, c)
		}
	}))
	p.Conns, p.EchoAll, p.Timeout = 20, true, 500*time.Millisecond
	r := carryOut(t, p)
	ended := r.Errors[EarlyEnd] + r.Errors[Reset]
	if r.Errors[Timeout] != 1 || r.Errors[WrongBytes] != 1 || ended != 1 {
		t.Errorf("errors: %v", r.Errors)
	}
	if n := r.Totals.ConnsEchoed; n != 17 || r.Totals.ConnsAtStart != 18 {
		t.Errorf("%d connections have exchanged a message, %d are open when the load begins; want 17 and 18", n, r.Totals.ConnsAtStart)
	}
}
