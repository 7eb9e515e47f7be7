package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// tap keeps what it is told.
type tap struct {
	in, out []byte
	events  []string
}

func (p *tap) note(format string, args ...any) {
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

func (p *tap) Received(data []byte) { p.in = append(p.in, data...) }

func (p *tap) Sent(bufs [][]byte, n int) {
	for _, b := range bufs {
		b = b[:min(len(b), n)]
		p.out, n = append(p.out, b...), n-len(b)
	}
	if n != 0 {
		p.note("%d bytes that were not there", n)
	}
}

func (p *tap) PeerFinished()    { p.note("peer finished") }
func (p *tap) Finished()        { p.note("finished") }
func (p *tap) Broken(err error) { p.note("broken: %v", err) }
func (p *tap) Closed(reset bool, reason error) {
	p.note("closed, reset %v, %v", reset, errors.Is(reason, session.ErrPeerReset))
}

// V3: a tap is told what came, once and before the session has looked at it, what the kernel took, byte for byte, and the end.
func TestTap(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	for name, tt := range map[string]struct {
		act    func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn)
		in     string
		events string
	}{
		"the peer ends": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			mustSend(t, h, long)
			c.PeerWrite([]byte("question"))
			l.Run()
			c.PeerFIN()
		}, "question", "peer finished; closed, reset false, false"},
		"paused": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			h.PauseRecv()
			c.PeerWrite([]byte("question"))
			l.Run()
			h.ResumeRecv()
			l.Run()
			c.PeerFIN()
		}, "question", "peer finished; closed, reset false, false"},
		"we end, and it goes on": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			mustSend(t, h, long)
			h.Disconnect()
			l.Run()
			c.PeerWrite([]byte("late"))
			l.Run()
			c.PeerFIN()
		}, "late", "finished; peer finished; closed, reset false, false"},
		"abort": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			h.Abort()
		}, "", "closed, reset true, false"},
		"reset": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			c.PeerWrite([]byte("last"))
			l.Run()
			c.PeerReset(errors.New("gone"))
		}, "last", "broken: gone; closed, reset false, true"},
		"broken, and read to its end": {func(h *testkit.Handler, l *testkit.Loop, c *testkit.Conn) {
			h.PauseRecv()
			l.Run()
			c.PeerWrite([]byte("lost")) // it waits in the kernel, so the session goes on
			l.Inside(func() { c.Driver.Broken(errors.New("gone")) })
			l.Inside(func() { c.Driver.PeerClosed(nil) })
		}, "", "broken: gone; closed, reset false, true"},
	} {
		h, p := &testkit.Handler{}, new(tap)
		l := newLoop(t, session.Limits{Drain: time.Second, Linger: time.Second})
		c, err := l.Bind(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Driver.UseTap(p)
		c.MaxWrite = 7
		c.Connected()
		tt.act(h, l, c)
		l.Run()
		if string(p.out) != string(c.Wire) || string(p.in) != tt.in || strings.Join(p.events, "; ") != tt.events || !c.Ended {
			t.Errorf("%s: told of %d bytes out, of %d; in %q; %q, ended %v", name, len(p.out), len(c.Wire), p.in, p.events, c.Ended)
		}
	}
}
