package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// draining is what a session that ends owes a slow peer, and what it does not.
func draining() []promise {
	list := steadyPeers()
	for _, talks := range []bool{false, true} {
		says := "a peer that takes nothing is given up after DrainTimeout"
		if talks {
			says += ", though it talks"
		}
		list = append(list, promise{"E2b", says, resets, func(t testing.TB, v *Variant) { peerThatTakesNothing(t, v, talks) }})
	}
	list = append(list, promise{"E1", "a peer that has everything and talks is left after LingerTimeout", 0, talkerIsLeftAfterTheLinger})
	const soon = 300 * time.Millisecond
	for _, tt := range []struct {
		name string
		o    engine.Options
	}{
		{"HalfCloseTimeout", engine.Options{HalfCloseTimeout: soon}},
		{"IdleTimeout", engine.Options{IdleTimeout: soon}},
		{"HalfCloseTimeout, not IdleTimeout,", engine.Options{HalfCloseTimeout: soon, IdleTimeout: soon / 2}},
	} {
		list = append(list, promise{"E2d", tt.name + " ends a half-closed session that is not fed", 0,
			func(t testing.TB, v *Variant) { halfClosedSessionIsNotHeldForEver(t, v, tt.o, soon) }})
	}
	return list
}

// readSlowly reads in small pieces to the end, and writes something meanwhile if it talks. It returns how much came, and whether the machine has let it
// read about as fast as it meant to, and without a long pause.
func readSlowly(c net.Conn, every time.Duration, talks bool) (n int, steady bool, err error) {
	buf := make([]byte, 5<<10)
	began := time.Now()
	longest, last := time.Duration(0), began
	for reads := time.Duration(1); ; reads++ {
		time.Sleep(every) // the reader's slowness is the subject
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
		steady = now.Sub(began) < reads*every*3/2 && longest < 4*every
		if talks {
			if _, err := c.Write([]byte("x")); err != nil {
				return n, steady, fmt.Errorf("talking: %w", err)
			}
		}
		got, err := io.ReadFull(c, buf) // a Read may bring no more than a packet
		if n += got; err == io.EOF || err == io.ErrUnexpectedEOF {
			return n, steady, nil
		} else if err != nil {
			return n, steady, err
		}
	}
}

// steadyPeers get everything, far beyond DrainTimeout and LingerTimeout, whether they talk or not, and however the session ends. What the
// kernel has taken is not yet the peer's.
func steadyPeers() (list []promise) {
	for _, way := range []steadyEnd{
		{name: "Disconnect", end: func(_ *server, p *kit.Session) error { p.Disconnect(); return nil }, reason: session.ErrDisconnected},
		{name: "Shutdown", end: func(s *server, _ *kit.Session) error { return s.Shutdown(context.Background()) }, reason: session.ErrShutdown},
		{name: "the peer's FIN", end: func(*server, *kit.Session) error { return nil }, client: kit.CloseWrite, reason: session.ErrPeerClosed},
		{name: "CloseWrite and the peer's FIN", end: func(_ *server, p *kit.Session) error { p.CloseWrite(); return nil },
			client: kit.CloseWrite, reason: session.ErrPeerClosed},
		{name: "an idle timeout", end: func(_ *server, p *kit.Session) error { p.DisconnectWith(session.ErrIdle); return nil }, reason: session.ErrIdle},
	} {
		for _, buffer := range []int{0, 16 << 10} { // all of it in the kernel at once, and most of it in the queue
			for _, talks := range []bool{false, true} {
				if talks && way.client != nil {
					continue // it has finished
				}
				says := "a steady peer gets everything after " + way.name
				if buffer != 0 {
					says += ", from the queue"
				}
				if talks {
					says += ", though it talks"
				}
				list = append(list, promise{"E2b", says, 0, func(t testing.TB, v *Variant) {
					fault, steady := v.steadyPeer(t, way, buffer, talks)
					for tries := 1; fault != "" && !steady && tries < 3; tries++ { // the machine was too busy for a steady reader
						t.Logf("once more: %s", fault)
						fault, steady = v.steadyPeer(t, way, buffer, talks)
					}
					if fault != "" {
						t.Error(fault)
					}
				}})
			}
		}
	}
	return list
}

// steadyEnd is a way in which a session ends whose peer reads steadily.
type steadyEnd struct {
	name   string
	end    func(*server, *kit.Session) error
	client func(testing.TB, net.Conn)
	reason error
}

