//go:build linux

package trials

import (
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

func init() {
	plans["T05"] = func() plan { return plan{options: engine.Options{DrainTimeout: lasting(5*time.Second, 2*time.Second)}} }
}

// T4: a client that sends a request, shuts down its writing side and reads slowly gets every byte.
//
// Fails if the peer's FIN ends the session: have PeerClosed in session/driver.go call finish.
func TestT04HalfCloseLongReply(t *testing.T) {
	o := begin(t, "T04", how{})
	total := scaled(32<<20, 8<<20)
	c := o.connectSmall(64 << 10)
	must(t, c.ask(request(verbGive, total)))
	must(t, c.CloseWrite())
	began := time.Now()
	const rate = 10 << 20 // bytes per second
	err := c.take(make([]byte, 32<<10), nil, func() bool {
		time.Sleep(time.Until(began.Add(time.Duration(c.in.bytes) * time.Second / rate)))
		return false
	})
	lastByte := monotonic()
	l := o.ended(c, patience)
	o.check("every byte, OnSend the same, then OnDisconnected", err == io.EOF && c.in.bytes == int64(total) && l.Sent == int64(total) &&
		l.Ended >= lastByte-int64(10*time.Second) && because(l, "peer closed"),
		"%d of %d bytes received, OnSend %d, %v, in %v", c.in.bytes, total, l.Sent, l.Causes, time.Since(began).Round(time.Millisecond))
	o.finish()
}

// T5: the session of a peer that has sent FIN and does not read ends after DrainTimeout.
//
// Fails if drain sets no deadline, or a long one: 9 times d for endAt in startDrain of session/drain.go.
func TestT05HalfCloseNeverReads(t *testing.T) {
	o := begin(t, "T05", how{})
	drain := plans["T05"]().options.DrainTimeout
	c := o.connectSmall(4 << 10)
	must(t, c.ask(request(verbGive, 32<<20)))
	must(t, c.CloseWrite())
	began := monotonic()
	o.idle(time.Second)
	l := o.ended(c, drain+patience)
	took := time.Duration(l.Ended - began)
	o.check("reset at the drain deadline +-0.5 s, cause drain timeout", because(l, "drain timeout") && took-drain >= -500*time.Millisecond && took-drain <= within(500*time.Millisecond),
		"after %v of %v, %v", took.Round(time.Millisecond), drain, l.Causes)
	o.finish()
}

// T6: what was sent before Disconnect arrives, although the client has sent more than the handler reads.
//
// Fails if input that comes late is not read: have startLinger in session/drain.go finish at once.
func TestT06DisconnectWithUnreadInput(t *testing.T) {
	o := begin(t, "T06", how{})
	const reply, more, rounds = 1 << 20, 100 << 10, 10
	var complete atomic.Int64
	longest := make([]time.Duration, rounds)
	clients := make([]*client, rounds)
	read := make([]int64, rounds)
	each(rounds, rounds, func(i int) {
		time.Sleep(time.Duration(i) * 100 * time.Millisecond) // one after the other; they only linger together
		c := o.connect()
		clients[i] = c
		payload := make([]byte, more/2)
		payload[0] = verbNothing
		data := c.out.add(nil, request(verbQuit, reply))
		if _, err := c.Write(c.out.add(c.out.add(data, payload), payload)); err != nil {
			t.Error(err)
		}
		_, _ = c.Write(c.out.add(nil, payload)) // and more after it has been answered
		if err := c.takeAll(); err == nil && c.in.bytes == reply {
			complete.Add(1)
		}
		read[i] = monotonic() // the client stays: only linger ends its session
	})
	for i, c := range clients {
		longest[i] = time.Duration(o.ended(c, patience).Ended - read[i])
	}
	o.check("10/10 complete replies", complete.Load() == rounds, "%d/%d", complete.Load(), rounds)
	const linger = 2 * time.Second
	o.check("gone <= linger + 0.5 s", slices.Max(longest) <= linger+within(500*time.Millisecond), "the longest %v after its reply",
		slices.Max(longest).Round(time.Millisecond))
	o.finish()
}

// addressOf returns a local address to connect from.
func addressOf(host string) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(host)} }

func split(t testing.TB, address string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	must(t, err)
	return host, port
}
