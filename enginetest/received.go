package enginetest

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// lastWords is what clients send before they go: more than one read, and what every kernel's buffers hold.
var lastWords = bytes.Repeat([]byte("a line of fifty bytes, which nobody reads an answ\n"), 2000)

// leave are the ways in which a client goes without reading. A unix socket knows no reset: both are the same there.
var leave = map[string]func(testing.TB, net.Conn){
	"close": func(t testing.TB, c net.Conn) { kit.Must(t, c.Close()) },
	"reset": kit.Reset,
}

// received is E2c: what the peer sent before it went, and our kernel holds, comes to OnRecv, whatever has failed in the other direction. A
// server of package net gets it: all of it, so that the number of bytes is a constant here. The client writes and goes before OnRecv is called
// for the first time: the answer fails, or the one after it.
func received() (list []promise) {
	sendsUntilItFails := func(p *kit.Session) {
		for p.Send([]byte("x")) == nil {
			time.Sleep(time.Millisecond)
		}
	}
	answers := func(p *kit.Session, data []byte) { _ = p.Send(data) }
	for _, kind := range []struct {
		name      string
		connected func(*kit.Session)
		recv      func(p *kit.Session, data []byte)
		then      func(testing.TB, *kit.Session) // after the client has gone
		o         engine.Options
	}{
		{name: "answers", recv: answers},
		{name: "finishes", recv: func(p *kit.Session, _ []byte) { p.CloseWrite() }},
		{
			name:      "has much to send and is not read",
			connected: func(p *kit.Session) { _ = p.Send(make([]byte, 300<<10)) }, // more than PauseAbove and what the client's kernel takes
			o:         engine.Options{PauseAbove: 32 << 10, SendBuffer: 16 << 10},
		},
		{
			name:      "is paused",
			connected: func(p *kit.Session) { p.PauseRecv() },
			recv:      answers,
			then:      func(_ testing.TB, p *kit.Session) { _ = p.Send([]byte("x")); p.ResumeRecv() },
		},
		{
			name:      "is paused when a write fails",
			connected: func(p *kit.Session) { p.PauseRecv() },
			then:      func(_ testing.TB, p *kit.Session) { sendsUntilItFails(p); p.ResumeRecv() },
		},
		{
			name: "pauses with the first bytes",
			recv: func(p *kit.Session, data []byte) {
				if p.Got.Load() == int64(len(data)) {
					p.PauseRecv()
				}
				_ = p.Send(data)
			},
			then: func(t testing.TB, p *kit.Session) {
				kit.Eventually(t, "OnRecv", func() bool { return p.Got.Load() > 0 })
				sendsUntilItFails(p)
				_ = p.Post(p.ResumeRecv) // after the callback that pauses
			},
		},
	} {
		list = append(list, promise{"E2c", "what the peer sent before it went is received: the session " + kind.name, 0, func(t testing.TB, v *Variant) {
			for how, leave := range leave {
				connected, gate := make(chan struct{}), make(chan struct{})
				s := v.serve(t, kind.o, kit.Hooks{Recv: kind.recv, Connected: func(p *kit.Session) {
					if kind.connected != nil {
						kind.connected(p)
					}
					close(connected)
					<-gate
				}})
				c := s.smallClient()
				p := kit.Await(t, s.Arrivals, "OnConnected")
				kit.Await(t, connected, "a pause in OnConnected")
				kit.Write(t, c, lastWords)
				leave(t, c)
				close(gate)
				if kind.then != nil {
					kind.then(t, p)
				}
				kit.Await(t, p.Ended, how+": OnDisconnected")
				if got := int(p.Got.Load()); got != len(lastWords) {
					t.Errorf("%s: OnRecv got %d bytes, want %d; Err %v", how, got, len(lastWords), p.Err())
				}
			}
		}})
	}
	return append(list, promise{"E2c", "a session that is paused for good ends when its connection fails", 0, pausedForGood})
}

// Send fails at once (S7).
func pausedForGood(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: 300 * time.Millisecond}, kit.Hooks{
		Connected: func(p *kit.Session) { p.PauseRecv() },
		Recv:      func(*kit.Session, []byte) { t.Error("OnRecv of a paused session") },
	})
	c, p := s.connect()
	kit.Write(t, c, lastWords)
	kit.Must(t, c.Close())
	kit.Eventually(t, "Send fails", func() bool { return p.Send([]byte("x")) != nil })
	kit.WantError(t, "Send", p.Send([]byte("x")), session.ErrClosed)
	kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrPeerReset)
}