// steadyPeer ends a session in that way, and returns what was wrong with it, and whether its peer could read steadily.
func (v *Variant) steadyPeer(t testing.TB, way steadyEnd, buffer int, talks bool) (fault string, steady bool) {
	const size = 256 << 10 // 52 reads, 40 ms apart
	reply := kit.Pattern(size)
	linger := 200 * time.Millisecond
	if v.Client != nil { // a layer reads ahead of its reader
		linger *= 3
	}
	s := v.serve(t, engine.Options{DrainTimeout: 3 * time.Second / 2, LingerTimeout: linger, SendBuffer: buffer},
		kit.Hooks{Connected: func(p *kit.Session) { v.sendInPieces(t, p, reply) }})
	c, p := s.session(s.smallClient())
	p.Run(t, func() {}) // OnConnected has returned
	if way.client != nil {
		way.client(t, c)
	}
	ended := make(chan error, 1)
	go func() { ended <- way.end(s, p) }() // it may wait for the reader
	n, steady, err := readSlowly(c, 40*time.Millisecond, talks)
	_ = c.Close()
	kit.Must(t, kit.Await(t, ended, "the end"))
	kit.Await(t, p.Ended, "OnDisconnected")
	if unacked := s.Stats().Total.BytesUnacked; n != size || err != nil || !errors.Is(p.Err(), way.reason) || errors.Is(p.Err(), session.ErrDrainTimeout) || unacked > 0 {
		fault = fmt.Sprintf("the peer read %d of %d bytes, %v; Err %v, want %v; %d bytes not acknowledged", n, size, err, p.Err(), way.reason, unacked)
	}
	return fault, steady
}

// Err and the counters say that the peer has not got everything.
func peerThatTakesNothing(t testing.TB, v *Variant, talks bool) {
	s := v.serve(t, engine.Options{DrainTimeout: 300 * time.Millisecond, LingerTimeout: time.Minute},
		kit.Hooks{Connected: func(p *kit.Session) {
			kit.Must(t, p.Send(make([]byte, 256<<10)))
			p.Disconnect()
		}})
	c := s.smallClient()
	p := kit.Await(t, s.Arrivals, "OnConnected")
	began := time.Now()
	stop := make(chan struct{})
	if talks {
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					_, _ = c.Write([]byte("x"))
				}
			}
		}()
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	close(stop)
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	kit.WantError(t, "reason", p.Err(), session.ErrDisconnected, session.ErrDrainTimeout)
	kit.Eventually(t, "it is counted", func() bool {
		st := s.Stats().Total
		return st.Ended.DrainTimeout == 1 && st.BytesUnacked > 0 && st.BytesUnacked < st.BytesOut
	})
}

func talkerIsLeftAfterTheLinger(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: 200 * time.Millisecond}, kit.Hooks{Connected: func(p *kit.Session) {
		kit.Must(t, p.Send([]byte("bye")))
		p.Disconnect()
	}})
	c, p := s.connect()
	kit.Expect(t, c, "bye")
	began := time.Now()
	for running := true; running; {
		select {
		case <-p.Ended:
			running = false
		case <-time.After(10 * time.Millisecond):
			_, _ = c.Write([]byte("x"))
		}
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("left after %v", took)
	}
	if p.Err() != session.ErrDisconnected {
		t.Errorf("Err %v", p.Err())
	}
}

// halfOpen goes on after its peer's FIN.
type halfOpen struct {
	*kit.Session
	told chan struct{}
}

func (p *halfOpen) OnHalfClose() {
	defer p.Enter("OnHalfClose", kit.Open, kit.Open)()
	close(p.told)
}

// serveHalfOpen is serve with sessions that go on after their peers' FIN.
func (v *Variant) serveHalfOpen(t testing.TB, o engine.Options) (s *server, made <-chan *halfOpen) {
	t.Helper()
	w := kit.NewWatch(t, kit.Hooks{})
	c := make(chan *halfOpen, 1)
	s = v.prepareWith(t, o, w, func() session.Handler {
		p := &halfOpen{w.NewSession(), make(chan struct{})}
		c <- p
		return p
	})
	kit.Must(t, s.Start())
	return s, c
}

// One that is fed goes on.
func halfClosedSessionIsNotHeldForEver(t testing.TB, v *Variant, o engine.Options, soon time.Duration) {
	for range 3 {
		if v.feedHalfClosed(t, o, soon) {
			return
		}
	}
	t.Error("the machine has let a session starve three times")
}

// feedHalfClosed returns false if the session has had nothing for as long as it may, because the machine was busy.
func (v *Variant) feedHalfClosed(t testing.TB, o engine.Options, soon time.Duration) (fed bool) {
	t.Helper()
	s, made := v.serveHalfOpen(t, o)
	c := s.client()
	kit.CloseWrite(t, c)
	p := kit.Await(t, made, "the factory")
	kit.Await(t, p.told, "OnHalfClose")
	last := time.Now()
	for range 5 {
		time.Sleep(soon / 3)
		if err := p.Send([]byte("fed")); err != nil {
			since := time.Since(last)
			if since < soon {
				t.Errorf("Send: %v, %v after the session was fed", err, since)
			}
			return since < soon
		}
		last = time.Now()
		kit.Expect(t, c, "fed")
	}
	began := time.Now()
	kit.Await(t, p.Ended, "OnDisconnected")
	if took := time.Since(began); took < soon/2 {
		t.Errorf("ended %v after it was fed", took)
	}
	kit.WantError(t, "reason", p.Err(), session.ErrIdle)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %v, want the end", err)
	}
	return true
}
