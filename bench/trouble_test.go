package bench

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/freeport"
)

// Each fault of a server is reported by its kind, and by no other.

// goneOn is a message that shows that the fault, at the tenth, was not the end.
const goneOn = 30

func TestFlippedByte(t *testing.T) {
	for _, size := range []int{8, 64, 5000} {
		for _, at := range []int{0, 7, size - 1} {
			enough := make(chan struct{})
			addr := peer(t, echoes(size, func(n int, m []byte) []byte {
				switch n {
				case 10:
					m[at] ^= 0x20
				case goneOn:
					close(enough)
				}
				return m
			}))
			p := short(Echo, addr)
			p.Size, p.Conns = size, 1
			r := carryOutUntil(t, p, enough)
			wantErrors(t, r, map[Kind]func(uint64) bool{WrongBytes: exactly(1)})
			if r.Totals.Messages < 12 {
				t.Errorf("size %d: only %d messages: the run did not go on", size, r.Totals.Messages)
			}
		}
	}
}

func TestDroppedMessage(t *testing.T) {
	enough := make(chan struct{})
	addr := peer(t, echoes(64, func(n int, m []byte) []byte {
		switch n {
		case 10:
			return nil
		case goneOn:
			close(enough)
		}
		return m
	}))
	p := short(Echo, addr)
	p.Conns, p.Depth = 1, 4
	wantErrors(t, carryOutUntil(t, p, enough), map[Kind]func(uint64) bool{LostMessage: exactly(1)})
}

func TestRepeatedMessage(t *testing.T) {
	enough := make(chan struct{})
	addr := peer(t, echoes(64, func(n int, m []byte) []byte {
		switch n {
		case 10:
			return append(bytes.Clone(m), m...)
		case goneOn:
			close(enough)
		}
		return m
	}))
	p := short(Echo, addr)
	p.Conns = 1
	wantErrors(t, carryOutUntil(t, p, enough), map[Kind]func(uint64) bool{RepeatedMessage: exactly(1)})
}

// Two clients get each other's messages.
func TestForeignBytes(t *testing.T) {
	swap := make(chan []byte)
	enough := make(chan struct{})
	var through atomic.Int32
	addr := peer(t, func(_ int, c *net.TCPConn) {
		echoes(64, func(n int, m []byte) []byte {
			if n == goneOn && through.Add(1) == 2 {
				close(enough)
			}
			if n != 10 {
				return m
			}
			own := bytes.Clone(m)
			select {
			case swap <- own:
				return <-swap
			case other := <-swap:
				swap <- own
				return other
			case <-t.Context().Done():
				return m
			}
		})(0, c)
	})
	p := short(Echo, addr)
	p.Conns = 2
	wantErrors(t, carryOutUntil(t, p, enough), map[Kind]func(uint64) bool{WrongBytes: exactly(2)})
}

func TestLateReply(t *testing.T) {
	const timeout = 400 * time.Millisecond
	addr := peer(t, echoes(64, func(n int, m []byte) []byte {
		if n == 10 {
			time.Sleep(timeout * 3 / 2) // being late takes time
		}
		return m
	}))
	p := short(Echo, addr)
	p.Conns, p.Depth, p.Timeout, p.Duration = 1, 4, timeout, 2*timeout
	r := carryOut(t, p)
	wantErrors(t, r, map[Kind]func(uint64) bool{Late: some})
	if r.Main().Max < 400e3 {
		t.Errorf("the late reply is not among the latencies: max %v us", r.Main().Max)
	}
}

// A server that never answers: each message is a timeout, a connection with two of them is given up, and the run ends when
// there is none left, long before its time.
func TestNeverAnswers(t *testing.T) {
	addr, l := scripted(t, 64, never)
	for _, mode := range []Mode{Echo, Rate, Churn, Fanout} {
		l.messages.Store(0)
		p := short(mode, addr)
		p.Timeout, p.Duration, p.Conns, p.Rate = 100*time.Millisecond, 20*time.Second, 2, 1000
		if mode == Churn {
			p.Duration = 300 * time.Millisecond // it goes on as long as connections can be made
		}
		r, err := Run(t.Context(), p, Options{})
		if mode == Fanout {
			if !errors.Is(err, ErrNotBroadcast) || r.Totals.Messages != 0 {
				t.Errorf("%s: %v", mode, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s, want := &r.Totals, uint64(2*p.Conns)
		switch mode {
		case Rate:
			want = s.Planned - s.Unanswered // those that had a connection to leave on
			if s.Planned < 100 || r.Main().Count != want || r.Main().Max < 100e3 {
				t.Errorf("rate: %+v, ages %+v", *s, r.Main().Summary)
			}
		case Churn:
			want = uint64(p.Conns)
		}
		wantErrors(t, r, map[Kind]func(uint64) bool{Timeout: exactly(want)})
		if s.Messages != 0 || s.Cycles != 0 || s.Sent != l.messages.Load() || mode != Rate && s.Sent != want {
			t.Errorf("%s: %+v, the server got %d", mode, *s, l.messages.Load())
		}
		if mode != Churn && (s.MeasuredS > 15 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "no connection is left")) {
			t.Errorf("%s: measured %v s, warnings %q", mode, s.MeasuredS, r.Warnings)
		}
	}
}

func TestEarlyEnd(t *testing.T) {
	addr := peer(t, func(_ int, c *net.TCPConn) { io.CopyN(c, c, 64*10) })
	for _, mode := range []Mode{Echo, Rate} {
		p := short(mode, addr)
		p.Conns, p.Duration = 3, 20*time.Second // it ends by itself: no connection is left
		p.Rate = 3000
		r := carryOut(t, p)
		// What was on the way when the server closed makes its close a reset.
		if n := r.Errors[EarlyEnd] + r.Errors[Reset]; n != 3 || r.Errors.Total() != 3 {
			t.Errorf("%s: errors %v", mode, r.Errors)
		}
		if len(r.Warnings) == 0 {
			t.Errorf("%s: no word about the early end", mode)
		}
	}
}

func TestReset(t *testing.T) {
	addr := peer(t, func(_ int, c *net.TCPConn) {
		io.CopyN(c, c, 64*10)
		c.SetLinger(0)
	})
	p := short(Echo, addr)
	p.Conns, p.Duration = 3, 20*time.Second
	wantErrors(t, carryOut(t, p), map[Kind]func(uint64) bool{Reset: exactly(3)})
}

func TestRefused(t *testing.T) {
	addr, free, err := freeport.Refusing()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = free() }()
	for _, mode := range []Mode{Echo, Churn, Ramp} {
		p := short(mode, addr)
		p.ConnectRate = 1000
		r, err := Run(t.Context(), p, Options{})
		if !errors.Is(err, ErrNoConnection) || r == nil {
			t.Fatalf("%s: error %v", mode, err)
		}
		wantErrors(t, r, map[Kind]func(uint64) bool{Refused: some})
	}
}

func TestTooManyConnections(t *testing.T) {
	limit := descriptorLimit()
	if limit == 0 || limit > MaxConns {
		limit = MaxConns + 1
	}
	p := short(Idle, "127.0.0.1:1")
	p.Conns = int(min(limit, MaxConns))
	_, err := Run(t.Context(), p, Options{})
	if uint64(p.Conns)+spareDescriptors > descriptorLimit() && !errors.Is(err, ErrNoDescriptors) {
		t.Errorf("error %v", err)
	}
}
